"""G.711 beside others, over a pool of distinct buffers of speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import material
from machine import load_peer
from speechwire import codec
from timing import Cell, Row, Settings, Table, cells, over, time_interleaved, verdict

Convert = Callable[[bytes], bytes]
BASELINE = "audioop"
LENGTHS = (160, 1920, 240_000)
POOL_SAMPLES = 240_000
LAWS = {"ulaw": "mu-law", "alaw": "A-law"}
TEXT = """\
PCM and codes as `bytes`; microseconds per call for so many samples of speech, in brackets how many times as fast as
audioop. *Correct*: equal to ITU-T G.711 as G.191 reads it, on all 65536 samples or all 256 codes."""


class Law(NamedTuple):
    """The two directions of a law."""

    encode: Convert
    decode: Convert


def reference_codes(law: str) -> Any:
    """Return the code of each sample from -32768 on, by the segments of G.711 and the sign rule of G.191."""
    samples = np.arange(-32768, 32768)
    positive, size = samples >= 0, np.where(samples < 0, ~samples, samples)
    if law == "ulaw":
        biased = np.minimum(size // 4 + 33, 8191)
        segment = np.floor(np.log2(biased)).astype(int) - 5
        return (255 - (16 * segment + biased // 2 ** (segment + 1) % 16) - np.where(positive, 0, 128)).astype(np.uint8)
    size = size // 16
    segment = np.maximum(np.floor(np.log2(np.maximum(size, 1))).astype(int) - 3, 0)
    code = 16 * segment + size // 2 ** np.maximum(segment - 1, 0) % 16
    return ((code + np.where(positive, 128, 0)) ^ 0x55).astype(np.uint8)


def reference_levels(law: str) -> Any:
    """Return the sample of each code: the middle of its interval, with the outermost bits of the law undone."""
    codes = np.arange(256) ^ (0xFF if law == "ulaw" else 0x55)
    segment, step = codes // 16 % 8, codes % 16
    if law == "ulaw":
        level, positive = 4 * ((2 * step + 33) * 2**segment - 33), codes < 128
    else:
        level, positive = 8 * ((2 * step + 1 + 32 * (segment > 0)) * 2 ** np.maximum(segment - 1, 0)), codes >= 128
    return np.where(positive, level, -level).astype("<i2")


def numpy_law(law: str) -> Law:
    """Return table look-ups, the fastest that numpy offers."""
    codes, levels = np.roll(reference_codes(law), 32768), reference_levels(law)  # from sample 0 on
    return Law(
        lambda pcm: codes.take(np.frombuffer(pcm, np.uint16)).tobytes(),
        lambda data: levels.take(np.frombuffer(data, np.uint8)).tobytes(),
    )


def audioop_law(audioop: Any, law: str) -> Law:
    encode, decode = getattr(audioop, f"lin2{law}"), getattr(audioop, f"{law}2lin")
    return Law(lambda pcm: encode(pcm, 2), lambda data: decode(data, 2))


def av_law(av: Any, law: str) -> Law:
    name = {"ulaw": "pcm_mulaw", "alaw": "pcm_alaw"}[law]
    encoder, decoder = av.CodecContext.create(name, "w"), av.CodecContext.create(name, "r")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", 8000
    decoder.layout, decoder.sample_rate = "mono", 8000

    def encode(pcm: bytes) -> bytes:
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 8000
        return b"".join(bytes(packet) for packet in encoder.encode(frame))

    def decode(data: bytes) -> bytes:
        return b"".join(frame.to_ndarray().tobytes() for frame in decoder.decode(av.Packet(data)))

    return Law(encode, decode)


def contestants(law: str) -> dict[str, Law | None]:
    """Return names and laws; None stands for a library that is not installed."""
    audioop, av = load_peer("audioop"), load_peer("av")
    return {
        "speechwire": Law(getattr(codec, f"{law}_encode"), getattr(codec, f"{law}_decode")),
        "audioop": audioop_law(audioop, law) if audioop else None,
        "numpy table": numpy_law(law),
        "PyAV": av_law(av, law) if av else None,
    }


def judge_encoder(law: str, encode: Convert) -> str:
    codes = np.frombuffer(encode(np.arange(-32768, 32768).astype("<i2").tobytes()), np.uint8)
    differs = int(np.sum(codes != reference_codes(law)))
    return verdict([f"{differs} of 65536 samples differ"] if differs else [])


def judge_decoder(law: str, decode: Convert) -> str:
    levels = np.frombuffer(decode(bytes(range(256))), "<i2")
    differs = int(np.sum(levels != reference_levels(law)))
    return verdict([f"{differs} of 256 codes differ"] if differs else [])


def measure(settings: Settings) -> list[Table]:
    """Compare both laws in both directions."""
    return [table for law in LAWS for table in measure_law(law, settings)]


def measure_law(law: str, settings: Settings) -> list[Table]:
    """Compare one law in both directions."""
    laws = contestants(law)
    present = {name: functions for name, functions in laws.items() if functions is not None}
    pcm = material.speech(8000, POOL_SAMPLES)
    codes = numpy_law(law).encode(pcm)
    tables = []
    for verb, data, sample_bytes, judge in (("encode", pcm, 2, judge_encoder), ("decode", codes, 1, judge_decoder)):
        functions: dict[str, Convert] = {name: getattr(both, verb) for name, both in present.items()}
        times: dict[str, list[Cell]] = {name: [] for name in present}
        for length in LENGTHS:
            settings.report(f"{LAWS[law]} {verb}: {length} samples")
            for name, cell in time_pool(functions, material.cut(data, length * sample_bytes), settings).items():
                times[name].append(cell)
        tables.append(
            Table(
                title=f"G.711 {LAWS[law]}, {verb}",
                text=TEXT,
                baseline=BASELINE,
                columns=[f"{length} samples" for length in LENGTHS],
                rows=[Row(name, times[name], judge(law, function)) for name, function in functions.items()],
                absent=[name for name in laws if name not in present],
            )
        )
    return tables


def time_pool(functions: dict[str, Convert], buffers: Sequence[bytes], settings: Settings) -> dict[str, Cell]:
    calls = {name: over(function, buffers) for name, function in functions.items()}
    return cells(time_interleaved(calls, settings), BASELINE, len(buffers))
