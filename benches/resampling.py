"""The resampler beside others: a stream of 16-bit PCM in chunks, bytes in and bytes out.

What a program has to write around a library to get bytes from bytes is part of that library's row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import material
from machine import load_peer
from speechwire.codec import Resampler
from timing import Cell, Row, Settings, Table, cells, over, time_interleaved, verdict

Feed = Callable[[bytes], bytes]
MakeFeed = Callable[[int, int], Feed]

PAIRS = [
    (8000, 24000), (24000, 8000), (8000, 16000), (16000, 8000), (16000, 24000), (24000, 16000), (24000, 48000),
    (48000, 24000), (48000, 8000), (8000, 48000), (44100, 24000), (24000, 44100), (22050, 24000), (48000, 16000),
]  # fmt: skip
QUICK_PAIRS = [(8000, 24000), (24000, 8000), (48000, 8000), (24000, 48000)]
BASELINE = "soxr HQ"
GAIN_LIMIT_DB = 0.5
SPUR_LIMIT_DB = -60.0
TEXT = """\
16-bit mono PCM as `bytes` in and out, chunk by chunk in one endless stream; rates in kHz, microseconds per call, in
brackets how many times as fast as {baseline}. *Correct*, at the worst of the pairs: a tone at 0.8 of the lower Nyquist
frequency comes out within {gain} dB with all else at {spurs} dB or lower, and one at 1.25 of it comes out of a
downsampler at {spurs} dB or lower. *Lockstep*: each call answers with exactly its own duration, else the most that is
missing. *Lag*: audio that has gone in and not come out after a call, mean / max at the worst of the pairs, by the lower
of the two rates; the delay of the filter counts."""


@dataclass(frozen=True)
class Findings:
    """What the output of one contestant at one pair is like."""

    gain_db: float
    spurs_db: float
    missing_ms: float
    lag_ms: tuple[float, float]


def make_speechwire(quality: Any) -> MakeFeed:
    return lambda input_rate, output_rate: Resampler(input_rate, output_rate, quality=quality).feed


def make_soxr(soxr: Any, quality: str) -> MakeFeed:
    def make(input_rate: int, output_rate: int) -> Feed:
        feed = soxr.ResampleStream(input_rate, output_rate, 1, dtype="int16", quality=quality).resample_chunk
        return lambda chunk: bytes(feed(np.frombuffer(chunk, np.int16)).tobytes())

    return make


def make_samplerate(samplerate: Any, converter: str) -> MakeFeed:
    def make(input_rate: int, output_rate: int) -> Feed:
        feed, ratio = samplerate.Resampler(converter, channels=1).process, output_rate / input_rate
        return lambda chunk: saturated(feed(np.frombuffer(chunk, np.int16).astype(np.float32), ratio))

    return make


def make_scipy(scipy_signal: Any) -> MakeFeed:
    def make(input_rate: int, output_rate: int) -> Feed:
        resample_poly = scipy_signal.resample_poly
        return lambda chunk: saturated(
            resample_poly(np.frombuffer(chunk, np.int16).astype(np.float32), output_rate, input_rate)
        )

    return make


def make_av(av: Any) -> MakeFeed:
    def make(input_rate: int, output_rate: int) -> Feed:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=output_rate)

        def feed(chunk: bytes) -> bytes:
            frame = av.AudioFrame.from_ndarray(np.frombuffer(chunk, np.int16)[None], format="s16", layout="mono")
            frame.sample_rate = input_rate
            return b"".join(out.to_ndarray().tobytes() for out in resampler.resample(frame))

        return feed

    return make


def make_audioop(audioop: Any) -> MakeFeed:
    def make(input_rate: int, output_rate: int) -> Feed:
        state = None

        def feed(chunk: bytes) -> bytes:
            nonlocal state
            converted, state = audioop.ratecv(chunk, 2, 1, input_rate, output_rate, state)
            return bytes(converted)

        return feed

    return make


def saturated(samples: Any) -> bytes:
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype(np.int16).tobytes())


def contestants() -> Iterator[tuple[str, MakeFeed | None]]:
    """Yield names and constructors; None stands for a library that is not installed."""
    for quality in ("balanced", "low_latency", "high"):
        yield f"speechwire {quality}", make_speechwire(quality)
    soxr, samplerate, audioop = load_peer("soxr"), load_peer("samplerate"), load_peer("audioop")
    for quality in ("QQ", "LQ", "MQ", "HQ", "VHQ"):
        yield f"soxr {quality}", make_soxr(soxr, quality) if soxr else None
    for quality in ("fastest", "medium", "best"):
        yield f"libsamplerate {quality}", make_samplerate(samplerate, f"sinc_{quality}") if samplerate else None
    av, scipy_signal = load_peer("av"), load_peer("scipy.signal")
    yield "PyAV AudioResampler", make_av(av) if av else None
    yield "scipy resample_poly", make_scipy(scipy_signal) if scipy_signal else None
    yield "audioop.ratecv", make_audioop(audioop) if audioop else None


def examine(make: MakeFeed, input_rate: int, output_rate: int, chunk_ms: int) -> Findings:
    """Feed tones and a pulse and look at what comes out."""
    chunk_bytes, nyquist = input_rate * chunk_ms // 1000 * 2, min(input_rate, output_rate) / 2

    def outputs(pcm: bytes) -> list[bytes]:
        feed = make(input_rate, output_rate)
        return [feed(chunk) for chunk in material.cut(pcm, chunk_bytes)]

    def steady(frequency: float) -> material.Samples:
        return material.middle(material.from_pcm(b"".join(outputs(material.tone(input_rate, frequency, 1.2)))))

    gain_db, spurs_db = material.gain_and_spurs_db(steady(0.8 * nyquist), output_rate, 0.8 * nyquist)
    if input_rate > output_rate:
        alias = steady(1.25 * nyquist)
        spurs_db = max(spurs_db, material.decibels(float(np.sqrt(2 * np.mean(alias**2))) / material.AMPLITUDE))

    pieces = outputs(material.pulse(input_rate, 0.4, 1.2))
    num_out = np.cumsum([len(piece) // 2 for piece in pieces])
    missing_ms = chunk_ms * np.arange(1, len(pieces) + 1) - num_out * 1000 / output_rate
    delay_ms = 1000 * (material.centre_of_pulse_s(material.from_pcm(b"".join(pieces)), output_rate) - 0.4)
    lags = missing_ms[160 // chunk_ms :] + delay_ms
    return Findings(gain_db, spurs_db, float(np.max(np.abs(missing_ms))), (float(np.mean(lags)), float(np.max(lags))))


def measure(settings: Settings) -> list[Table]:
    """Compare at every pair, in chunks of 20 and 80 ms."""
    return [measure_chunks(settings, chunk_ms) for chunk_ms in ((20,) if settings.quick else (20, 80))]


def measure_chunks(settings: Settings, chunk_ms: int) -> Table:
    """Compare at every pair in chunks of one size."""
    pairs = QUICK_PAIRS if settings.quick else PAIRS
    makers = dict(contestants())
    present = {name: make for name, make in makers.items() if make is not None}
    times: dict[str, list[Cell]] = {name: [] for name in present}
    findings: dict[str, list[Findings]] = {name: [] for name in present}
    for input_rate, output_rate in pairs:
        settings.report(f"resampling, {chunk_ms} ms: {pair_name(input_rate, output_rate)}")
        chunks = material.cut(material.speech(input_rate, input_rate * 4 // 5), input_rate * chunk_ms // 1000 * 2)
        calls = {name: over(make(input_rate, output_rate), chunks) for name, make in present.items()}
        for name, cell in cells(time_interleaved(calls, settings), BASELINE, len(chunks)).items():
            times[name].append(cell)
        for name, make in present.items():
            findings[name].append(examine(make, input_rate, output_rate, chunk_ms))
    lower_rates = [min(pair) for pair in pairs]
    rows = [summarize(name, times[name], findings[name], lower_rates) for name in present]
    return Table(
        title=f"Resampling, {chunk_ms} ms chunks",
        text=TEXT.format(baseline=BASELINE, gain=GAIN_LIMIT_DB, spurs=round(SPUR_LIMIT_DB)),
        baseline=BASELINE,
        columns=[pair_name(*pair) for pair in pairs],
        rows=rows,
        absent=[name for name in makers if name not in present],
        fact_columns=["lockstep", *(f"lag, {name}" for name, *_ in bands(lower_rates))],
    )


def summarize(name: str, times: list[Cell], findings: list[Findings], lower_rates: list[int]) -> Row:
    """Return the row of a contestant, with the worst it did at any pair."""
    gain_db = max((found.gain_db for found in findings), key=abs)
    spurs_db = max(found.spurs_db for found in findings)
    faults = [f"{gain_db:+.1f} dB"] if abs(gain_db) > GAIN_LIMIT_DB else []
    faults += [f"spurs at {spurs_db:.0f} dB"] if spurs_db > SPUR_LIMIT_DB else []
    missing_ms = max(found.missing_ms for found in findings)
    lags = []
    for _, low, high in bands(lower_rates):
        chosen = [found.lag_ms for found, rate in zip(findings, lower_rates, strict=True) if low <= rate < high]
        lags.append((max(mean for mean, _ in chosen), max(most for _, most in chosen)))
    facts = [
        "yes"
        if missing_ms == 0
        else f"{missing_ms:.1f} ms missing"
        if missing_ms >= 0.05
        else f"{missing_ms:.2f} ms missing"
    ]
    facts += [f"{mean:.1f} / {most:.1f} ms" for mean, most in lags]
    return Row(name, times, verdict(faults), facts, findings[0].lag_ms)


def bands(lower_rates: list[int]) -> list[tuple[str, int, int]]:
    """Return the groups of lower rates that occur: what a lag depends on."""
    groups = [("8 kHz", 8000, 16000), ("16 kHz", 16000, 22050), ("22 kHz and more", 22050, 10**6)]
    return [group for group in groups if any(group[1] <= rate < group[2] for rate in lower_rates)]


def pair_name(input_rate: int, output_rate: int) -> str:
    return f"{input_rate / 1000:g} to {output_rate / 1000:g}"
