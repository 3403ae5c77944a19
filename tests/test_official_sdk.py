"""The official SDK, unmodified, against our server: every entry point, every format; and ours by the same calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gradium
import numpy as np
import pytest

import speechwire.gradium
from harness import loopback_server
from speechwire.codec import Resampler, WavReader, WavWriter, alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines.local import LocalEngine
from test_cli import serving
from test_server import speech_like

FORMATS = ("pcm", "pcm_16000", "wav", "ulaw_8000", "alaw_8000")
INPUT_RATE = {"pcm": 24000, "pcm_16000": 16000, "wav": 48000, "ulaw_8000": 8000, "alaw_8000": 8000}
OUTPUT_RATE = INPUT_RATE | {"pcm": 48000}


def encode(samples: np.ndarray[Any, np.dtype[np.int16]], wire_format: str) -> bytes:
    pcm = samples.tobytes()
    if wire_format == "wav":
        return WavWriter(48000, data_bytes=len(pcm)).feed(pcm)
    return {"ulaw_8000": ulaw_encode, "alaw_8000": alaw_encode}.get(wire_format, bytes)(pcm)


def decode(audio: bytes, wire_format: str) -> np.ndarray[Any, np.dtype[np.int16]]:
    if wire_format == "wav":
        return np.frombuffer(WavReader().feed(audio), np.int16)
    return np.frombuffer({"ulaw_8000": ulaw_decode, "alaw_8000": alaw_decode}.get(wire_format, bytes)(audio), np.int16)


async def slices(data: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def buffered(client: Any, setup: dict[str, str], audio: bytes) -> bytes:
    result = await client.s2s(setup, audio)
    assert result.request_id
    return bytes(result.raw_data)


async def stream(client: Any, setup: dict[str, str], audio: bytes) -> bytes:
    opened = await client.s2s_stream(setup, slices(audio))
    out = b"".join([chunk async for chunk in opened.iter_audio()])
    assert [text.text for text in opened._text_with_timestamps]
    return out


async def realtime(client: Any, setup: dict[str, str], audio: bytes) -> bytes:
    out = []
    async with client.s2s_realtime(wait_for_ready_on_start=True, **setup) as s2s:
        assert s2s.ready["sample_rate"] == OUTPUT_RATE[setup["output_format"]]

        async def produce() -> None:
            async for chunk in slices(audio):
                await s2s.send_audio(chunk)
            await s2s.send_eos()

        producer = asyncio.create_task(produce())
        async for message in s2s:
            if message["type"] == "audio":
                out.append(message["audio"])
            elif message["type"] == "end_of_stream":
                break
        await producer
    return b"".join(out)


@pytest.mark.parametrize("sdk", [gradium, speechwire.gradium], ids=lambda sdk: sdk.__name__)
@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize("call", [buffered, stream, realtime], ids=lambda call: call.__name__)
def test_every_call_in_every_format(call: Any, input_format: str, output_format: str, sdk: Any) -> None:
    input_rate, output_rate = INPUT_RATE[input_format], OUTPUT_RATE[output_format]
    samples = speech_like(input_rate)

    async def main() -> bytes:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = sdk.client.GradiumClient(base_url=base_url, api_key="secret")
            setup = {"input_format": input_format, "output_format": output_format, "voice_id": "YTpq7expH9539ERJ"}
            async with asyncio.timeout(100):
                return bytes(await call(client, setup, encode(samples, input_format)))

    returned = decode(asyncio.run(main()), output_format)
    sent = decode(encode(samples, input_format), input_format)
    resampler = Resampler(input_rate, output_rate)
    expected = np.frombuffer(resampler.feed(sent.tobytes()) + resampler.flush(), np.int16)
    assert np.array_equal(returned, decode(encode(expected, output_format), output_format))


def test_official_sdk_is_told_that_its_key_is_wrong() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = gradium.client.GradiumClient(base_url=base_url, api_key="wrong")
            with pytest.raises(Exception, match="API key is revoked or expired"):
                await client.s2s({"input_format": "pcm", "output_format": "pcm", "voice_id": "v"}, bytes(3840))

    asyncio.run(main())


# --- synthesis and recognition

TEXT = ["Two seats,", "please. To", "Lyon"]
WORDS = ["Two", "seats,", "please.", "To", "Lyon"]
# Of the tones that the loopback engine speaks, each word to the end of a frame of 80 ms.
SECONDS = 0.16 + 0.24 + 0.32 + 0.16 + 0.24


def check_speech(audio: bytes, output_format: str, words: list[Any]) -> None:
    samples = decode(audio, output_format)
    assert len(samples) / OUTPUT_RATE[output_format] == pytest.approx(SECONDS)
    assert np.abs(samples.astype(int)).max() > 8000
    assert [word[0] for word in words] == WORDS
    assert all(start < stop for _, start, stop in words)
    loudness = np.abs(samples.astype(int))
    at = OUTPUT_RATE[output_format]
    for (_, start, stop), (_, following, _) in pairwise(words):
        assert loudness[int((start + 0.01) * at) : int((stop - 0.01) * at)].max() > 8000
        assert loudness[int((stop + 0.01) * at) : int(following * at)].max(initial=0) < 100


def triple(word: Any) -> tuple[str, float, float]:
    return word.text, word.start_s, word.stop_s


async def texts() -> AsyncIterator[str]:
    for text in TEXT:
        yield text
        await asyncio.sleep(0)


async def tts_buffered(client: Any, setup: dict[str, str]) -> tuple[bytes, list[Any]]:
    result = await client.tts(setup, TEXT)
    assert result.sample_rate == OUTPUT_RATE[setup["output_format"]]
    return result.raw_data, [triple(word) for word in result.text_with_timestamps]


async def tts_stream(client: Any, setup: dict[str, str]) -> tuple[bytes, list[Any]]:
    opened = await client.tts_stream(setup, texts())
    audio = b"".join([chunk async for chunk in opened.iter_bytes()])
    return audio, [triple(word) for word in opened._text_with_timestamps]


async def tts_realtime(client: Any, setup: dict[str, str]) -> tuple[bytes, list[Any]]:
    audio, words = [], []
    async with client.tts_realtime(wait_for_ready_on_start=True, **setup) as tts:
        for text in TEXT:
            await tts.send_text(text)
        await tts.send_eos()
        async for message in tts:
            if message["type"] == "audio":
                audio.append(message["audio"])
            elif message["type"] == "text":
                words.append((message["text"], message["start_s"], message["stop_s"]))
            elif message["type"] == "end_of_stream":
                break
    return b"".join(audio), words


@pytest.mark.parametrize("sdk", [gradium, speechwire.gradium], ids=lambda sdk: sdk.__name__)
@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("call", [tts_buffered, tts_stream, tts_realtime], ids=lambda call: call.__name__)
def test_every_call_speaks_in_every_format(call: Any, output_format: str, sdk: Any) -> None:
    async def main() -> tuple[bytes, list[Any]]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = sdk.client.GradiumClient(base_url=base_url, api_key="secret")
            async with asyncio.timeout(100):
                speech: tuple[bytes, list[Any]] = await call(
                    client, {"output_format": output_format, "voice_id": "YTpq7expH9539ERJ"}
                )
                return speech

    audio, words = asyncio.run(main())
    check_speech(audio, output_format, words)


def speech_in_two_parts(sample_rate: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    t = np.arange(int(sample_rate * 0.4)) / sample_rate
    part = np.concatenate([np.zeros(sample_rate // 5), 9000 * np.sin(2 * np.pi * 440 * t), np.zeros(sample_rate // 2)])
    return np.asarray(np.concatenate([part, part]), np.int16)


async def stt_buffered(client: Any, setup: dict[str, Any], audio: bytes) -> list[Any]:
    return [(word.text, word.start_s) for word in (await client.stt(setup, audio)).text_with_timestamps]


async def stt_stream(client: Any, setup: dict[str, Any], audio: bytes) -> list[Any]:
    opened = await client.stt_stream(setup, slices(audio))
    assert opened.delay_in_frames == 7
    return [(word.text, word.start_s) async for word in opened.iter_text()]


async def stt_realtime(client: Any, setup: dict[str, Any], audio: bytes) -> list[Any]:
    words: list[Any] = []
    async with client.stt_realtime(wait_for_ready_on_start=True, **setup) as stt:
        assert (stt.ready["sample_rate"], stt.ready["delay_in_frames"]) == (24000, 7)
        half = len(audio) // 2 // 4 * 4
        await stt.send_audio(audio[:half])
        await stt.send_flush(flush_id=5)
        steps = 0
        async for message in stt:
            if message["type"] == "text":
                words.append((message["text"], message["start_s"]))
            elif message["type"] == "flushed":
                # All that belongs to the audio before has been given out, without waiting for more.
                assert message["flush_id"] == 5
                assert [word for word, _ in words] == ["segment 1"]
                await stt.send_audio(audio[half:])
                await stt.send_eos()
            elif message["type"] == "step":
                assert message["step_idx"] == steps
                steps += 1
            elif message["type"] == "end_of_stream":
                break
        assert steps == 27
    return words


@pytest.mark.parametrize("sdk", [gradium, speechwire.gradium], ids=lambda sdk: sdk.__name__)
@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize("call", [stt_buffered, stt_stream, stt_realtime], ids=lambda call: call.__name__)
def test_every_call_recognises_every_format(call: Any, input_format: str, sdk: Any) -> None:
    audio = encode(speech_in_two_parts(INPUT_RATE[input_format]), input_format)

    async def main() -> list[Any]:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = sdk.client.GradiumClient(base_url=base_url, api_key="secret")
            async with asyncio.timeout(100):
                words: list[Any] = await call(
                    client, {"input_format": input_format, "json_config": {"delay_in_frames": 7}}, audio
                )
                return words

    words = asyncio.run(main())
    assert [word for word, _ in words] == ["segment 1", "segment 2"]
    assert [start for _, start in words] == pytest.approx([0.2, 1.3], abs=0.021)


@pytest.mark.parametrize("sdk", [gradium, speechwire.gradium], ids=lambda sdk: sdk.__name__)
def test_what_the_local_engine_says_it_understands(sdk: Any) -> None:
    sentence = "I want to buy a ticket for tomorrow."

    async def main() -> tuple[Any, Any]:
        async with serve(LocalEngine()) as address:
            client = sdk.client.GradiumClient(base_url=f"{address}/api/", api_key="k")
            async with asyncio.timeout(100):
                said = await client.tts({"output_format": "pcm_24000", "voice_id": "the usual"}, sentence)
                silence = bytes(24000)
                heard = await client.stt({"input_format": "pcm"}, silence + said.raw_data + silence)
                return said, heard

    said, heard = asyncio.run(main())
    assert [word.text for word in said.text_with_timestamps] == sentence.split()
    understood = set(heard.text.lower().strip("?.").split())
    assert len(understood & set(sentence.lower().strip(".").split())) >= 6, heard.text
    # Both clocks tell when a word was said: the second began half a second earlier.
    spoken = {word.text.lower().strip("."): word.start_s for word in said.text_with_timestamps}
    for word in heard.text_with_timestamps:
        name = word.text.lower().strip("?.")
        if name in spoken:
            assert word.start_s - 0.5 == pytest.approx(spoken[name], abs=0.35), name


def test_the_command_of_the_official_sdk_speaks_and_listens(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("gradium")
    wav = tmp_path / "speech.wav"
    with serving("--engine", "local") as (address, _):
        options = ["--gradium-base-url", f"{address}/api/", "--api-key", "k"]
        for command in (
            ["tts", "I want to buy a ticket for tomorrow.", "--voice-id", "the usual", "-o", str(wav)],
            ["stt", str(wav)],
        ):
            done = subprocess.run([program, *command, *options], capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr
        ours = GradiumClient(base_url=f"{address}/api/", api_key="k").sync.stt(
            {"input_format": "wav"}, wav.read_bytes()
        )
    # How well a synthetic voice is understood is not the matter here, but that both clients get all of it.
    assert done.stdout.split() == ours.text.split()
    assert {"want", "to", "buy"} <= set(done.stdout.lower().split())


def test_official_sdk_runs_several_requests_on_one_connection() -> None:
    async def main() -> dict[str, list[str]]:
        heard: dict[str, list[str]] = {"a": [], "b": []}
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = gradium.client.GradiumClient(base_url=base_url, api_key="secret")
            setup = {"output_format": "pcm", "close_ws_on_eos": False}
            async with client.tts_realtime(client_req_id="a", **setup) as tts:
                await tts.send_text("One", client_req_id="a")
                await tts.send_setup({**setup, "output_format": "ulaw_8000", "client_req_id": "b"})
                await tts.send_text("Other words.", client_req_id="b")
                await tts.send_eos(client_req_id="b")
                await tts.send_text("two.", client_req_id="a")
                await tts.send_eos(client_req_id="a")
                num_ended = 0
                async with asyncio.timeout(100):
                    async for message in tts:
                        if message["type"] == "text":
                            heard[message["client_req_id"]].append(message["text"])
                        num_ended += message["type"] == "end_of_stream"
                        if num_ended == 2:
                            return heard
        raise AssertionError("the connection ended first")

    assert asyncio.run(main()) == {"a": ["One", "two."], "b": ["Other", "words."]}
