from __future__ import annotations

import io
import struct
import wave
from typing import Any, Literal

import av
import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speechwire import codec
from speechwire.codec import WavReader, WavWriter
from speechwire.errors import AudioError, ContainerError

Encoding = Literal["pcm", "ulaw", "alaw", "ima_adpcm"]

SAMPLES = np.concatenate([[-32768, -1, 0, 1, 32767], np.random.default_rng(2).integers(-32768, 32768, 95)])
TONE = (9000 * np.sin(np.arange(6000) / 17) + np.random.default_rng(3).normal(0, 500, 6000)).astype("<i2")
ENCODINGS: tuple[Encoding, ...] = ("pcm", "ulaw", "alaw", "ima_adpcm")
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
            "IMA ADPCM of 4 bits, got format 0x0001 of 20 bits",
        ),
        (
            wav(b"", tag=0x55),
            "expected PCM of 8, 16, 24 or 32 bits, float of 32 or 64 bits, mu-law or A-law of 8 bits, "
            "IMA ADPCM of 4 bits, got format 0x0055 of 16 bits",
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


def decode_with_libsndfile(stream: bytes) -> bytes:
    samples, _ = soundfile.read(io.BytesIO(stream), dtype="int16")
    return bytes(samples.tobytes())


def decode_with_ffmpeg(stream: bytes) -> bytes:
    pcm = []
    with av.open(io.BytesIO(stream), "r") as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()
            pcm.append((samples.T if frame.format.is_planar else samples).tobytes())
    return b"".join(pcm)


def encode_with_ffmpeg(samples: NDArray[np.int16], sample_rate: int) -> bytes:
    """An IMA ADPCM file of samples in the shape (time, channels)."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("adpcm_ima_wav", rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="s16p", layout=layout)
        frame.sample_rate = sample_rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def encode(pcm: bytes, sample_rate: int, num_channels: int, encoding: Encoding, *, known: bool = True) -> bytes:
    writer = WavWriter(sample_rate, num_channels, len(pcm) if known else None, encoding=encoding)
    return writer.feed(pcm) + writer.flush()


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [8000, 44100])
@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "IMA_ADPCM"])
def test_files_of_libsndfile_are_read_bit_for_bit(subtype: str, sample_rate: int, num_channels: int) -> None:
    for num_samples in (0, 1, 100, 3000):
        file = io.BytesIO()
        samples = TONE[: num_samples * num_channels].reshape(-1, num_channels)
        soundfile.write(file, samples, sample_rate, subtype=subtype, format="WAV")
        assert read(file.getvalue()) == decode_with_libsndfile(file.getvalue())


@pytest.mark.parametrize("num_channels", [1, 2])
def test_ima_adpcm_files_of_ffmpeg_are_read_bit_for_bit(num_channels: int) -> None:
    stream = encode_with_ffmpeg(TONE.reshape(-1, num_channels), 16000)
    assert read(stream) == decode_with_ffmpeg(stream) == decode_with_libsndfile(stream)


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_written_files_decode_alike_everywhere(encoding: Encoding, known: bool, num_channels: int) -> None:
    for sample_rate, num_bytes in ((8000, 12000), (8000, 4), (22050, 11996), (48000, 12000)):
        stream = encode(TONE.tobytes()[:num_bytes], sample_rate, num_channels, encoding, known=known)
        pcm = read(stream)
        # The others return the filling of the last block as well: they do not look at the fact chunk.
        assert decode_with_ffmpeg(stream)[: len(pcm)] == pcm
        if known:
            assert decode_with_libsndfile(stream)[: len(pcm)] == pcm
            assert len(pcm) == num_bytes


@pytest.mark.parametrize("num_channels", [1, 2])
def test_ima_adpcm_is_as_close_as_that_of_libsndfile(num_channels: int) -> None:
    samples = TONE.reshape(-1, num_channels)
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, subtype="IMA_ADPCM", format="WAV")

    def error(pcm: bytes) -> float:
        decoded = np.frombuffer(pcm, "<i2")[: len(TONE)]
        return float(np.square(decoded.astype(float) - TONE).sum())

    assert error(read(encode(TONE.tobytes(), 8000, num_channels, "ima_adpcm"))) < 1.02 * error(read(file.getvalue()))


@pytest.mark.parametrize("num_channels", [3, 8])
def test_ima_adpcm_of_more_channels_comes_back(num_channels: int) -> None:
    decoded = np.frombuffer(read(encode(TONE.tobytes(), 8000, num_channels, "ima_adpcm")), "<i2")
    samples = TONE.astype(float)
    assert len(decoded) == len(TONE)
    assert np.square(decoded - samples).sum() < np.square(samples).sum() / 100


def test_ima_adpcm_is_cut_at_every_byte() -> None:
    stream = encode(TONE.tobytes()[:1200], 8000, 2, "ima_adpcm")
    expected = read(stream)
    assert len(expected) == 1200
    for position in range(len(stream) + 1):
        reader = WavReader()
        assert reader.feed(stream[:position]) + reader.feed(stream[position:]) == expected


def test_ima_adpcm_with_a_fact_chunk_too_small_is_read_whole() -> None:
    # libsndfile 1.2 writes a half of the number for two channels.
    file = io.BytesIO()
    soundfile.write(file, TONE.reshape(-1, 2), 8000, subtype="IMA_ADPCM", format="WAV")
    reader = WavReader()
    assert len(reader.feed(file.getvalue())) == 4 * 3030
    assert (reader.num_samples, reader.bits_per_sample) == (3030, 4)


@pytest.mark.parametrize(("encoding", "num_bytes"), [("pcm", 44), ("ulaw", 58), ("alaw", 58), ("ima_adpcm", 60)])
def test_flush_of_nothing_is_the_header(encoding: Encoding, num_bytes: int) -> None:
    writer = WavWriter(8000, encoding=encoding)
    assert writer.flush() == writer.header
    assert len(writer.header) == num_bytes


def test_flush_of_pcm_is_empty() -> None:
    writer = WavWriter(8000)
    writer.feed(b"\1\2")
    assert writer.flush() == b""
    assert writer.feed(b"\1\2") == writer.header + b"\1\2"


def test_header_written_afterwards_fits_the_stream() -> None:
    pcm = TONE.tobytes()[:5000]
    for encoding in ENCODINGS:
        header = WavWriter(8000, data_bytes=len(pcm), encoding=encoding).header
        stream = header + encode(pcm, 8000, 1, encoding, known=False)[len(header) :]
        assert stream == encode(pcm, 8000, 1, encoding)


def test_flush_refuses_what_is_not_whole() -> None:
    writer = WavWriter(8000, 2, 8, encoding="ulaw")
    writer.feed(b"\0\0\0")
    with pytest.raises(ContainerError, match=r"^expected whole sample frames of 4 bytes, got 3 bytes of data$"):
        writer.flush()
    writer.feed(b"\0")
    with pytest.raises(ContainerError, match=r"^expected 8 bytes of data, got 4 bytes$"):
        writer.flush()


def test_unknown_encoding_is_refused() -> None:
    with pytest.raises(AudioError, match=r'^expected a WAV encoding of pcm, ulaw, alaw, ima_adpcm, got "mp3"$'):
        WavWriter(8000, encoding="mp3")  # type: ignore[arg-type]


def ima_wav(num_channels: int, block_bytes: int, block_samples: int, data: bytes) -> bytes:
    layout = struct.pack("<HHIIHHHH", 0x11, num_channels, 8000, 4000, block_bytes, 4, 2, block_samples)
    body = b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (wav(b"", tag=0x11, bits=4), "expected a format chunk of 20 bytes or more for IMA ADPCM, got 16 bytes"),
        (ima_wav(2, 7, 1, b""), "expected blocks of at least 8 bytes for 2 channels, got 7 bytes"),
        (ima_wav(1, 256, 506, b""), "expected 1 to 505 samples in a block of 256 bytes for 1 channels, got 506"),
        (ima_wav(1, 256, 0, b""), "expected 1 to 505 samples in a block of 256 bytes for 1 channels, got 0"),
        (ima_wav(1, 8, 9, b"\0\0\xff\0"), "expected a step index of 0 to 88, got 255 for channel 0 of block 0"),
        (ima_wav(1, 8, 9, bytes(10)), "expected whole groups of 4 bytes, got 10 bytes of data"),
    ],
)
def test_broken_ima_adpcm_is_refused(stream: bytes, error: str) -> None:
    with pytest.raises(ContainerError) as caught:
        read(stream)
    assert str(caught.value) == error


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
    assert len(pcm) <= 4 * len(stream)
