from __future__ import annotations

import io
import itertools
import re
import struct
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speechwire import codec
from speechwire.codec import OggOpusReader, OggOpusWriter, Transcoder, WavWriter
from speechwire.errors import AudioError, ContainerError
from speechwire.source import AudioConverter

Samples = NDArray[np.int16]

EXAMPLE = Path(__file__).parent.parent / "examples" / "train_station.wav"


def speech(sample_rate: int, duration_s: float = 3.0) -> Samples:
    """Return the start of the example, someone asking for a train."""
    with wave.open(str(EXAMPLE)) as file:
        pcm = file.readframes(round(duration_s * file.getframerate()))
        return np.frombuffer(codec.resample(pcm, file.getframerate(), sample_rate), "<i2")


def stereo(left: Samples) -> Samples:
    """Return interleaved sample frames with an echo on the right."""
    return np.stack([left, np.roll(left, 100) // 2], axis=1).reshape(-1)


def run(*arguments: str | Path) -> str:
    answer = subprocess.run(arguments, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr, answer.stderr
    return answer.stdout


def opusenc(folder: Path, samples: Samples, sample_rate: int, num_channels: int, *options: str) -> bytes:
    """Return what opusenc of opus-tools makes of the samples."""
    source, result = folder / "in.wav", folder / "out.opus"
    source.write_bytes(WavWriter(sample_rate, num_channels, samples.nbytes).feed(samples))
    run("opusenc", "--quiet", *options, source, result)
    return result.read_bytes()


def opusdec(folder: Path, stream: bytes) -> Samples:
    """Return what opusdec of opus-tools makes of a stream."""
    source, result = folder / "in.opus", folder / "out.wav"
    source.write_bytes(stream)
    run("opusdec", "--quiet", "--rate", "48000", "--no-dither", source, result)
    with wave.open(str(result)) as file:
        assert file.getframerate() == 48000
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def ffmpeg(stream: bytes) -> Samples:
    """Return what FFmpeg's own decoder makes of a mono stream."""
    with av.open(io.BytesIO(stream), "r") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    samples: Samples = np.rint(np.concatenate(frames).clip(-1, 32767 / 32768) * 32768).astype(np.int16)
    return samples


def read(stream: bytes, reader: OggOpusReader | None = None) -> Samples:
    reader = reader or OggOpusReader()
    pcm = reader.feed(stream)
    reader.close()
    return np.frombuffer(pcm, "<i2")


def write(pcm: bytes | Samples, sample_rate: int = 48000, *, bitrate: int = 64000, frame_ms: float = 20) -> bytes:
    writer = OggOpusWriter(sample_rate, bitrate=bitrate, frame_ms=frame_ms)
    return writer.feed(pcm) + writer.flush()


def signal_to_noise_db(signal: Samples, output: Samples) -> float:
    noise = signal.astype(float) - output
    return float(10 * np.log10(np.square(signal.astype(float)).sum() / np.square(noise).sum()))


def pages(stream: bytes) -> list[bytes]:
    """Cut a stream into its pages."""
    found = []
    while stream:
        num_segments = stream[26]
        num_bytes = 27 + num_segments + sum(stream[27 : 27 + num_segments])
        found.append(stream[:num_bytes])
        stream = stream[num_bytes:]
    return found


def page_checksum(page: bytes) -> int:
    """Return the checksum of a page bit by bit, as RFC 3533 defines it."""
    remainder = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x104C11DB7 if remainder & 0x80000000 else 0)
    return remainder


def edited(page: bytes, position: int, field: bytes) -> bytes:
    """Return a page with some bytes replaced and the right checksum."""
    page = page[:position] + field + page[position + len(field) :]
    return page[:22] + struct.pack("<I", page_checksum(page)) + page[26:]


SPEECH = speech(48000)
STREAM = write(SPEECH)
HEAD = 28  # where the first header starts in its page


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("frame_size", ["2.5", "5", "10", "20", "40", "60"])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 48000])
def test_reader_equals_opusdec(tmp_path: Path, sample_rate: int, frame_size: str, num_channels: int) -> None:
    samples = speech(sample_rate, 1.234)
    if num_channels == 2:
        samples = stereo(samples)
    # The band of a low bitrate is modelled, that of a high one is not.
    for bitrate in ("16", "96"):
        stream = opusenc(tmp_path, samples, sample_rate, num_channels, "--framesize", frame_size, "--bitrate", bitrate)
        expected = opusdec(tmp_path, stream)
        reader = OggOpusReader()
        found = read(stream, reader)
        assert (reader.sample_rate, reader.num_channels) == (48000, num_channels)
        assert len(found) == len(expected) == len(samples) * 48000 // sample_rate
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("gain_db", [-128, -60, -6, -1 / 256, 3, 12])
def test_gain_of_the_header_is_applied_as_by_opusdec(tmp_path: Path, gain_db: float, num_channels: int) -> None:
    samples = stereo(SPEECH) if num_channels == 2 else SPEECH
    head, *rest = pages(opusenc(tmp_path, samples, 48000, num_channels))
    plain = np.abs(read(b"".join([head, *rest]))).max()
    stream = b"".join([edited(head, HEAD + 16, struct.pack("<h", round(gain_db * 256))), *rest])
    found, expected = read(stream), opusdec(tmp_path, stream)
    # The highest gain is more than full scale can take: both soften the peaks, in the same way.
    assert len(found) == len(expected)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(found.astype(int)).max() == pytest.approx(min(plain * 10 ** (gain_db / 20), 32768), rel=1e-3, abs=1)


def test_reader_takes_what_ffmpeg_writes() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        track = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(SPEECH.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = 48000
        for packets in (track.encode(frame), track.encode(None)):
            container.mux(packets)
    found = read(file.getvalue())
    assert len(found) == len(SPEECH)
    assert signal_to_noise_db(SPEECH, found) > 15


@pytest.mark.parametrize("sample_rate", [8000, 12000, 16000, 24000, 48000])
@pytest.mark.parametrize("frame_ms", [2.5, 20, 80])
def test_stream_is_right_to_opus_tools_and_to_ffmpeg(tmp_path: Path, sample_rate: int, frame_ms: float) -> None:
    samples = speech(sample_rate)
    stream = write(samples, sample_rate, bitrate=96000, frame_ms=frame_ms)
    (tmp_path / "in.opus").write_bytes(stream)
    report = run("opusinfo", tmp_path / "in.opus")
    assert "WARNING" not in report.upper()
    assert f"Original sample rate: {sample_rate} Hz" in report
    assert "Playback length: 0m:03.000s" in report
    assert re.search(rf"Page duration: *{frame_ms:.1f}ms \(max\)", report)
    signal = np.frombuffer(codec.resample(samples, sample_rate, 48000), "<i2")
    for decode in (read, lambda stream: opusdec(tmp_path, stream), ffmpeg):
        found = decode(stream)
        assert len(found) == len(signal) == 144000
        assert signal_to_noise_db(signal, found) > 28


def test_default_bitrate_keeps_the_waveform() -> None:
    assert signal_to_noise_db(SPEECH, read(STREAM)) > 26
    assert 60_000 < len(STREAM) * 8 / 3 < 75_000
    assert len(write(SPEECH, bitrate=16000)) < len(STREAM) / 2


@settings(max_examples=60)
@given(
    num_samples=st.integers(0, 9000),
    sample_rate=st.sampled_from([8000, 12000, 16000, 24000, 48000]),
    frame_ms=st.sampled_from([2.5, 10, 15, 20, 80]),
    cuts=st.lists(st.floats(0, 1), max_size=10),
)
def test_any_cut_gives_the_same_bytes(num_samples: int, sample_rate: int, frame_ms: float, cuts: list[float]) -> None:
    pcm = SPEECH[20000 : 20000 + num_samples].tobytes()
    writer = OggOpusWriter(sample_rate, frame_ms=frame_ms)
    stream = writer.feed(pcm) + writer.flush()

    def pieces(data: bytes) -> list[bytes]:
        positions = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
        return [data[start:stop] for start, stop in itertools.pairwise(positions)]

    assert b"".join(map(writer.feed, pieces(pcm))) + writer.flush() == stream
    found = read(stream)
    assert len(found) == num_samples * 48000 // sample_rate
    reader = OggOpusReader()
    assert b"".join(map(reader.feed, pieces(stream))) == found.tobytes()
    reader.close()


def test_page_comes_with_its_last_sample() -> None:
    writer = OggOpusWriter(24000, frame_ms=80)
    assert writer.feed(b"") == writer.header
    assert len(pages(writer.header)) == 2
    for _ in range(3):
        assert writer.feed(bytes(3839)) == b""
        (page,) = pages(writer.feed(b"\0"))
        assert page[26] == 4  # packets of 20 ms
    (last,) = pages(writer.flush())
    assert last[5] == 4  # it ends the stream
    assert writer.flush().startswith(writer.header)


def test_serial_is_the_callers() -> None:
    first, second = OggOpusWriter(8000, serial=1), OggOpusWriter(8000, serial=0xFFFFFFFF)
    streams = [writer.feed(bytes(3200)) + writer.flush() for writer in (first, second)]
    assert [{page[14:18] for page in pages(stream)} for stream in streams] == [{b"\1\0\0\0"}, {b"\xff" * 4}]
    assert len(read(b"".join(streams))) == 2 * 9600


def test_streams_of_a_chain_follow_one_another(tmp_path: Path) -> None:
    first, second = (opusenc(tmp_path, SPEECH[:30000], 48000, 1, "--serial", serial) for serial in ("1", "2"))
    expected = read(first)
    np.testing.assert_array_equal(read(first + second), np.concatenate([expected, expected]))
    other = opusenc(tmp_path, stereo(SPEECH[:3000]), 48000, 2, "--serial", "3")
    with pytest.raises(ContainerError, match=r"^expected 1 channel in all streams of the chain, got 2 channels$"):
        read(first + other)


@pytest.mark.parametrize("num_channels", [3, 6])
def test_more_than_two_channels_are_refused(tmp_path: Path, num_channels: int) -> None:
    stream = opusenc(tmp_path, np.zeros(4800 * num_channels, np.int16), 48000, num_channels)
    text = rf"^expected channel mapping family 0, got family 1 with {num_channels} channels$"
    with pytest.raises(ContainerError, match=text):
        read(stream)
    discrete = opusenc(tmp_path, np.zeros(9600, np.int16), 48000, 2)
    head, *rest = pages(discrete)
    with pytest.raises(ContainerError, match=r"^expected channel mapping family 0, got family 255 with 2 channels$"):
        read(b"".join([edited(head, HEAD + 18, b"\xff"), *rest]))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_stream_cut_off_is_refused(kept: float) -> None:
    reader = OggOpusReader()
    assert len(reader.feed(STREAM[: int(len(STREAM) * kept)])) <= SPEECH.nbytes
    with pytest.raises(ContainerError, match=r"expected (an Ogg stream|a whole page at byte \d+), got"):
        reader.close()


def test_stream_without_its_last_page_is_refused() -> None:
    found = pages(STREAM)
    text = rf"^expected the last page of stream 0x00000001, got the end after page {len(found) - 2}$"
    with pytest.raises(ContainerError, match=text):
        read(b"".join(found[:-1]))


def test_broken_pages_are_refused_with_their_place() -> None:
    found = pages(STREAM)
    position = sum(map(len, found[:50]))
    broken = bytearray(STREAM)
    broken[position + 40] ^= 1
    reader = OggOpusReader()
    with pytest.raises(
        ContainerError, match=rf"^expected checksum 0x.* of the page at byte {position}, got 0x"
    ) as caught:
        reader.feed(broken)
    with pytest.raises(ContainerError) as again:
        reader.feed(b"")
    assert str(again.value) == str(caught.value)
    missing = b"".join(found[:50] + found[51:])
    with pytest.raises(ContainerError, match=r"^expected page 50 of stream 0x00000001, got page 51 of stream"):
        read(missing)


def test_packet_that_is_none_is_refused() -> None:
    found = pages(STREAM)
    packet = 27 + found[50][26]
    # A packet of any number of frames that says it has none (RFC 6716, section 3.2.5).
    found[50] = edited(found[50], packet, bytes([found[50][packet] | 3, 0]))
    text = r"^expected an Opus packet, got \d+ bytes in packet 50 of the stream \(corrupted stream\)$"
    with pytest.raises(ContainerError, match=text):
        read(b"".join(found))


def test_other_containers_are_refused() -> None:
    with pytest.raises(ContainerError, match=r'^expected "OggS" at byte 0, got "RIFF"$'):
        read(EXAMPLE.read_bytes())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: OggOpusWriter(44100),
            r"^expected a sample rate of 8000, 12000, 16000, 24000 or 48000 Hz, got 44100$",
        ),
        (lambda: OggOpusWriter(8000, bitrate=500), r"^expected a bitrate of 6000 to 510000 bits per second, got 500$"),
        (lambda: OggOpusWriter(-8000), r"^expected a sample rate of .* Hz, got -8000$"),
        (lambda: OggOpusWriter(2**32 + 8000), r"^expected a sample rate of .* Hz, got 4294975296$"),
        (lambda: OggOpusWriter(8000, bitrate=-1), r"^expected a bitrate of 6000 to 510000 bits per second, got -1$"),
        (lambda: OggOpusWriter(8000, bitrate=2**40), r"^expected a bitrate of .* per second, got 1099511627776$"),
        (lambda: OggOpusWriter(8000, serial=-1), r"^expected a serial of 0 to 4294967295, got -1$"),
        (lambda: OggOpusWriter(8000, serial=2**32), r"^expected a serial of 0 to 4294967295, got 4294967296$"),
        (
            lambda: OggOpusWriter(8000, frame_ms=12),
            r"^expected a frame of a multiple of 2\.5 ms up to 1000 ms, got 12 ms$",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], OggOpusWriter], text: str) -> None:
    with pytest.raises(AudioError, match=text):
        make()


def test_half_a_sample_at_the_end_is_refused() -> None:
    writer = OggOpusWriter(8000)
    writer.feed(bytes(5))
    with pytest.raises(AudioError, match=r"^expected whole samples of 2 bytes, got 5 bytes$"):
        writer.flush()
    assert writer.feed(b"\0") == b""
    assert len(read(writer.header + writer.flush())) == 3 * 6


@pytest.mark.parametrize("sample_rate", [8000, 22050, 24000, 44100, 48000])
def test_transcoder_writes_one_page_for_each_frame(tmp_path: Path, sample_rate: int) -> None:
    pcm = speech(sample_rate).tobytes()
    transcoder = Transcoder(f"pcm_{sample_rate}", "opus", frame_ms=80)
    assert transcoder.feed(b"") == [OggOpusWriter(48000).header]
    frames = transcoder.feed(pcm)
    assert all(pages(frame) == [frame] and frame[26] >= 4 for frame in frames)
    assert len(frames) == 3000 // 80
    stream = b"".join([OggOpusWriter(48000).header, *frames, *transcoder.flush()])
    delay_samples = round(transcoder.delay_ms * 48)
    found = opusdec(tmp_path, stream)
    assert len(found) == 144000 + delay_samples
    assert signal_to_noise_db(SPEECH[1000:-1000], found[delay_samples + 1000 :][: 144000 - 2000]) > 20


def test_transcoder_reads_what_the_reader_reads(tmp_path: Path) -> None:
    stream = opusenc(tmp_path, stereo(SPEECH), 48000, 2)
    channels = read(stream).reshape(-1, 2)
    mono = np.rint(channels.sum(axis=1) / 2).astype("<i2")
    transcoder = Transcoder("opus", "pcm_8000")
    assert (transcoder.source_sample_rate, transcoder.target_sample_rate) == (48000, 8000)
    found = b"".join(itertools.chain(transcoder.feed(stream), transcoder.flush()))
    resampler = codec.Resampler(48000, 8000)
    assert found == resampler.feed(mono.tobytes()) + resampler.flush()


def test_transcoder_refuses_a_source_that_ends_early() -> None:
    transcoder = Transcoder("opus", "pcm")
    with pytest.raises(ContainerError, match=r"^expected an Ogg stream, got no page$"):
        transcoder.flush()
    transcoder.feed(b"".join(pages(STREAM)[:-1]))
    with pytest.raises(ContainerError, match=r"^expected the last page of stream 0x00000001, got the end after page"):
        transcoder.flush()
    transcoder.reset()
    transcoder.feed(STREAM)
    assert transcoder.flush() == []


def test_sources_of_a_client_may_be_opus() -> None:
    converter = AudioConverter("pcm_24000", source_format="opus")
    chunks = [STREAM[start : start + 1000] for start in range(0, len(STREAM), 1000)]
    pcm = b"".join(map(converter.feed, chunks)) + converter.flush()
    resampler = codec.Resampler(48000, 24000)
    assert pcm == resampler.feed(read(STREAM).tobytes()) + resampler.flush()
    assert AudioConverter("opus").feed(STREAM) == STREAM
    converter = AudioConverter("opus", source_format="pcm_48000")
    assert converter.feed(SPEECH.tobytes()) + converter.flush() == STREAM
