"""When a caller begins to speak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from speechwire.audioop import rms

__all__ = ["Onset"]

# What reaches -36 dBFS for three frames of 20 ms is speech; a click is shorter, the noise of a line is quieter.
_LOUD: Final = 520
_ONSET_S: Final = 0.06
# A pause inside speech is shorter; what comes behind a longer one begins anew.
_HANGOVER_S: Final = 0.3


class Onset:
    """Finds where speech begins, in audio that is held back while that is not certain: 60 ms at most.

    Args:
        sample_rate: Of s16le mono PCM, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._bytes_per_second = 2 * sample_rate
        self._held: list[bytes] = []
        self._loud_s = 0.0
        self._quiet_s = 0.0
        self._is_speech = False

    def feed(self, pcm: bytes) -> Iterator[bytes | None]:
        """Yield the audio in its order, with a None before the chunk with which speech begins."""
        duration_s = len(pcm) / self._bytes_per_second
        is_loud = rms(pcm, 2) >= _LOUD
        self._quiet_s = 0.0 if is_loud else self._quiet_s + duration_s
        if self._is_speech:
            self._is_speech = self._quiet_s < _HANGOVER_S
            yield pcm
            return
        self._held.append(pcm)
        self._loud_s = self._loud_s + duration_s if is_loud else 0.0
        if 0.0 < self._loud_s < _ONSET_S:
            return
        if is_loud:
            self._is_speech = True
            self._loud_s = 0.0
            yield None
        yield from self._held
        self._held.clear()
