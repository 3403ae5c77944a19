from __future__ import annotations

import io
import struct
import wave
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speechwire import codec
from speechwire.codec import WavReader, WavWriter
from speechwire.errors import AudioError, ContainerError

SAMPLES = np.concatenate([[-32768, -1, 0, 1, 32767], np.random.default_rng(2).integers(-32768, 32768, 95)])
SUB_FORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(
    data: bytes,
    *,
    tag: int = 1,
    num_channels: int = 1,
    sample_rate: int = 8000,
    bits: int = 16,
    extensible: bool = False,
) -> bytes:
    block = num_channels * bits // 8
    layout = struct.pack("<HIIHH", num_channels, sample_rate, sample_rate * block, block, bits)
    if extensible:
        layout = struct.pack("<H", 0xFFFE) + layout + struct.pack("<HHIH", 22, bits, 0, tag) + SUB_FORMAT_TAIL
    else:
        layout = struct.pack("<H", tag) + layout
    body = b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def read(stream: bytes) -> bytes:
    reader = WavReader()
    pcm = reader.feed(stream)
    reader.close()
    return pcm


def scipy_file(data: NDArray[Any], sample_rate: int = 16000) -> bytes:
    file = io.BytesIO()
    scipy.io.wavfile.write(file, sample_rate, data)
    return file.getvalue()


def wave_file(data: bytes, sample_width: int, num_channels: int = 1, sample_rate: int = 16000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((num_channels, sample_width, sample_rate, 0, "NONE", "not compressed"))
        writer.writeframes(data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (SAMPLES.astype(np.int16), 16),
        ((SAMPLES << 16).astype(np.int32), 32),
        ((SAMPLES / 32768).astype(np.float32), 32),
        (SAMPLES / 32768, 64),
    ],
)
def test_files_of_scipy_are_read(data: NDArray[Any], bits: int) -> None:
    reader = WavReader()
    pcm = reader.feed(scipy_file(data))
    reader.close()
    assert np.frombuffer(pcm, np.int16).tolist() == SAMPLES.tolist()
    assert (reader.sample_rate, reader.num_channels, reader.bits_per_sample) == (16000, 1, bits)
    assert reader.num_samples == len(SAMPLES)


def test_8_bit_files_of_scipy_are_read() -> None:
    data = np.arange(256).astype(np.uint8)
    assert np.frombuffer(read(scipy_file(data)), np.int16).tolist() == ((np.arange(256) - 128) * 256).tolist()


def test_24_bit_files_of_wave_are_rounded() -> None:
    values = np.array([0, 1, 127, 128, 129, 384, -128, -129, -384, 0x7FFFFF, -0x800000])
    data = b"".join(int(value).to_bytes(3, "little", signed=True) for value in values)
    expected = np.clip(np.rint(values / 256), -32768, 32767)
    assert np.frombuffer(read(wave_file(data, 3)), np.int16).tolist() == expected.tolist()


@pytest.mark.parametrize("num_channels", [1, 2, 3, 8])
def test_channels_stay_interleaved(num_channels: int) -> None:
    data = SAMPLES[: 12 * num_channels].astype("<i2").tobytes()
    reader = WavReader()
    assert reader.feed(wave_file(data, 2, num_channels)) == data
    assert (reader.num_channels, reader.num_samples) == (num_channels, 12)


@pytest.mark.parametrize(("tag", "decode"), [(7, codec.ulaw_decode), (6, codec.alaw_decode)])
@pytest.mark.parametrize("extensible", [False, True])
def test_g711_is_decoded(tag: int, decode: Any, extensible: bool) -> None:
    codes = bytes(range(256))
    assert read(wav(codes, tag=tag, bits=8, extensible=extensible)) == decode(codes)


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_extensible_equals_plain(tag: int, bits: int) -> None:
    data = np.random.default_rng(4).integers(0, 256, 240).astype(np.uint8).tobytes()
    assert read(wav(data, tag=tag, bits=bits, extensible=True)) == read(wav(data, tag=tag, bits=bits))


def test_stream_is_cut_at_every_byte() -> None:
    body = b"WAVE" + chunk(b"LIST", b"odd") + wav(b"\1\2\3\4\5\6\7\x08", num_channels=2)[12:] + chunk(b"id3 ", b"tail")
    stream = b"RIFF" + struct.pack("<I", len(body)) + body
    for position in range(len(stream) + 1):
        reader = WavReader()
        pcm = reader.feed(stream[:position]) + reader.feed(stream[position:])
        reader.close()
        assert pcm == b"\1\2\3\4\5\6\7\x08"
    reader = WavReader()
    assert b"".join(reader.feed(bytes([byte])) for byte in stream) == b"\1\2\3\4\5\6\7\x08"


def test_attributes_wait_for_the_whole_header() -> None:
    stream = wav(b"\0\0")
    reader = WavReader()
    reader.feed(stream[:43])
    assert (reader.sample_rate, reader.num_channels, reader.bits_per_sample, reader.num_samples) == (None,) * 4
    reader.feed(stream[43:])
    assert (reader.sample_rate, reader.num_channels, reader.bits_per_sample, reader.num_samples) == (8000, 1, 16, 1)


@pytest.mark.parametrize("size", [0, 0x7FFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
def test_unknown_size_goes_on_until_the_end(size: int) -> None:
    stream = wav(b"")[:-4] + struct.pack("<I", size)
    reader = WavReader()
    assert reader.feed(stream + b"\1\2") + reader.feed(b"\3\4") == b"\1\2\3\4"
    assert reader.num_samples is None
    reader.close()


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", "expected a WAV header that ends in a data chunk, got the end of the stream after 0 bytes"),
        (wav(b"")[:43], "expected a WAV header that ends in a data chunk, got the end of the stream after 43 bytes"),
        (wav(bytes(8))[:-2], "expected 8 bytes of data, got 6 bytes"),
        (wav(bytes(7)), "expected whole sample frames of 2 bytes, got 7 bytes of data"),
        (b"RIFX" + wav(b"")[4:], 'expected a RIFF/WAVE header, got "RIFX$\\0\\0\\0WAVE"'),
        (wav(b"", num_channels=0), "expected at least 1 channel and 1 Hz, got 0 channels and 8000 Hz"),
        (wav(b"", sample_rate=0), "expected at least 1 channel and 1 Hz, got 1 channels and 0 Hz"),
        (
            wav(b"", bits=20),
            "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, "
            "got format 0x0001 of 20 bits",
        ),
        (
            wav(b"", tag=0x55),
            "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, "
            "got format 0x0055 of 16 bits",
        ),
        (wav(b"")[:16] + b"\xff\xff\xff\xff", "expected a format chunk of 16 to 1024 bytes, got 4294967295 bytes"),
        (wav(b"")[:32] + b"\4\0" + wav(b"")[34:], "expected sample frames of 2 bytes for 1 channels, got 4 bytes"),
        (wav(b"")[:12] + chunk(b"data", b"\0\0"), "expected a format chunk before the data, got none"),
    ],
)
def test_broken_stream_is_refused(stream: bytes, error: str) -> None:
    with pytest.raises(ContainerError) as caught:
        read(stream)
    assert str(caught.value) == error


def test_failed_reader_stays_failed() -> None:
    reader = WavReader()
    for _ in range(2):
        with pytest.raises(ContainerError, match="RIFF/WAVE"):
            reader.feed(b"OggS" + bytes(8))
    with pytest.raises(ContainerError, match="RIFF/WAVE"):
        reader.close()


@pytest.mark.parametrize("num_channels", [1, 2])
def test_written_file_of_known_size_equals_that_of_wave(num_channels: int) -> None:
    data = SAMPLES.astype("<i2").tobytes()
    writer = WavWriter(16000, num_channels, len(data))
    stream = writer.feed(data[:11]) + writer.feed(data[11:])
    assert stream == wave_file(data, 2, num_channels)
    assert stream[:44] == writer.header


def test_written_stream_has_unknown_sizes_and_is_read_back() -> None:
    writer = WavWriter(48000)
    stream = writer.feed(b"") + writer.feed(b"\1\2")
    assert writer.header == stream[:44]
    assert (stream[4:8], stream[40:44]) == (b"\xff" * 4, b"\xff" * 4)
    assert read(stream) == b"\1\2"


def test_writer_refuses_what_no_header_can_say() -> None:
    with pytest.raises(AudioError, match=r"^expected a sample rate of 1000 to 384000 Hz, got 0$"):
        WavWriter(0)
    with pytest.raises(ContainerError, match=r"^expected 1 to 32767 channels, got 0$"):
        WavWriter(8000, 0)
    with pytest.raises(ContainerError, match=r"^expected whole sample frames of 4 bytes, got 6 bytes of data$"):
        WavWriter(8000, 2, 6)
    writer = WavWriter(8000, data_bytes=4)
    writer.feed(b"\0\0")
    with pytest.raises(ContainerError, match=r"^expected 4 bytes of data, got 6 bytes$"):
        writer.feed(b"\0\0\0\0")


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 60))
def test_any_bytes_are_read_or_refused(garbage: bytes, kept: int) -> None:
    stream = wav(b"\1\2\3\4")[:kept] + garbage
    reader = WavReader()
    try:
        pcm = reader.feed(stream)
        reader.close()
    except ContainerError:
        return
    assert len(pcm) <= 2 * len(stream)
