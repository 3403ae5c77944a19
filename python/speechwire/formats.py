"""What the raw audio format names say: rate and size. Containers ("wav", "opus") carry their own and answer None.

These are the names that `speechwire.codec.Transcoder` takes, with the rate written out: "pcm_24000", "ulaw_8000".
"""

from __future__ import annotations

from typing import Final

__all__ = ["FRAME_MS", "bytes_per_sample", "bytes_per_second", "sample_rate"]

FRAME_MS: Final = 80  # the frame that speech services advise
_G711 = frozenset({"ulaw_8000", "mulaw_8000", "alaw_8000"})


def sample_rate(audio_format: str) -> int | None:
    """Return the rate in Hz, or None for a container."""
    _, _, rate = audio_format.rpartition("_")
    return int(rate) if rate.isdigit() else None


def bytes_per_sample(audio_format: str) -> int:
    """Return the size of one sample: 1 for G.711, 2 for all others."""
    return 1 if audio_format in _G711 else 2


def bytes_per_second(audio_format: str) -> int | None:
    """Return the size of one second of mono audio, or None for a container."""
    rate = sample_rate(audio_format)
    return None if rate is None else rate * bytes_per_sample(audio_format)
