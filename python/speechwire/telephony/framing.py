"""What every framing of a telephone stream offers the leg, and how their messages are read.

A framing turns one vendor's messages into the values here and back. It keeps what the vendor has to hear again, such
as the name of the stream, and knows neither clocks nor answers.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from speechwire.codec import decode_message
from speechwire.errors import AudioError, WireError
from speechwire.events import Unknown
from speechwire.formats import bytes_per_sample
from speechwire.telephony.events import CallEnded, CallStarted, Dtmf

__all__ = [
    "CALL_RATES",
    "KEYS",
    "LEAD_MS",
    "Framing",
    "Mark",
    "Media",
    "Message",
    "Packet",
    "WireEvent",
    "choose_format",
    "decode_payload",
    "expect_first_start",
    "expect_whole_samples",
    "object_field",
    "optional_count",
    "optional_field",
    "parse_json",
    "quote",
    "read_key",
    "required_field",
    "string_parameters",
    "whole_number",
]

Message = str | bytes

# Counts are reckoned with, also as floats, which have no room for any number that JSON can carry.
MAX_COUNT: Final = 1 << 63

# Of audio on the wire, in Hz: what a jitter buffer can do.
CALL_RATES: Final = range(8000, 48001)

# Of a telephone, in the order of RFC 4733, table 3: the events 0 to 15.
KEYS: Final = tuple("0123456789*#ABCD")

# How far ahead frames go to a far end that plays what it has, in order. 60 ms outlast an event loop that is 20 ms late
# and the jitter of a usual path over the internet. They cost no delay where a service sends as much at once, and no
# reaction to an interruption, because the far end can be told to forget them.
LEAD_MS: Final = 60


class Media(NamedTuple):
    """Audio of the caller, in order.

    Args:
        payload: The audio in the wire format, PCM little-endian.
        audio_format: Its wire format name.
        chunk: Its number, counted by the far end from 1; None where there is no count.
        timestamp_ms: When it begins on the far end's clock; None where there is no clock.
    """

    payload: bytes
    audio_format: str
    chunk: int | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Packet:
    """Audio of the caller that may be late, lost or out of order.

    Args:
        payload: The audio in the wire format, PCM little-endian.
        audio_format: Its wire format name.
        sequence: 16 bits, wraps.
        timestamp: Of its first sample on the sender's clock, 32 bits, wraps.
        is_new_source: True for the first packet of another sender, whose counts begin anew.
    """

    payload: bytes
    audio_format: str
    sequence: int
    timestamp: int
    is_new_source: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that we sent has come back.

    Args:
        name: The name that we gave it.
        message: The message as it came, for those who sent marks of their own.
    """

    name: str
    message: Mapping[str, Any]


WireEvent = CallStarted | Media | Packet | Dtmf | Mark | CallEnded | Unknown


class Framing(Protocol):
    """One vendor's way to carry a call.

    Attributes:
        has_marks: The far end says when it has played what came before a mark.
        has_clear: The far end buffers, and can be told to forget it.
        is_steady: The far end expects a frame in every interval, silence included.
        lead_ms: How far ahead of its place in time a frame is sent, and so how much has to be there at the start.
        is_big_endian: PCM goes out with the high byte first.
        output_format: Wire format name of the audio to send; None until the call has started.
        unit_bytes: What the size of a frame has to be a multiple of.
    """

    has_marks: bool
    has_clear: bool
    is_steady: bool
    lead_ms: int
    is_big_endian: bool
    output_format: str | None
    unit_bytes: int

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse what the far end sent; raise WireError where it breaks the rules."""
        ...

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build the message for one frame; `interval` counts frames, those that were not sent included."""
        ...

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build what asks to be told when all before it was played; nothing where there are no marks."""
        ...

    def build_clear(self) -> Sequence[Message]:
        """Build what makes the far end forget what it has not played; nothing where that is impossible."""
        ...


def choose_format(encoding: str | None, formats: Sequence[str]) -> str:
    """Return the wire format that was asked for, the first one if none was.

    Raises:
        AudioError: The framing does not carry it.
    """
    if encoding is None:
        return formats[0]
    if encoding not in formats:
        raise AudioError(f"expected an encoding of {', '.join(formats)}, got {encoding}")
    return encoding


def expect_first_start(output_format: str | None) -> None:
    """Raise WireError if the call has started already: whoever sends a second start speaks of another call."""
    if output_format is not None:
        raise WireError(f"expected one start of the call, got a second one in {output_format}")


def parse_json(data: Message) -> dict[str, Any]:
    """Parse one JSON object; raise WireError where it is none."""
    return decode_message(data)


def required_field(message: Mapping[str, Any], *path: str) -> Any:
    """Return a field of a message by its path; raise WireError where it is missing or null."""
    value: Any = optional_field(message, *path)
    if value is None:
        raise WireError(f"expected a field {'.'.join(path)}, got {sorted(message)!s:.200}")
    return value


def optional_field(message: Mapping[str, Any], *path: str) -> Any:
    """Return a field of a message by its path, None where it or what holds it is missing."""
    value: Any = message
    for depth, name in enumerate(path):
        if not isinstance(value, dict):  # as JSON has it; the abstract class takes as long as the rest
            raise WireError(f"expected an object in {'.'.join(path[:depth])}, got {type(value).__name__}")
        value = value.get(name)
        if value is None:
            return None
    return value


def object_field(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object in a message, an empty one where it is missing or null."""
    value = message.get(name)
    if isinstance(value, dict):
        return value
    if value is not None:
        raise WireError(f"expected an object in {name}, got {type(value).__name__}")
    return {}


def optional_count(fields: Mapping[str, Any], parent: str, name: str) -> int | None:
    """Return a count in the object `parent`, None where it is missing or null."""
    value = fields.get(name)
    return None if value is None else whole_number(value, f"{parent}.{name}")


def whole_number(value: Any, name: str) -> int:
    """Return a count that vendors write as a number or as a string of digits; raise WireError beyond 64 bits."""
    # Longer ones are no counts, and Python takes its time to read them.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < len(str(MAX_COUNT)):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_COUNT:
        return value
    raise WireError(f"expected a whole number in {name}, got {value!r:.40}")


def read_key(message: Mapping[str, Any], *path: str) -> Dtmf | Unknown:
    """Return the key that a field names, or the message itself where there is no such key."""
    digit = str(required_field(message, *path))
    return Dtmf(digit) if digit in KEYS else Unknown(message)


def string_parameters(message: Mapping[str, Any], *path: str) -> dict[str, str]:
    """Return an object of names and values that the application had put into its request; empty where it is missing."""
    parameters = optional_field(message, *path)
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise WireError(f"expected an object in {'.'.join(path)}, got {type(parameters).__name__}")
    return {name: str(value) for name, value in parameters.items()}


def decode_payload(message: Mapping[str, Any], *path: str) -> bytes:
    """Return the bytes of a field in base64."""
    text = required_field(message, *path)
    if not isinstance(text, str):
        raise WireError(f"expected base64 in {'.'.join(path)}, got {type(text).__name__}")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise WireError(f"expected base64 in {'.'.join(path)}, got {text!r:.40}: {error}") from None


def expect_whole_samples(payload: bytes, audio_format: str) -> None:
    """Raise WireError if half a sample is left over, which would make noise of all that comes after it."""
    sample_bytes = bytes_per_sample(audio_format)
    if len(payload) % sample_bytes:
        raise WireError(f"expected whole samples of {sample_bytes} bytes, got {len(payload)} bytes of audio")


def quote(text: str) -> str:
    """Return a JSON string."""
    return json.dumps(text)
