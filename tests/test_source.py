"""From what applications hold to what the wire wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.codec import ulaw_encode
from speechwire.errors import AudioError
from speechwire.source import AudioConverter, Pacer, iterate_audio, pace

RAMP = np.arange(-2000, 2000, dtype=np.int16)


@given(cuts=st.lists(st.integers(0, 8000), max_size=6))
def test_bytes_pass_whole_samples_at_any_cut(cuts: list[int]) -> None:
    data = RAMP.tobytes()
    converter = AudioConverter("pcm_24000")
    edges = [0, *sorted(cuts), len(data)]
    chunks = [converter.feed(data[a:b]) for a, b in pairwise(edges)]
    assert all(len(chunk) % 2 == 0 for chunk in chunks)
    assert b"".join(chunks) + converter.flush() == data


def test_arrays_become_little_endian_samples() -> None:
    converter = AudioConverter("pcm_24000")
    assert converter.feed(RAMP) == RAMP.astype("<i2").tobytes()
    assert converter.feed(RAMP.astype(">i2")) == RAMP.astype("<i2").tobytes()
    assert converter.feed(RAMP[::2]) == RAMP[::2].tobytes()


def test_float_arrays_saturate() -> None:
    converter = AudioConverter("pcm_24000")
    samples = np.array([0.0, 1.0, -1.0, 2.0, np.nan, 0.5], np.float32)
    expected = np.array([0, 32767, -32768, 32767, 0, 16384], np.int16)
    assert converter.feed(samples) == expected.tobytes()


def test_another_sample_rate_is_resampled() -> None:
    converter = AudioConverter("pcm_24000", sample_rate=48000)
    out = converter.feed(np.zeros(4800, np.int16)) + converter.flush()
    assert 2400 <= len(out) // 2 <= 2400 + 24000 // 100


def test_another_format_is_transcoded() -> None:
    converter = AudioConverter("pcm_8000", source_format="ulaw_8000")
    assert converter.feed(ulaw_encode(bytes(320))) == bytes(320)


def test_a_format_and_a_rate_are_one_too_many() -> None:
    with pytest.raises(AudioError, match="got both: 'ulaw_8000' and 8000"):
        AudioConverter("pcm_24000", source_format="ulaw_8000", sample_rate=8000)


def test_an_array_cannot_be_mu_law() -> None:
    with pytest.raises(AudioError, match="only be sent when the input is pcm, got 'ulaw_8000'"):
        AudioConverter("ulaw_8000").feed(RAMP)


def test_pacer_keeps_an_absolute_schedule() -> None:
    pacer = Pacer()
    assert pacer.wait_s(0.08, now_s=100.0) == 0.0
    assert pacer.wait_s(0.08, now_s=100.0) == pytest.approx(0.08)
    assert pacer.wait_s(0.08, now_s=100.3) == 0.0  # late
    assert pacer.wait_s(0.08, now_s=100.3) == 0.0  # still catching up: due at 100.24
    assert pacer.wait_s(0.08, now_s=100.3) == pytest.approx(0.02)


def collect(chunks: AsyncGenerator[Any, None]) -> list[bytes]:
    async def main() -> list[bytes]:
        return [bytes(chunk) async for chunk in chunks]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("audio_format", "frame_bytes"), [("pcm_24000", 3840), ("ulaw_8000", 640), ("wav", 8192), ("opus", 8192)]
)
def test_a_whole_buffer_is_cut_into_frames(audio_format: str, frame_bytes: int) -> None:
    data = bytes(range(256)) * 80
    chunks = collect(iterate_audio(data, audio_format))
    assert b"".join(chunks) == data
    assert {len(chunk) for chunk in chunks[:-1]} == {frame_bytes}


def test_pacing_cuts_frames_and_sends_the_rest() -> None:
    async def source() -> AsyncGenerator[bytes, None]:
        yield bytes(7000)
        yield bytes(1000)

    assert [len(chunk) for chunk in collect(pace(source(), "pcm_24000"))] == [3840, 3840, 320]


@pytest.mark.parametrize("container", ["wav", "opus"])
def test_a_container_cannot_be_paced(container: str) -> None:
    async def source() -> AsyncGenerator[bytes, None]:
        yield b""

    with pytest.raises(AudioError, match="needs a raw input_format, got '" + container):
        collect(pace(source(), container))
