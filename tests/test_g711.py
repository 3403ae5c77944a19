from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from speechwire import codec
from speechwire.errors import AudioError

SAMPLES = np.arange(-32768, 32768).astype(np.int32)
CODES = np.arange(256).astype(np.int32)

Array = NDArray[Any]


def magnitude(samples: Array) -> Array:
    """G.191 takes the one's complement of a negative sample."""
    result: Array = np.where(samples < 0, -samples - 1, samples)
    return result


def ulaw_codes(samples: Array) -> Array:
    """G.711 table 2a: the threshold of each of the 8 segments and 16 steps, looked up instead of computed."""
    thresholds = np.array(
        [(32 << segment) + (step << (segment + 1)) - 33 for segment in range(8) for step in range(16)]
    )
    values = magnitude(samples) // 4
    position = np.searchsorted(thresholds, values, side="right") - 1
    return np.where(samples >= 0, 255 - position, 127 - position).astype(np.uint8)


def alaw_codes(samples: Array) -> Array:
    """G.711 table 1a: two linear segments of 32 steps in all, then each segment doubles the step."""
    linear = list(range(32))
    thresholds = np.array(linear + [(16 + step) << segment for segment in range(1, 7) for step in range(16)])
    values = magnitude(samples) // 16
    position = np.searchsorted(thresholds, values, side="right") - 1
    return ((position + np.where(samples >= 0, 128, 0)) ^ 0x55).astype(np.uint8)


def ulaw_levels(codes: Array) -> Array:
    inverted = 255 - codes
    segment, step = inverted // 16 % 8, inverted % 16
    level: Array = (2 * step + 33) * 2**segment - 33
    result: Array = np.where(codes >= 128, 4 * level, -4 * level).astype(np.int16)
    return result


def alaw_levels(codes: Array) -> Array:
    inverted = codes ^ 0x55
    segment, step = inverted // 16 % 8, inverted % 16
    level = np.where(segment == 0, 2 * step + 1, (2 * step + 33) * 2.0 ** (segment - 1)).astype(np.int32)
    return np.where(inverted >= 128, 8 * level, -8 * level).astype(np.int16)


def pcm(samples: Array) -> bytes:
    return samples.astype("<i2").tobytes()


def codes_of(encode: Callable[[bytes], bytes], samples: Array) -> Array:
    return np.frombuffer(encode(pcm(samples)), np.uint8)


def test_encoders_follow_the_tables_of_g711_on_every_sample() -> None:
    np.testing.assert_array_equal(codes_of(codec.ulaw_encode, SAMPLES), ulaw_codes(SAMPLES))
    np.testing.assert_array_equal(codes_of(codec.alaw_encode, SAMPLES), alaw_codes(SAMPLES))


def test_decoders_follow_the_tables_of_g711_on_every_code() -> None:
    codes = CODES.astype(np.uint8).tobytes()
    assert codec.ulaw_decode(codes) == pcm(ulaw_levels(CODES))
    assert codec.alaw_decode(codes) == pcm(alaw_levels(CODES))


def test_smallest_negative_sample_is_negative_zero() -> None:
    assert codec.ulaw_encode(pcm(np.array([-1, 0]))) == b"\x7f\xff"
    assert codec.alaw_encode(pcm(np.array([-1, 0]))) == b"\x55\xd5"


def test_direct_conversion_equals_decoding_and_encoding() -> None:
    codes = bytes(range(256))
    assert codec.ulaw_to_alaw(codes) == codec.alaw_encode(codec.ulaw_decode(codes))
    assert codec.alaw_to_ulaw(codes) == codec.ulaw_encode(codec.alaw_decode(codes))


def test_audioop_agrees_but_for_its_508_negative_thresholds_in_ulaw() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop")
    audio, codes = pcm(SAMPLES), bytes(range(256))
    assert codec.alaw_encode(audio) == audioop.lin2alaw(audio, 2)
    assert codec.alaw_decode(codes) == audioop.alaw2lin(codes, 2)
    assert codec.ulaw_decode(codes) == audioop.ulaw2lin(codes, 2)
    ours = codes_of(codec.ulaw_encode, SAMPLES).astype(int)
    theirs = np.frombuffer(audioop.lin2ulaw(audio, 2), np.uint8).astype(int)
    differs = ours != theirs
    assert int(differs.sum()) == 508
    assert bool((SAMPLES[differs] < 0).all())
    assert set((ours - theirs)[differs].tolist()) == {1}


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 160, 4097, 100_000])
def test_length_and_alignment_do_not_matter(length: int) -> None:
    samples = np.random.default_rng(length).integers(-32768, 32768, length)
    expected = ulaw_codes(samples).tobytes()
    assert codec.ulaw_encode(pcm(samples)) == expected
    assert codec.ulaw_encode(memoryview(b"x" + pcm(samples))[1:]) == expected
    assert codec.ulaw_decode(expected) == pcm(ulaw_levels(ulaw_codes(samples).astype(np.int32)))


@pytest.mark.parametrize("encode", [codec.ulaw_encode, codec.alaw_encode])
def test_half_a_sample_is_refused(encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(AudioError, match=r"^expected whole samples of 2 bytes, got 3 bytes$"):
        encode(b"\0\0\0")
