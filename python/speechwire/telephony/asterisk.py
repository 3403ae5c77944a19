"""The wire of Asterisk's WebSocket channel driver, chan_websocket, from its page in Asterisk's documentation.

https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/

Media are binary messages, commands and events are text: plain words, or JSON where the channel was made with
`f(json)`; the first event tells which, and commands have to be the same. The driver queues what it gets, cuts it into
frames and drops what is left over, so only whole frames may be sent. A mark is processed when the queue has come to it;
`FLUSH_MEDIA` throws marks away with the media, so theirs never come back (channels/chan_websocket.c). `MEDIA_XOFF`
comes at 900 frames, which a sender that keeps time never reaches. The end of the call is the end of the connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from speechwire.errors import WireError
from speechwire.events import Unknown
from speechwire.formats import sample_rate
from speechwire.telephony.events import CallStarted
from speechwire.telephony.framing import (
    LEAD_MS,
    Mark,
    Media,
    Message,
    WireEvent,
    choose_format,
    expect_first_start,
    parse_json,
    quote,
    read_key,
    required_field,
    string_parameters,
    whole_number,
)

__all__ = ["ChanWebSocket"]

EVENT: Final = "event"
MEDIA_START: Final = "MEDIA_START"
MEDIA_MARK_PROCESSED: Final = "MEDIA_MARK_PROCESSED"
DTMF_END: Final = "DTMF_END"
CORRELATION_ID: Final = "correlation_id"
CHANNEL_VARIABLES: Final = "channel_variables"
MARK_MEDIA: Final = "MARK_MEDIA"
FLUSH_MEDIA: Final = "FLUSH_MEDIA"
# Asterisk's names of formats. Signed linear is in the byte order of the machine, taken to be little-endian.
FORMATS: Final = {
    "ulaw": "ulaw_8000",
    "alaw": "alaw_8000",
    "slin": "pcm_8000",
    "slin12": "pcm_12000",
    "slin16": "pcm_16000",
    "slin24": "pcm_24000",
    "slin32": "pcm_32000",
    "slin44": "pcm_44100",
    "slin48": "pcm_48000",
}
# Numbers of an event in plain text are separated from its name by spaces, and from theirs by the first colon.
SEPARATOR: Final = ":"


class ChanWebSocket:
    """One channel; its format is what `MEDIA_START` says, in both directions.

    Args:
        encoding: The format that has to come; None for any that can be spoken.
    """

    has_marks = True
    has_clear = True
    is_steady = False
    is_big_endian = False
    lead_ms = LEAD_MS
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        every = tuple(FORMATS.values())
        self._formats = every if encoding is None else (choose_format(encoding, every),)
        self._speaks_json = False

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse one WebSocket message: text is an event, bytes are media."""
        if not isinstance(data, str):
            if self.output_format is None:
                raise WireError(f"expected {MEDIA_START} first, got {len(data)} bytes of media")
            return [Media(data, self.output_format)]
        is_json = data.lstrip().startswith("{")
        message = parse_json(data) if is_json else _parse_words(data)
        event = message.get(EVENT)
        if event == MEDIA_MARK_PROCESSED:
            return [Mark(str(required_field(message, CORRELATION_ID)), message)]
        if event == DTMF_END:
            return [read_key(message, "digit")]
        if event == MEDIA_START:
            started = self._start(message)
            self._speaks_json = is_json
            return [started]
        return [Unknown(message)]

    def _start(self, message: Mapping[str, Any]) -> CallStarted:
        expect_first_start(self.output_format)
        name = str(required_field(message, "format"))
        audio_format = FORMATS.get(name, "")
        if audio_format not in self._formats:
            raise WireError(f"expected media of {', '.join(self._formats)}, got {name!r:.40}")
        rate = sample_rate(audio_format)
        assert rate is not None
        self.unit_bytes = max(1, whole_number(required_field(message, "optimal_frame_size"), "optimal_frame_size"))
        self.output_format = audio_format
        return CallStarted(
            call_id=str(message.get("channel_id") or required_field(message, "channel")),
            stream_id=str(required_field(message, "connection_id")),
            encoding=audio_format,
            sample_rate=rate,
            parameters=string_parameters(message, CHANNEL_VARIABLES),
        )

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a binary message."""
        return payload

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build a `MARK_MEDIA` command."""
        if self._speaks_json:
            return [f'{{"command":"{MARK_MEDIA}","{CORRELATION_ID}":{quote(name)}}}']
        return [f"{MARK_MEDIA} {name}"]

    def build_clear(self) -> Sequence[Message]:
        """Build a `FLUSH_MEDIA` command."""
        return [f'{{"command":"{FLUSH_MEDIA}"}}' if self._speaks_json else FLUSH_MEDIA]


def _parse_words(text: str) -> dict[str, Any]:
    """Return the fields of an event in plain text; the one word that has no name is a correlation id."""
    event, *words = text.split()[:64] or [""]
    message: dict[str, Any] = {EVENT: event}
    for word in words:
        name, separator, value = word.partition(SEPARATOR)
        message[name if separator else CORRELATION_ID] = value if separator else word
    return message
