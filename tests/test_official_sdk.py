"""The official SDK, unmodified, against our server: every entry point, every format; and ours by the same calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradium
import numpy as np
import pytest

import speechwire.gradium
from harness import loopback_server
from speechwire.codec import Resampler, WavReader, WavWriter, alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
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
            async with asyncio.timeout(20):
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
