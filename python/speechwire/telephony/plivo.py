"""The wire of Plivo's audio streaming, from its pages "Audio Streaming" and "Checkpoint event".

https://plivo.com/docs/voice/audio-streaming/audio-streaming
https://plivo.com/docs/voice/xml/the-stream-element/checkpoint-event

`playedStream` comes only for audio that was played to its end, so a `clearAudio` lets none come for the rest. Where the
documents are silent: L16 is little-endian, as those send it whose code is public; the timestamps are those of a
server's clock and not of the audio, so no gaps are read from them; a `stop` would be the end, which is otherwise the
end of the connection.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from speechwire.errors import WireError
from speechwire.events import Unknown
from speechwire.formats import sample_rate
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
    expect_whole_samples,
    object_field,
    optional_count,
    optional_field,
    parse_json,
    quote,
    read_key,
    required_field,
    whole_number,
)

__all__ = ["Plivo"]

EVENT: Final = "event"
START: Final = "start"
MEDIA: Final = "media"
DTMF: Final = "dtmf"
PLAYED_STREAM: Final = "playedStream"
CLEARED_AUDIO: Final = "clearedAudio"
STOP: Final = "stop"
STREAM_ID: Final = "streamId"
CALL_ID: Final = "callId"
MEDIA_FORMAT: Final = "mediaFormat"
EXTRA_HEADERS: Final = "extra_headers"
INBOUND: Final = "inbound"
CONTENT_TYPES: Final = {"ulaw_8000": "audio/x-mulaw", "pcm_8000": "audio/x-l16", "pcm_16000": "audio/x-l16"}


class Plivo:
    """One stream with the attribute `bidirectional`.

    Args:
        encoding: What is sent: "ulaw_8000", "pcm_8000" or "pcm_16000"; None for the format of what comes in.
    """

    has_marks = True
    has_clear = True
    is_steady = False
    is_big_endian = False
    lead_ms = LEAD_MS
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        self._format = None if encoding is None else choose_format(encoding, tuple(CONTENT_TYPES))
        self._input_format = ""
        self._stream_id = quote("")
        self._media_head = ""

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse one WebSocket message."""
        message = parse_json(data)
        event = message.get(EVENT)
        if event == MEDIA:
            return self._media(message)
        if event == PLAYED_STREAM:
            return [Mark(str(required_field(message, "name")), message)]
        if event == DTMF:
            return [read_key(message, DTMF, "digit")]
        if event == START:
            return [self._start(message)]
        if event == STOP:
            return [CallEnded("the far end sent stop")]
        return [] if event == CLEARED_AUDIO else [Unknown(message)]

    def _start(self, message: Mapping[str, Any]) -> CallStarted:
        expect_first_start(self.output_format)
        stream_id = str(required_field(message, START, STREAM_ID))
        encoding = required_field(message, START, MEDIA_FORMAT, "encoding")
        rate = whole_number(required_field(message, START, MEDIA_FORMAT, "sampleRate"), "sampleRate")
        formats = [name for name, kind in CONTENT_TYPES.items() if kind == encoding and sample_rate(name) == rate]
        if not formats:
            kinds = ", ".join(sorted(set(CONTENT_TYPES.values())))
            raise WireError(f"expected an encoding of {kinds}, got {encoding!r:.40} at {rate} Hz")
        self._input_format = formats[0]
        self.output_format = self._format or formats[0]
        self._stream_id = quote(stream_id)
        self._media_head = (
            f'{{"event":"playAudio","media":{{"contentType":"{CONTENT_TYPES[self.output_format]}",'
            f'"sampleRate":{sample_rate(self.output_format)},"payload":"'
        )
        return CallStarted(
            call_id=str(optional_field(message, START, CALL_ID) or ""),
            stream_id=stream_id,
            encoding=self._input_format,
            sample_rate=rate,
            parameters=_extra_headers(optional_field(message, EXTRA_HEADERS)),
        )

    def _media(self, message: Mapping[str, Any]) -> Sequence[WireEvent]:
        if not self._input_format:
            raise WireError(f"expected {START} before {MEDIA}, got {MEDIA}")
        fields = object_field(message, MEDIA)
        if fields.get("track") not in (INBOUND, None):
            return [Unknown(message)]
        payload = decode_payload(message, MEDIA, "payload")
        expect_whole_samples(payload, self._input_format)
        return [Media(payload, self._input_format, optional_count(fields, MEDIA, "chunk"))]

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a `playAudio` message."""
        text = b2a_base64(payload, newline=False).decode()
        return f'{self._media_head}{text}"}},"streamId":{self._stream_id}}}'

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build a `checkpoint` message."""
        return [f'{{"event":"checkpoint","streamId":{self._stream_id},"name":{quote(name)}}}']

    def build_clear(self) -> Sequence[Message]:
        """Build a `clearAudio` message."""
        return [f'{{"event":"clearAudio","streamId":{self._stream_id}}}']


def _extra_headers(headers: Any) -> dict[str, str]:
    """Return the headers of `name=value;name=value` or of a JSON object; other texts under the name of the field."""
    text = str(headers or "")
    if isinstance(headers, str) and headers.startswith("{"):
        try:
            headers = parse_json(headers)
        except WireError:
            return {EXTRA_HEADERS: text}
    if isinstance(headers, dict):
        return {name: str(value) for name, value in headers.items()}
    pairs = [part.partition("=") for part in text.split(";") if part]
    if all(name and separator for name, separator, _ in pairs):
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {EXTRA_HEADERS: text}
