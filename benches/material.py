"""What the contestants are fed with, and what is read off their output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechwire.codec import WavReader, resample

Samples = NDArray[np.float64]
SPEECH = Path(__file__).parent.parent / "examples" / "train_station.wav"
AMPLITUDE = 16000


def speech(sample_rate: int, num_samples: int) -> bytes:
    """Return PCM of a speaker, from the start again when the recording ends."""
    reader = WavReader()
    pcm = reader.feed(SPEECH.read_bytes())
    assert reader.sample_rate is not None
    samples = np.frombuffer(resample(pcm, reader.sample_rate, sample_rate), "<i2")
    return np.resize(samples, num_samples).tobytes()


def tone(sample_rate: int, frequency: float, seconds: float) -> bytes:
    """Return PCM of a sine."""
    time_s = np.arange(round(sample_rate * seconds)) / sample_rate
    return to_pcm(AMPLITUDE * np.sin(2 * np.pi * frequency * time_s))


def pulse(sample_rate: int, centre_s: float, seconds: float) -> bytes:
    """Return PCM of a bell half a millisecond wide: every resampler's passband holds its spectrum."""
    time_s = np.arange(round(sample_rate * seconds)) / sample_rate
    return to_pcm(AMPLITUDE * np.exp(-(((time_s - centre_s) / 0.0005) ** 2) / 2))


def to_pcm(samples: Samples) -> bytes:
    """Return samples as PCM."""
    return np.rint(samples).astype("<i2").tobytes()


def from_pcm(pcm: bytes) -> Samples:
    """Return PCM as samples."""
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def cut(data: bytes, size: int) -> list[bytes]:
    """Return the whole pieces of that size, as objects of their own."""
    return [data[start : start + size] for start in range(0, len(data) - size + 1, size)]


def middle(samples: Samples) -> Samples:
    """Return the half between the quarters, where no filter starts or ends."""
    return samples[len(samples) // 4 : len(samples) * 3 // 4]


def decibels(ratio: float) -> float:
    """Return a ratio of amplitudes in dB; nothing at all is -200."""
    return 20 * float(np.log10(max(ratio, 1e-10)))


def gain_and_spurs_db(samples: Samples, sample_rate: int, frequency: float) -> tuple[float, float]:
    """Return the level of the tone that was fed, and of all else that is there, against that tone."""
    angle = 2 * np.pi * frequency * np.arange(len(samples)) / sample_rate
    parts: Any = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights = np.linalg.lstsq(parts, samples, rcond=None)[0]
    rest = samples - parts @ weights
    level = float(np.hypot(*weights))
    return decibels(level / AMPLITUDE), decibels(float(np.sqrt(2 * np.mean(rest**2))) / AMPLITUDE)


def centre_of_pulse_s(samples: Samples, sample_rate: int) -> float:
    """Return where the pulse stands in the output."""
    peak, reach = int(np.argmax(np.abs(samples))), sample_rate // 200
    start = max(peak - reach, 0)
    energy = samples[start : peak + reach + 1] ** 2
    return float(start + np.sum(energy * np.arange(len(energy))) / np.sum(energy)) / sample_rate
