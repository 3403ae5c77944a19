"""Sines, for engines that have nothing to say."""

from __future__ import annotations

import math
from array import array
from functools import lru_cache
from typing import Final

__all__ = ["tone"]

_AMPLITUDE: Final = 9000  # loud enough to count as speech for a detector that goes by the level


def tone(sample_rate: int, hz: int, num_samples: int) -> bytes:
    """Return s16le PCM of a sine that begins at 0; 0 Hz is silence."""
    pattern = _pattern(sample_rate, hz)
    return (pattern * (2 * num_samples // len(pattern) + 1))[: 2 * num_samples]


@lru_cache(maxsize=256)
def _pattern(sample_rate: int, hz: int) -> bytes:
    """The fewest samples that hold whole periods."""
    step = 2 * math.pi * hz / sample_rate
    num_samples = sample_rate // math.gcd(sample_rate, hz)
    return array("h", (round(_AMPLITUDE * math.sin(step * n)) for n in range(num_samples))).tobytes()
