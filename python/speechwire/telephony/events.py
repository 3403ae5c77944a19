"""What a telephone leg tells its application; frozen values, like those of `speechwire.events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from speechwire.events import Unknown

__all__ = ["CallAudio", "CallEnded", "CallEvent", "CallMark", "CallStarted", "Dtmf", "Interruption"]


@dataclass(frozen=True, slots=True)
class CallStarted:
    """The far end has said what it will send; from now on audio can be sent to it.

    Args:
        call_id: The far end's name of the call; empty where it gave none.
        stream_id: Its name of this stream of the call; empty where it has none.
        encoding: Wire format of the audio that will arrive, such as "ulaw_8000" or "pcm_16000".
        sample_rate: Its rate in Hz.
        parameters: What the application put into the request for the stream, as it came back.
    """

    call_id: str
    stream_id: str
    encoding: str
    sample_rate: int
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallAudio:
    """Speech of the caller: PCM at the leg's sample rate."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key: 0 to 9, `*`, `#`, or A to D."""

    digit: str


@dataclass(frozen=True, slots=True)
class CallMark:
    """The far end has played an answer up to a mark.

    Args:
        answer: The number of the answer.
        heard_ms: How much of the answer has been played, on the answer's own clock.
        ended: True if that was all of it.
    """

    answer: int
    heard_ms: float
    ended: bool


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The far end has ended the stream; nothing is sent any more, and this is the last event.

    Args:
        reason: What the far end said, one line.
    """

    reason: str


CallEvent = CallStarted | CallAudio | Dtmf | CallMark | CallEnded | Unknown


@dataclass(frozen=True, slots=True)
class Interruption:
    """How far an answer came before it was cut off.

    Args:
        answer: The number of the answer that was being heard, or the last one if none was; None if there was none since
            the last interruption.
        heard_ms: What the far end has confirmed by its marks; None where the framing has none.
        heard_ms_estimate: What it has played by the clock; never more than was sent.
        dropped_ms: Audio of this and of later answers that was taken and will not be sent.
    """

    answer: int | None
    heard_ms: float | None
    heard_ms_estimate: float
    dropped_ms: float
