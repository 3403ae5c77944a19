"""The wire of Telnyx's media streaming, from "Stream call media over WebSocket" and "Media Streaming over Websockets".

https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket
https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming

What comes in has the encoding of `start.media_format`, which is often that of the caller's telephone network; what goes
out has the one that the request for the stream named in `stream_bidirectional_codec`, with its mode "rtp". They may
differ. Where the documents are silent: L16 is called a payload of RTP, so it has the byte order of RTP (RFC 3551,
section 4.5.11), the high byte first. Marks that come back after a `clear` confirm nothing.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

from speechwire.audioop import byteswap
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
    expect_whole_samples,
    object_field,
    optional_count,
    optional_field,
    parse_json,
    quote,
    read_key,
    required_field,
    string_parameters,
    whole_number,
)

__all__ = ["Telnyx"]

EVENT: Final = "event"
CONNECTED: Final = "connected"
START: Final = "start"
MEDIA: Final = "media"
DTMF: Final = "dtmf"
MARK: Final = "mark"
STOP: Final = "stop"
STREAM_ID: Final = "stream_id"
CALL_CONTROL_ID: Final = "call_control_id"
CUSTOM_PARAMETERS: Final = "custom_parameters"
MEDIA_FORMAT: Final = "media_format"
INBOUND: Final = "inbound"
PREFIXES: Final = {"PCMU": "ulaw", "PCMA": "alaw", "L16": "pcm"}
L16: Final = "L16"
FORMATS: Final = ("ulaw_8000", "alaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_48000")
# The documents promise no order of media messages. Three frames are waited for one that is missing, which is more than
# any two threads of a sender are apart, and less than a listener minds.
MAX_HELD: Final = 3
# A chunk that is further behind than this is not late: the far end counts anew.
MAX_LATE: Final = 100


class Telnyx:
    """One bidirectional stream in mode "rtp".

    Args:
        encoding: What the request for the stream named as the codec to send: "ulaw_8000", "alaw_8000", or PCM.
    """

    has_marks = True
    has_clear = True
    is_steady = False
    is_big_endian = True
    lead_ms = LEAD_MS
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        self._format = choose_format(encoding, FORMATS)
        self._input_format = ""
        self._next_chunk: int | None = None
        self._held: dict[int, Media] = {}

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
            return [*self._release(0), CallEnded("the far end sent stop")]
        return [] if event == CONNECTED else [Unknown(message)]

    def _start(self, message: Mapping[str, Any]) -> CallStarted:
        expect_first_start(self.output_format)
        encoding = required_field(message, START, MEDIA_FORMAT, "encoding")
        sample_rate = whole_number(required_field(message, START, MEDIA_FORMAT, "sample_rate"), "sample_rate")
        prefix = PREFIXES.get(str(encoding))
        if prefix is None or f"{prefix}_{sample_rate}" not in FORMATS:
            raise WireError(f"expected an encoding of {', '.join(PREFIXES)}, got {encoding!r:.40} at {sample_rate} Hz")
        self._input_format = f"{prefix}_{sample_rate}"
        self.output_format = self._format
        return CallStarted(
            call_id=str(optional_field(message, START, CALL_CONTROL_ID) or ""),
            stream_id=str(required_field(message, STREAM_ID)),
            encoding=self._input_format,
            sample_rate=sample_rate,
            parameters=string_parameters(message, START, CUSTOM_PARAMETERS),
        )

    def _media(self, message: Mapping[str, Any]) -> Sequence[WireEvent]:
        if not self._input_format:
            raise WireError(f"expected {START} before {MEDIA}, got {MEDIA}")
        fields = object_field(message, MEDIA)
        if fields.get("track") not in (INBOUND, None):
            return [Unknown(message)]
        payload = decode_payload(message, MEDIA, "payload")
        expect_whole_samples(payload, self._input_format)
        if self._input_format.startswith("pcm"):
            payload = byteswap(payload, 2)
        chunk = optional_count(fields, MEDIA, "chunk")
        media = Media(payload, self._input_format, chunk, optional_count(fields, MEDIA, "timestamp"))
        return [media] if media.chunk is None else self._in_order(media, media.chunk)

    def _in_order(self, media: Media, chunk: int) -> Sequence[Media]:
        behind = 0 if self._next_chunk is None else self._next_chunk - chunk
        if 0 < behind <= MAX_LATE:
            return []
        released = self._release(0) if behind > MAX_LATE else []
        if self._next_chunk is None or behind > MAX_LATE:
            self._next_chunk = chunk
        self._held[chunk] = media
        return released + self._release(MAX_HELD)

    def _release(self, max_held: int) -> list[Media]:
        """Return what is in order, and what follows a hole if more than so many wait behind it."""
        released = []
        while self._held:
            if self._next_chunk not in self._held:
                if len(self._held) <= max_held:
                    break
                self._next_chunk = min(self._held)
            assert self._next_chunk is not None
            released.append(self._held.pop(self._next_chunk))
            self._next_chunk += 1
        return released

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a `media` message."""
        return f'{{"event":"media","media":{{"payload":"{b2a_base64(payload, newline=False).decode()}"}}}}'

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build a `mark` message."""
        return [f'{{"event":"mark","mark":{{"name":{quote(name)}}}}}']

    def build_clear(self) -> Sequence[Message]:
        """Build a `clear` message."""
        return ['{"event":"clear"}']
