"""Neutral values: what passes between a dialect and an engine, and what a client offers beside its vendor's messages.

A dialect turns its vendor's messages into these and back; an engine knows nothing else. So any dialect works in front
of any engine. All times are seconds: those of audio and synthesised text on the output stream's own clock, whose first
sample is at 0.0, those of recognised text on the input's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = [
    "Audio",
    "EndOfStream",
    "EndText",
    "Failure",
    "FailureKind",
    "Flush",
    "Flushed",
    "Inactivity",
    "InputEvent",
    "OutputEvent",
    "Pause",
    "Ready",
    "Reconnected",
    "ServiceEvent",
    "Start",
    "Text",
    "Transcript",
    "Unknown",
    "VadStep",
]


@dataclass(frozen=True, slots=True)
class Start:
    """A request begins: synthesis where no audio comes in, recognition where none goes out, interpreting otherwise.

    Args:
        source_format: Wire format name of the audio that will arrive, such as "pcm_24000" or "ulaw_8000"; None if text
            arrives.
        target_format: Wire format name of the audio to return; None if only text is wanted.
        source_language: Two-letter code of the speech that will arrive, or None if the client did not say.
        target_language: Two-letter code to translate or speak into, or None to keep the source language.
        voice_id: The voice that the client asked for, or None.
        speed: Speed of synthesised speech; 1.0 is the voice's own.
        delay_s: How much more audio is to be heard before a recognised text is given out.
        wait_s: How long the request may wait for its turn where too many run already.
    """

    source_format: str | None
    target_format: str | None
    source_language: str | None = None
    target_language: str | None = None
    voice_id: str | None = None
    speed: float = 1.0
    delay_s: float = 0.0
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """The service has taken the request.

    Args:
        request_id: To quote to the vendor's support.
        sample_rate: Rate in Hz of the audio that will come, or that recognition works at.
        frame_size: Samples in one frame of it.
        model_name: The model that was asked for.
        delay_s: Look-ahead of recognition; None for other products.
    """

    request_id: str
    sample_rate: int
    frame_size: int
    model_name: str
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio bytes: in the wire format of the request at the dialect's side, s16le mono PCM at the engine's side.

    The span is that of returned audio; both ends are 0.0 for a container's header and on the way in.
    """

    audio: bytes
    start_s: float = 0.0
    stop_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Text:
    """Text to be spoken; one space stands between two of them."""

    text: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence to be put between what is spoken before and after it."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Flush:
    """Everything that came before is to be worked off now; more may follow.

    Args:
        flush_id: Goes back in `Flushed` as it came.
        answered: False if the client expects no `Flushed`.
    """

    flush_id: Any = None
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Transcript:
    """A piece of text and its span: of output audio, which it precedes, or of the input that it was recognised in.

    `stop_s` is None in a client's events of recognition: there an `EndText` tells it later.
    """

    text: str
    start_s: float
    stop_s: float | None


@dataclass(frozen=True, slots=True)
class EndText:
    """The end of the latest recognised text has been found."""

    stop_s: float


@dataclass(frozen=True, slots=True)
class Inactivity:
    """The probability, 0.0 to 1.0, that the speaker stays silent for the next `horizon_s` seconds."""

    horizon_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class VadStep:
    """What voice activity detection says of one more frame of input.

    Args:
        vad: By growing horizon.
        step_idx: Number of the frame, from 0.
        step_duration_s: Length of the frame.
        total_duration_s: Audio that has been looked at, this frame included.
    """

    vad: tuple[Inactivity, ...]
    step_idx: int
    step_duration_s: float
    total_duration_s: float


@dataclass(frozen=True, slots=True)
class Flushed:
    """The answer to a flush: all that belongs to the input before it has been given out."""

    flush_id: Any = None


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """Nothing follows in this direction."""


class FailureKind(Enum):
    """Whose fault it is that a request cannot go on."""

    INPUT = "input"  # the client's audio or settings
    INTERNAL = "internal"  # ours
    DURATION = "duration"  # the request has lasted too long
    BUSY = "busy"  # too many requests run


@dataclass(frozen=True, slots=True)
class Failure:
    """The request cannot go on; `message` tells the client why, in one line."""

    message: str
    kind: FailureKind = FailureKind.INTERNAL


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A new connection goes on where the last one ended.

    Args:
        gap_ms: Time without a connection; 0.0 where the new one was there before the old one went.
        replayed_ms: Audio that was sent again because nothing had come back for it.
    """

    gap_ms: float
    replayed_ms: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that this version does not know, as it came."""

    message: Mapping[str, Any] = field(default_factory=dict)


InputEvent = Start | Audio | Text | Pause | Flush | EndOfStream
OutputEvent = Audio | Transcript | VadStep | Flushed | EndOfStream | Failure
ServiceEvent = Ready | Audio | Transcript | EndText | VadStep | Flushed | EndOfStream | Reconnected | Unknown
