"""Voices by neutral names: a dialect turns its vendor's ids into these, an engine speaks with what it has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zlib import crc32

__all__ = ["FEMALE", "MALE", "Voice", "timbre_for"]

FEMALE: Final = ("female1", "female2", "female3", "female4")
MALE: Final = ("male1", "male2", "male3", "male4")


@dataclass(frozen=True, slots=True)
class Voice:
    """How a request wants to be spoken.

    Args:
        locale: Language and perhaps region, such as "en-gb" or "de". It says nothing about a request in another
            language.
        timbre: One of FEMALE or MALE.
    """

    locale: str
    timbre: str

    @property
    def language(self) -> str:
        """Two-letter code of the locale."""
        return self.locale.partition("-")[0]


def timbre_for(uid: str, timbres: tuple[str, ...] = FEMALE + MALE) -> str:
    """Choose a timbre for an id, always the same for the same id, so that voices differ from each other."""
    return timbres[crc32(uid.encode()) % len(timbres)]
