"""Floats to 16-bit samples and back, beside numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import material
from speechwire.codec import pcm_from_float, pcm_to_float
from timing import Cell, Row, Settings, Table, cells, over, time_interleaved, verdict

BASELINE = "numpy"
LENGTHS = (480, 1920, 240_000)
TEXT = """\
`bytes` of 32-bit floats and of 16-bit PCM; microseconds per call for so many samples of speech, in brackets how many
times as fast as numpy. *Correct*: full scale 1.0 stands for 32768, rounded half to even, saturated, and NaN is 0."""
EDGES = np.array([0, 0.5, 1.5, -2.5, 1, 40000, -40000, np.inf, -np.inf, np.nan, 32767.5], np.float32) / np.float32(
    32768
)
ROUNDED = [0, 0, 2, -2, 1, 32767, -32768, 32767, -32768, 0, 32767]


def numpy_from_float(data: bytes) -> bytes:
    return np.clip(np.rint(np.frombuffer(data, np.float32) * 32768), -32768, 32767).astype(np.int16).tobytes()


def numpy_to_float(pcm: bytes) -> bytes:
    return (np.frombuffer(pcm, np.int16) / np.float32(32768)).astype(np.float32).tobytes()


def judge_from_float(convert: Callable[[bytes], bytes]) -> str:
    with np.errstate(invalid="ignore"):
        converted = np.frombuffer(convert(EDGES.tobytes()), "<i2").tolist()
    triples = zip(EDGES.tolist(), converted, ROUNDED, strict=True)
    return verdict([f"{edge * 32768:g} becomes {got}" for edge, got, expected in triples if got != expected])


def judge_to_float(convert: Callable[[bytes], bytes]) -> str:
    samples = np.arange(-32768, 32768)
    floats = np.frombuffer(convert(samples.astype("<i2").tobytes()), "<f4").astype(np.float64)
    differs = int(np.sum(floats * 32768 != samples))
    return verdict([f"{differs} of 65536 samples differ"] if differs else [])


def measure(settings: Settings) -> list[Table]:
    """Compare both directions."""
    pcm = material.speech(24000, LENGTHS[-1])
    from_float = {"speechwire": pcm_from_float, "numpy": numpy_from_float}
    to_float = {"speechwire": pcm_to_float, "numpy": numpy_to_float}
    return [
        measure_one(settings, "Float to 16-bit", from_float, pcm_to_float(pcm), 4, judge_from_float),
        measure_one(settings, "16-bit to float", to_float, pcm, 2, judge_to_float),
    ]


def measure_one(
    settings: Settings,
    title: str,
    functions: dict[str, Callable[[bytes], bytes]],
    data: bytes,
    sample_bytes: int,
    judge: Callable[[Callable[[bytes], bytes]], str],
) -> Table:
    """Compare one direction at every length."""
    times: dict[str, list[Cell]] = {name: [] for name in functions}
    for length in LENGTHS:
        settings.report(f"{title}: {length} samples")
        buffers = material.cut(data, length * sample_bytes)
        calls = {name: over(function, buffers) for name, function in functions.items()}
        for name, cell in cells(time_interleaved(calls, settings), BASELINE, len(buffers)).items():
            times[name].append(cell)
    return Table(
        title=title,
        text=TEXT,
        baseline=BASELINE,
        columns=[f"{length} samples" for length in LENGTHS],
        rows=[Row(name, times[name], judge(function)) for name, function in functions.items()],
    )
