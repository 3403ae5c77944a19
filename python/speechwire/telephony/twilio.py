"""The wire of Twilio's Media Streams, from its page "Media Streams - WebSocket Messages".

https://www.twilio.com/docs/voice/media-streams/websocket-messages

It says of `clear` that the buffer is emptied and that all marks which have not been reached come back at once: marks
that come back after a `clear` do not tell that anything was heard. Numbers inside messages are strings.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from speechwire.errors import WireError
from speechwire.events import Unknown
from speechwire.telephony.events import CallEnded, CallStarted
from speechwire.telephony.framing import (
    LEAD_MS,
    Mark,
    Media,
    Message,
    WireEvent,
    choose_format,
    decode_payload,
    expect_first_start,
    object_field,
    optional_count,
    optional_field,
    parse_json,
    quote,
    read_key,
    required_field,
    string_parameters,
)

__all__ = ["Twilio"]

EVENT: Final = "event"
CONNECTED: Final = "connected"
START: Final = "start"
MEDIA: Final = "media"
DTMF: Final = "dtmf"
MARK: Final = "mark"
STOP: Final = "stop"
STREAM_SID: Final = "streamSid"
CALL_SID: Final = "callSid"
CUSTOM_PARAMETERS: Final = "customParameters"
MEDIA_FORMAT: Final = "mediaFormat"
ENCODING: Final = "encoding"
MULAW: Final = "audio/x-mulaw"
INBOUND: Final = "inbound"
# The only format there is, in both directions.
FORMATS: Final = ("ulaw_8000",)


class Twilio:
    """One bidirectional stream, which begins with `<Connect><Stream>`."""

    has_marks = True
    has_clear = True
    is_steady = False
    is_big_endian = False
    lead_ms = LEAD_MS
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        self._format = choose_format(encoding, FORMATS)
        self._stream_sid = quote("")

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse one WebSocket message."""
        message = parse_json(data)
        event = message.get(EVENT)
        if event == MEDIA:
            return self._media(message)
        if event == MARK:
            return [Mark(str(required_field(message, MARK, "name")), message)]
        if event == DTMF:
            return [read_key(message, DTMF, "digit")]
        if event == START:
            return [self._start(message)]
        if event == STOP:
            return [CallEnded("the far end sent stop")]
        return [] if event == CONNECTED else [Unknown(message)]

    def _media(self, message: Mapping[str, Any]) -> Sequence[WireEvent]:
        fields = object_field(message, MEDIA)
        if fields.get("track") not in (INBOUND, None):
            return [Unknown(message)]
        payload = decode_payload(message, MEDIA, "payload")
        chunk = optional_count(fields, MEDIA, "chunk")
        return [Media(payload, self._format, chunk, optional_count(fields, MEDIA, "timestamp"))]

    def _start(self, message: Mapping[str, Any]) -> CallStarted:
        expect_first_start(self.output_format)
        stream_sid = str(required_field(message, START, STREAM_SID))
        encoding = optional_field(message, START, MEDIA_FORMAT, ENCODING)
        if encoding not in (MULAW, None):
            raise WireError(f"expected an encoding of {MULAW}, got {encoding!r:.40}")
        parameters = string_parameters(message, START, CUSTOM_PARAMETERS)
        self._stream_sid = quote(stream_sid)
        self.output_format = self._format
        return CallStarted(
            call_id=str(optional_field(message, START, CALL_SID) or ""),
            stream_id=stream_sid,
            encoding=self._format,
            sample_rate=8000,
            parameters=parameters,
        )

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a `media` message."""
        text = b2a_base64(payload, newline=False).decode()
        return f'{{"event":"media","streamSid":{self._stream_sid},"media":{{"payload":"{text}"}}}}'

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build a `mark` message."""
        return [f'{{"event":"mark","streamSid":{self._stream_sid},"mark":{{"name":{quote(name)}}}}}']

    def build_clear(self) -> Sequence[Message]:
        """Build a `clear` message."""
        return [f'{{"event":"clear","streamSid":{self._stream_sid}}}']
