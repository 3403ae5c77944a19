"""The example for pipecat against the real package, beside what pipecat does itself."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import warnings
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from speechwire import codec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # pipecat uses audioop
    pytest.importorskip("pipecat", reason="make .venv/.dev installs it")
    frames = importlib.import_module("pipecat.frames.frames")
    base_resampler = importlib.import_module("pipecat.audio.resamplers.base_audio_resampler")
    frame_processor = importlib.import_module("pipecat.processors.frame_processor")
    twilio = importlib.import_module("pipecat.serializers.twilio")
    pipecat_codecs = importlib.import_module("pipecat_codecs")

STREAM = "MZ0123456789abcdef0123456789abcdef"
OURS, THEIRS = pipecat_codecs.TwilioSerializer, twilio.TwilioFrameSerializer
FRAMES = 50

Samples = NDArray[np.float64]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def make(serializer_class: Any, pipeline_rate: int = 24000) -> Any:
    """Make a serializer the way a transport does."""
    serializer = serializer_class(STREAM, params=serializer_class.InputParams(auto_hang_up=False))
    setup = frame_processor.FrameProcessorSetup(
        clock=None, task_manager=None, pipeline_worker=None, audio_in_sample_rate=pipeline_rate
    )
    run(serializer.setup(setup))
    return serializer


def media(codes: bytes) -> str:
    return json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": base64.b64encode(codes).decode()}})


def codes_in(message: str | None) -> bytes:
    return base64.b64decode(json.loads(message)["media"]["payload"]) if message is not None else b""


def audio_frame(pcm: bytes, sample_rate: int) -> Any:
    return frames.OutputAudioRawFrame(audio=pcm, sample_rate=sample_rate, num_channels=1)


def pulse(sample_rate: int, at_s: float, seconds: float) -> bytes:
    time_s = np.arange(round(sample_rate * seconds)) / sample_rate
    samples: Samples = np.rint(16000 * np.exp(-(((time_s - at_s) / 0.0005) ** 2) / 2))
    return samples.astype("<i2").tobytes()


def centre_s(pcm: bytes, sample_rate: int) -> float:
    energy = np.frombuffer(pcm, "<i2").astype(float) ** 2
    return float(np.sum(energy * np.arange(len(energy))) / np.sum(energy)) / sample_rate


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def receive(serializer: Any, codes: bytes) -> list[Any]:
    return [await serializer.deserialize(media(frame)) for frame in cut(codes, 160)]


async def send(serializer: Any, pcm: bytes, sample_rate: int) -> list[bytes]:
    chunks = cut(pcm, sample_rate // 50 * 2)
    return [codes_in(await serializer.serialize(audio_frame(chunk, sample_rate))) for chunk in chunks]


@pytest.mark.parametrize("pipeline_rate", [8000, 16000, 24000, 48000])
def test_every_message_is_answered_with_a_frame_of_its_duration(pipeline_rate: int) -> None:
    received = run(receive(make(OURS, pipeline_rate), codec.ulaw_encode(pulse(8000, 0.5, 1.0))))
    assert [type(frame).__name__ for frame in received] == ["InputAudioRawFrame"] * FRAMES
    assert {len(frame.audio) for frame in received} == {pipeline_rate // 50 * 2}
    assert {(frame.sample_rate, frame.num_channels) for frame in received} == {(pipeline_rate, 1)}


@pytest.mark.parametrize("pipeline_rate", [8000, 16000, 24000, 48000])
def test_every_frame_becomes_a_message_of_its_duration(pipeline_rate: int) -> None:
    sent = run(send(make(OURS, pipeline_rate), pulse(pipeline_rate, 0.5, 1.0), pipeline_rate))
    assert [len(codes) for codes in sent] == [160] * FRAMES


def test_pipecat_itself_answers_many_frames_with_nothing_and_is_late() -> None:
    codes, pcm = codec.ulaw_encode(pulse(8000, 0.5, 1.0)), pulse(24000, 0.5, 1.0)
    received = run(receive(make(THEIRS), codes))
    assert sum(frame is None for frame in received) > FRAMES / 2
    sent = run(send(make(THEIRS), pcm, 24000))
    assert sum(message == b"" for message in sent) > FRAMES / 2
    # What has gone in and not come out, in the mean over the second half; ours is the delay of the filter.
    theirs = mean_lag_ms([len(frame.audio) / 48 if frame else 0.0 for frame in received], 0.0)
    ours = make(OURS)
    lag = mean_lag_ms([len(frame.audio) / 48 for frame in run(receive(ours, codes))], ours.input_resampler.delay_ms)
    assert lag == 5.875
    assert theirs > 8 * lag


def mean_lag_ms(durations_ms: list[float], delay_ms: float) -> float:
    behind_ms = 20 * np.arange(1, len(durations_ms) + 1) - np.cumsum(durations_ms) + delay_ms
    return float(np.mean(behind_ms[len(durations_ms) // 2 :]))


def test_delay_is_known_in_both_directions() -> None:
    serializer = make(OURS)
    received = run(receive(serializer, codec.ulaw_encode(pulse(8000, 0.5, 1.0))))
    arrived_s = centre_s(b"".join(frame.audio for frame in received), 24000)
    assert 1000 * (arrived_s - 0.5) == pytest.approx(serializer.input_resampler.delay_ms, abs=0.05)
    sent = run(send(serializer, pulse(24000, 0.5, 1.0), 24000))
    arrived_s = centre_s(codec.ulaw_decode(b"".join(sent)), 8000)
    assert 1000 * (arrived_s - 0.5) == pytest.approx(serializer.output_resampler.delay_ms, abs=0.05)


def test_end_of_the_last_word_is_sent() -> None:
    pcm = pulse(24000, 0.997, 1.0)

    async def call(serializer: Any) -> bytes:
        return b"".join([*await send(serializer, pcm, 24000), codes_in(await serializer.serialize(frames.EndFrame()))])

    ours, theirs = make(OURS), make(THEIRS)
    codes = run(call(ours))
    delay = round(8 * ours.output_resampler.delay_ms)
    assert len(codes) == 8000 + delay
    assert centre_s(codec.ulaw_decode(codes[delay:]), 8000) == pytest.approx(0.997, abs=0.0005)
    assert len(run(call(theirs))) < 8000 - 160


def test_pause_throws_nothing_away() -> None:
    pcm = pulse(24000, 0.197, 0.2)

    async def call(serializer: Any) -> bytes:
        before = await send(serializer, pcm, 24000)
        await asyncio.sleep(0.25)
        return b"".join([*before, *await send(serializer, bytes(9600), 24000)])

    assert peak(run(call(make(OURS)))) == pytest.approx(16000, rel=0.05)
    assert peak(run(call(make(THEIRS)))) < 1000


def peak(codes: bytes) -> int:
    return int(np.max(np.abs(np.frombuffer(codec.ulaw_decode(codes), "<i2").astype(int))))


def test_ulaw_is_that_of_the_itu() -> None:
    pcm = np.arange(-32768, 32768).astype("<i2").tobytes()
    ours = codes_in(run(make(OURS).serialize(audio_frame(pcm, 8000))))
    theirs = codes_in(run(make(THEIRS).serialize(audio_frame(pcm, 8000))))
    assert ours == codec.ulaw_encode(pcm)
    assert ours[32767] == 0x7F
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 508
    received = run(receive(make(OURS, 8000), bytes(range(160))))
    assert received[0].audio == codec.ulaw_decode(bytes(range(160)))


def test_silence_stays_silence() -> None:
    assert set(b"".join(run(send(make(OURS), bytes(48000), 24000)))) == {0xFF}


def test_interruption_clears_at_twilio_and_here() -> None:
    serializer = make(OURS)
    run(send(serializer, pulse(24000, 0.019, 0.02), 24000))
    assert json.loads(run(serializer.serialize(frames.InterruptionFrame()))) == {"event": "clear", "streamSid": STREAM}
    assert set(b"".join(run(send(serializer, bytes(960), 24000)))) == {0xFF}


@pytest.mark.parametrize("data", ["{", '{"event":"start"}', '{"event":"media","media":{}}', '{"event":"mark"}'])
def test_all_else_is_left_to_pipecat(data: str) -> None:
    assert run(make(OURS).deserialize(data)) is None


def test_keys_are_left_to_pipecat() -> None:
    frame = run(make(OURS).deserialize('{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"5"}}'))
    assert isinstance(frame, frames.InputDTMFFrame)


def test_resampler_is_one_of_pipecats() -> None:
    resampler = pipecat_codecs.StreamResampler("low_latency")
    assert isinstance(resampler, base_resampler.BaseAudioResampler)
    assert resampler.delay_ms == 0.0
    assert run(resampler.flush()) == b""
    assert run(resampler.resample(b"ab", 8000, 8000)) == b"ab"
    first = run(resampler.resample(bytes(320), 8000, 24000))
    assert len(first) == 960
    assert resampler.delay_ms == 2.875
    assert len(run(resampler.flush())) == 2 * round(24 * 2.875)
    with pytest.raises(ValueError, match=r"^expected 8000 to 24000 Hz, got 8000 to 16000 Hz$"):
        run(resampler.resample(bytes(320), 8000, 16000))
