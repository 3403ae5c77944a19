"""The wire of Vonage's Voice API for a WebSocket endpoint, from its guide "WebSockets in the Vonage Voice API".

https://developer.vonage.com/en/voice/voice-api/guides/websockets

Audio is 16-bit linear PCM, little-endian, in binary messages of 20 ms; all else is JSON in text messages. A `notify` is
answered when what came before it has been played. Where the guide is silent: a notification that comes after a `clear`
confirms nothing. The end of the call is the end of the connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from speechwire.errors import WireError
from speechwire.events import Unknown
from speechwire.telephony.events import CallStarted
from speechwire.telephony.framing import (
    LEAD_MS,
    Mark,
    Media,
    Message,
    WireEvent,
    choose_format,
    expect_first_start,
    optional_field,
    parse_json,
    quote,
    read_key,
    required_field,
)

__all__ = ["Vonage"]

EVENT: Final = "event"
CONNECTED: Final = "websocket:connected"
CLEARED: Final = "websocket:cleared"
NOTIFY: Final = "websocket:notify"
DTMF: Final = "websocket:dtmf"
CONTENT_TYPE: Final = "content-type"
CONTENT_TYPE_L16: Final = re.compile(r"audio/l16;\s*rate=([0-9]{4,6})")
# The guide leaves the content of a notification to the application.
MARK: Final = "mark"
FORMATS: Final = ("pcm_16000", "pcm_8000", "pcm_24000")


class Vonage:
    """One call that is connected to a WebSocket; its rate is what `websocket:connected` says, in both directions.

    Args:
        encoding: The format that has to come, "pcm_8000", "pcm_16000" or "pcm_24000"; None for any of them.
    """

    has_marks = True
    has_clear = True
    is_steady = False
    is_big_endian = False
    lead_ms = LEAD_MS
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        self._formats = FORMATS if encoding is None else (choose_format(encoding, FORMATS),)

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse one WebSocket message: text is JSON, bytes are audio."""
        if not isinstance(data, str):
            if self.output_format is None:
                raise WireError(f"expected {CONNECTED} first, got {len(data)} bytes of audio")
            return [Media(data, self.output_format)]
        message = parse_json(data)
        event = message.get(EVENT)
        if event == NOTIFY:
            name = optional_field(message, "payload", MARK)
            return [Unknown(message)] if name is None else [Mark(str(name), message)]
        if event == DTMF:
            return [read_key(message, "digit")]
        if event == CONNECTED:
            return [self._connected(message)]
        return [] if event == CLEARED else [Unknown(message)]

    def _connected(self, message: Mapping[str, Any]) -> CallStarted:
        expect_first_start(self.output_format)
        content_type = str(required_field(message, CONTENT_TYPE))
        match = CONTENT_TYPE_L16.fullmatch(content_type)
        audio_format = f"pcm_{int(match[1])}" if match else ""
        if audio_format not in self._formats:
            raise WireError(f"expected audio of {', '.join(self._formats)}, got {content_type!r:.60}")
        self.output_format = audio_format
        # The headers that the application asked for stand beside the fields of the message.
        headers = {name: str(value) for name, value in message.items() if name not in (EVENT, CONTENT_TYPE)}
        return CallStarted("", "", audio_format, int(audio_format.removeprefix("pcm_")), headers)

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a binary message."""
        return payload

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build a `notify` action."""
        return [f'{{"action":"notify","payload":{{"{MARK}":{quote(name)}}}}}']

    def build_clear(self) -> Sequence[Message]:
        """Build a `clear` action."""
        return ['{"action":"clear"}']
