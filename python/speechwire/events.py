"""Neutral values that pass between a dialect and an engine.

A dialect turns its vendor's messages into these and back; an engine knows nothing else. So any dialect works in front
of any engine. All times are seconds on the output stream's own clock: its first sample is at 0.0.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Start", "Audio", "Transcript", "EndOfStream", "Failure", "InputEvent", "OutputEvent"]


@dataclass(frozen=True, slots=True)
class Start:
    """A request begins.

    Args:
        source_format: Wire format name of the audio that will arrive, such as "pcm_24000" or "ulaw_8000".
        target_format: Wire format name of the audio to return.
        source_language: Two-letter code of the speech that will arrive, or None if the client did not say.
        target_language: Two-letter code to translate into, or None to keep the source language.
        voice_id: The voice that the client asked for, or None.
    """

    source_format: str
    target_format: str
    source_language: str | None = None
    target_language: str | None = None
    voice_id: str | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio bytes: in the wire format of the request at the dialect's side, s16le mono PCM at the engine's side."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Transcript:
    """A piece of text and the span of output audio that speaks it; it precedes that audio."""

    text: str
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """Nothing follows in this direction."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The request cannot go on.

    Args:
        message: Tells the client why, in one line.
        bad_input: True if the client's own audio or settings are at fault.
    """

    message: str
    bad_input: bool = False


InputEvent = Start | Audio | EndOfStream
OutputEvent = Audio | Transcript | EndOfStream | Failure
