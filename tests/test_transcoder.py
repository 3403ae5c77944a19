from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechwire import codec
from speechwire.codec import OggOpusReader, OggOpusWriter, Resampler, Transcoder, WavReader, WavWriter
from speechwire.errors import AudioError, ContainerError

SOURCES = ("pcm", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_48000", "wav", "opus", "ulaw_8000", "alaw_8000")
TARGETS = ("pcm", "pcm_8000", "pcm_24000", "pcm_44100", "wav", "opus", "ulaw_8000", "mulaw_8000", "alaw_8000")
SAMPLE_BYTES = {"ulaw_8000": 1, "mulaw_8000": 1, "alaw_8000": 1}


def noise(num_bytes: int) -> bytes:
    return np.random.default_rng(num_bytes).integers(0, 256, num_bytes).astype(np.uint8).tobytes()


def source_audio(source: str, num_samples: int) -> bytes:
    """Audio of a source; the WAV one is stereo at 44100 Hz, the Opus one mono at 48000 Hz."""
    if source == "opus":
        writer = OggOpusWriter(48000)
        return writer.feed(noise(2 * num_samples)) + writer.flush()
    if source == "wav":
        return WavWriter(44100, 2).feed(noise(4 * num_samples))
    return noise(SAMPLE_BYTES.get(source, 2) * num_samples)


def transcode(transcoder: Transcoder, *chunks: bytes) -> list[bytes]:
    return [*itertools.chain.from_iterable(map(transcoder.feed, chunks)), *transcoder.flush()]


@settings(max_examples=150)
@given(
    source=st.sampled_from(SOURCES),
    target=st.sampled_from(TARGETS),
    frame_ms=st.sampled_from([None, 2.5, 10, 20, 80]),
    num_samples=st.integers(0, 1500),
    cuts=st.lists(st.floats(0, 1), max_size=10),
)
def test_any_cut_gives_the_same_bytes(
    source: str, target: str, frame_ms: float | None, num_samples: int, cuts: list[float]
) -> None:
    if target == "pcm_44100" and frame_ms == 2.5:
        frame_ms = 20
    audio = source_audio(source, num_samples)
    transcoder = Transcoder(source, target, frame_ms)
    expected = transcode(transcoder, audio)
    positions = [0, *sorted(int(cut * len(audio)) for cut in cuts), len(audio)]
    frames = transcode(transcoder, *(audio[start:stop] for start, stop in itertools.pairwise(positions)))
    assert b"".join(frames) == b"".join(expected)
    if frame_ms is not None:
        assert frames == expected
    if frame_ms is not None and target != "opus":
        frame_bytes = transcoder.target_sample_rate * frame_ms / 1000 * SAMPLE_BYTES.get(target, 2)
        body = frames[1:] if target == "wav" else frames
        assert {len(frame) for frame in body[:-1]} <= {frame_bytes}
        assert all(0 < len(frame) <= frame_bytes for frame in body)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_whole_length_is_the_input_and_the_delay(source: str, target: str) -> None:
    num_samples = 777
    transcoder = Transcoder(source, target)
    output = b"".join(transcoder.feed(source_audio(source, num_samples)))
    source_rate, target_rate = transcoder.source_sample_rate, transcoder.target_sample_rate
    assert source_rate is not None
    delay_samples = round(transcoder.delay_ms * target_rate / 1000)
    output += b"".join(transcoder.flush())
    num_outputs = math.ceil(num_samples * target_rate / source_rate) + delay_samples
    if target == "opus":
        assert len(OggOpusReader().feed(output)) == num_outputs * 2
        return
    assert len(output) == num_outputs * SAMPLE_BYTES.get(target, 2) + (44 if target == "wav" else 0)


@pytest.mark.parametrize(
    ("source", "target"),
    [("pcm_16000", "pcm_16000"), ("pcm_48000", "pcm"), ("ulaw_8000", "mulaw_8000"), ("alaw_8000", "alaw_8000")],
)
def test_equal_formats_pass_through(source: str, target: str) -> None:
    transcoder = Transcoder(source, target)
    audio = noise(1000)
    assert transcoder.delay_ms == 0
    assert b"".join(transcode(transcoder, audio[:333], audio[333:])) == audio


def test_laws_convert_directly() -> None:
    codes = bytes(range(256))
    assert transcode(Transcoder("ulaw_8000", "alaw_8000"), codes) == [codec.ulaw_to_alaw(codes)]
    assert transcode(Transcoder("alaw_8000", "mulaw_8000"), codes) == [codec.alaw_to_ulaw(codes)]
    assert Transcoder("ulaw_8000", "alaw_8000").delay_ms == 0


def test_chain_equals_its_parts() -> None:
    codes = noise(1600)
    resampler = Resampler(8000, 24000)
    expected = resampler.feed(codec.ulaw_decode(codes)) + resampler.flush()
    assert b"".join(transcode(Transcoder("ulaw_8000", "pcm_24000", 80), codes)) == expected
    audio = noise(9600)
    resampler = Resampler(24000, 8000)
    expected = codec.alaw_encode(resampler.feed(audio) + resampler.flush())
    assert b"".join(transcode(Transcoder("pcm", "alaw_8000", 20), audio)) == expected
    assert Transcoder("pcm", "alaw_8000").delay_ms == resampler.delay_ms


def test_frames_are_answered_with_frames() -> None:
    transcoder = Transcoder("ulaw_8000", "pcm_24000", 20)
    for _ in range(5):
        assert [len(frame) for frame in transcoder.feed(b"\xff" * 160)] == [960]


def test_bare_pcm_is_named_from_the_side_of_the_service() -> None:
    transcoder = Transcoder("pcm", "pcm")
    assert (transcoder.source_sample_rate, transcoder.target_sample_rate) == (24000, 48000)


def test_wav_target_starts_with_its_header() -> None:
    transcoder = Transcoder("pcm_48000", "wav", 20)
    assert transcoder.feed(b"") == [WavWriter(48000).header]
    assert transcoder.feed(bytes(1920)) == [bytes(1920)]
    assert transcoder.flush() == []
    assert transcoder.flush() == [WavWriter(48000).header]


def test_wav_source_tells_its_rate() -> None:
    transcoder = Transcoder("wav", "pcm_8000")
    stream = WavWriter(44100).feed(bytes(882))
    transcoder.feed(stream[:43])
    assert (transcoder.source_sample_rate, transcoder.delay_ms) == (None, 0.0)
    transcoder.feed(stream[43:])
    assert transcoder.source_sample_rate == 44100
    assert transcoder.delay_ms == Resampler(44100, 8000).delay_ms
    transcoder.reset()
    assert transcoder.source_sample_rate is None


@pytest.mark.parametrize("encoding", ["ulaw", "alaw", "ima_adpcm"])
def test_wav_source_of_any_encoding_is_what_the_reader_reads(encoding: Literal["ulaw", "alaw", "ima_adpcm"]) -> None:
    pcm = noise(3000)
    writer = WavWriter(8000, data_bytes=len(pcm), encoding=encoding)
    stream = writer.feed(pcm) + writer.flush()
    transcoder = Transcoder("wav", "pcm_8000")
    chunks = [stream[start : start + 7] for start in range(0, len(stream), 7)]
    output = b"".join(b"".join(transcoder.feed(chunk)) for chunk in chunks) + b"".join(transcoder.flush())
    assert output == WavReader().feed(stream)
    assert len(output) == len(pcm)


def test_channels_of_a_wav_source_are_averaged() -> None:
    pairs = np.array([[100, 200], [-32768, -32768], [32767, 32767], [1, 2], [3, 2], [-1, 0]], np.int16)
    stream = WavWriter(48000, 2).feed(pairs)
    (output,) = transcode(Transcoder("wav", "pcm"), stream)
    assert np.frombuffer(output, np.int16).tolist() == [150, -32768, 32767, 2, 2, 0]


def test_reset_forgets_the_stream() -> None:
    transcoder = Transcoder("pcm_8000", "pcm_16000", 20)
    audio = noise(1001)
    transcoder.feed(audio)
    transcoder.reset()
    assert transcoder.flush() == []
    assert transcode(transcoder, audio[:1000]) == transcode(Transcoder("pcm_8000", "pcm_16000", 20), audio[:1000])


def test_half_a_sample_at_the_end_is_refused() -> None:
    transcoder = Transcoder("pcm_8000", "ulaw_8000")
    transcoder.feed(bytes(5))
    with pytest.raises(AudioError, match=r"^expected whole samples of 2 bytes, got 5 bytes$"):
        transcoder.flush()
    assert b"".join([*transcoder.feed(b"\0"), *transcoder.flush()]) == b"\xff"


def test_wav_source_that_ends_early_is_refused() -> None:
    transcoder = Transcoder("wav", "pcm")
    with pytest.raises(ContainerError, match="got the end of the stream after 0 bytes"):
        transcoder.flush()
    transcoder.feed(WavWriter(8000, data_bytes=10).feed(bytes(4)))
    with pytest.raises(ContainerError, match=r"^expected 10 bytes of data, got 4 bytes$"):
        transcoder.flush()


def test_wav_source_of_an_impossible_rate_is_refused() -> None:
    header = bytearray(WavWriter(8000).header)
    header[24:28] = (500).to_bytes(4, "little")
    with pytest.raises(AudioError, match=r"^expected a sample rate of 1000 to 384000 Hz, got 500$"):
        Transcoder("wav", "pcm").feed(bytes(header))


@pytest.mark.parametrize("name", ["", "flac", "PCM", "pcm_", "pcm_08000", "pcm_+8000", "ulaw_16000", "wav_48000"])
def test_unknown_formats_list_the_known_ones(name: str) -> None:
    text = (
        "expected a format of pcm, pcm_8000, pcm_16000, pcm_22050, pcm_24000, pcm_44100, pcm_48000, wav, opus, "
        f'ulaw_8000, mulaw_8000, alaw_8000, got "{name}"'
    )
    for source, target in ((name, "pcm"), ("pcm", name)):
        with pytest.raises(AudioError) as caught:
            Transcoder(source, target)
        assert str(caught.value) == text


@pytest.mark.parametrize("frame_ms", [0, -20, 0.01, 15, 60_001, math.nan, math.inf])
def test_frame_has_to_be_whole_samples(frame_ms: float) -> None:
    with pytest.raises(
        AudioError, match=r"^expected a frame of 1 or more whole samples up to 60 s, got .* at 22050 Hz\)$"
    ):
        Transcoder("pcm", "pcm_22050", frame_ms)
