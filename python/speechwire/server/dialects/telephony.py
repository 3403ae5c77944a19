"""Telephone calls: which path takes whose media stream, what a call may ask for, and how it is told why it ends.

The framings themselves are `speechwire.telephony`'s; this is what the server does with a call beyond its audio. What a
call wants comes as the parameters that its framing has for that, such as Twilio's `<Parameter>`, or in the address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from speechwire.events import Start
from speechwire.server.dialects import gradium

__all__ = ["CallEnd", "CallSetup", "Line", "close_code", "credential", "parameters", "parse_setup", "paths", "token"]

ROUTE: Final = "telephony"
KEY: Final = "key"
TOKEN: Final = "token"  # noqa: S105 - the name of a parameter, not a secret
LANGUAGE: Final = "language"
TARGET_LANGUAGE: Final = "target_language"
VOICE_ID: Final = "voice_id"
BARGE_IN: Final = "barge_in"

DEFAULT_TARGET_LANGUAGE: Final = "es"
_TRUTH: Final = {"true": True, "false": False}
_LANGUAGE_CHARACTERS: Final = 2
_MAX_CHARACTERS: Final = 256  # of a parameter


@dataclass(frozen=True, slots=True)
class Line:
    """A kind of media stream.

    Args:
        framing: Name of it in `speechwire.telephony.PhoneLeg`, and in the path.
        sample_rate: At which calls are interpreted, in Hz: that of the wire, so that nothing is resampled twice.
        subprotocol: Of its WebSocket, where the far end may offer one.
    """

    framing: str
    sample_rate: int
    subprotocol: str | None = None


# Those that come over a WebSocket which the far end opens.
LINES: Final = (
    Line("twilio", 8000),
    Line("telnyx", 8000),
    Line("plivo", 8000),
    Line("vonage", 16000),
    Line("chan_websocket", 8000, "media"),
)


class CallEnd(Enum):
    """Why a call has ended."""

    HUNG_UP = "hung_up"  # the far end said so, or closed the connection in good order
    GONE = "gone"  # its connection broke
    PROTOCOL = "protocol"  # it said what makes no sense
    REFUSED = "refused"  # its key or what it wants
    BUSY = "busy"  # as many requests run as may
    DURATION = "duration"  # it lasted as long as it may
    STALLED = "stalled"  # it took nothing of what it was sent
    BEHIND = "behind"  # the engine fell too far behind the caller
    ENGINE = "engine"  # the engine failed, or ended before the caller did
    STOPPED = "stopped"  # the server stops


# RFC 6455 section 7.4.1; 1013 is "try again later" (IANA's registry of close codes).
_CLOSE_CODES: Final = {
    CallEnd.HUNG_UP: 1000,
    CallEnd.PROTOCOL: 1002,
    CallEnd.REFUSED: 1008,
    CallEnd.DURATION: 1008,
    CallEnd.BUSY: 1013,
}
_FAILED: Final = 1011


@dataclass(frozen=True, slots=True)
class CallSetup:
    """What a call wants.

    Args:
        start: Of its one request.
        barge_in: The caller's speech silences what is being played.
    """

    start: Start
    barge_in: bool


def paths(base_path: str) -> Iterator[tuple[str, Line]]:
    """Yield the paths of the WebSockets below `base_path`, and which line each serves."""
    for line in LINES:
        yield f"{base_path}/{ROUTE}/{line.framing}", line


def parameters(headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """Return what the opening of the connection tells of the call; what the call says itself goes before it."""
    key = gradium.shown_key(headers)
    return {**query, KEY: key} if key is not None else dict(query)


def close_code(end: CallEnd) -> int:
    """Return the code of the close frame."""
    return _CLOSE_CODES.get(end, _FAILED)


def token(given: Mapping[str, str]) -> str | None:
    """Return what the call showed in place of a key: a token of one use."""
    return given.get(TOKEN) or None


def credential(given: Mapping[str, str]) -> str | None:
    """Return the key that the call showed."""
    return given.get(KEY) or None


def parse_setup(given: Mapping[str, str], line: Line) -> CallSetup:
    """Read what a call wants.

    Args:
        given: Parameters of the call; those that are not known are left alone.
        line: Through which it came.

    Raises:
        ValueError: A parameter makes no sense; the message goes to the far end.
    """
    audio_format = f"pcm_{line.sample_rate}"
    barge_in = given.get(BARGE_IN, "false")
    if barge_in not in _TRUTH:
        raise ValueError(f"expected {BARGE_IN} to be true or false, got {_shown(barge_in)}")
    return CallSetup(
        Start(
            source_format=audio_format,
            target_format=audio_format,
            source_language=_language(given, LANGUAGE),
            target_language=_language(given, TARGET_LANGUAGE) or DEFAULT_TARGET_LANGUAGE,
            voice_id=_voice(given),
        ),
        _TRUTH[barge_in],
    )


def _language(given: Mapping[str, str], name: str) -> str | None:
    code = given.get(name) or None
    if code is not None and not (len(code) == _LANGUAGE_CHARACTERS and code.isascii() and code.isalpha()):
        raise ValueError(f"expected {name} to be a code of two letters, got {_shown(code)}")
    return None if code is None else code.lower()


def _voice(given: Mapping[str, str]) -> str | None:
    voice_id = given.get(VOICE_ID) or None
    if voice_id is not None and len(voice_id) > _MAX_CHARACTERS:
        raise ValueError(f"expected {VOICE_ID} of at most {_MAX_CHARACTERS} characters, got {len(voice_id)}")
    return voice_id


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…")
