"""The wire of Asterisk's AudioSocket, from its page in Asterisk's documentation and the protocol's own description.

https://docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket
https://github.com/CyCoreSystems/audiosocket

A stream of bytes over TCP: a byte that tells the kind, two for the length with the high byte first, and the payload.
PCM is little-endian. The far end passes audio on as it comes, so frames go out in time and one in every interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from speechwire.errors import WireError
from speechwire.events import Unknown
from speechwire.telephony.events import CallEnded, CallStarted, Dtmf
from speechwire.telephony.framing import CALL_RATES, KEYS, Media, Message, WireEvent, choose_format

__all__ = ["AudioSocket"]

HANGUP: Final = 0x00
UUID_KIND: Final = 0x01
DTMF: Final = 0x03
# Kinds above 0x10 exist from Asterisk 20 on where the higher rates were asked for.
AUDIO: Final = {
    0x10: "pcm_8000",
    0x11: "pcm_12000",
    0x12: "pcm_16000",
    0x13: "pcm_24000",
    0x14: "pcm_32000",
    0x15: "pcm_44100",
    0x16: "pcm_48000",
    0x17: "pcm_96000",
    0x18: "pcm_192000",
}
# What can be sent.
FORMATS: Final = tuple(name for name in AUDIO.values() if int(name.removeprefix("pcm_")) in CALL_RATES)
ERROR: Final = 0xFF
HEADER_BYTES: Final = 3
UUID_BYTES: Final = 16
# Asterisk's own error codes are bits of one byte.
ERROR_BITS: Final = {0x01: "the calling party hung up", 0x02: "a frame was not forwarded", 0x04: "no memory"}


class AudioSocket:
    """One connection.

    Args:
        encoding: What is sent, "pcm_8000" or a higher rate, up to 48 kHz, that the channel was made with.
    """

    has_marks = False
    has_clear = False
    is_steady = True
    is_big_endian = False
    lead_ms = 0  # there is no buffer at the far end that could be filled
    output_format: str | None = None
    unit_bytes = 1

    def __init__(self, encoding: str | None = None) -> None:
        self._format = choose_format(encoding, FORMATS)
        self._kind = next(kind for kind, name in AUDIO.items() if name == self._format)
        self._waiting = bytearray()

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Take a piece of the stream, cut anywhere, and parse the messages that it completes."""
        if isinstance(data, str):
            raise WireError(f"expected bytes, got a text of {len(data)} characters")
        self._waiting += data
        events: list[WireEvent] = []
        while len(self._waiting) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._waiting[1:HEADER_BYTES], "big")
            if len(self._waiting) < end:
                break
            events.append(self._parse(self._waiting[0], bytes(self._waiting[HEADER_BYTES:end])))
            del self._waiting[:end]
        return events

    def _parse(self, kind: int, payload: bytes) -> WireEvent:
        if kind in AUDIO and len(payload) % 2 == 0:
            return Media(payload, AUDIO[kind])
        if kind == UUID_KIND and len(payload) == UUID_BYTES and self.output_format is None:
            self.output_format = self._format
            rate = int(self._format.removeprefix("pcm_"))
            return CallStarted(_uuid(payload), "", self._format, rate)
        if kind == DTMF and payload.decode("latin-1") in KEYS:
            return Dtmf(payload.decode("ascii"))
        if kind == HANGUP:
            return CallEnded("the far end hung up")
        if kind == ERROR:
            code = int.from_bytes(payload[:1], "big")
            said = [text for bit, text in ERROR_BITS.items() if code & bit]
            return CallEnded(
                f"the far end sent error {payload.hex() or 'without a code'}: {', '.join(said) or 'unknown'}"
            )
        # The length has been read, so what follows can be, whatever this was.
        return Unknown({"kind": kind, "payload": payload})

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build an audio message."""
        return bytes((self._kind,)) + len(payload).to_bytes(2, "big") + payload

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build nothing: there are no marks."""
        return ()

    def build_clear(self) -> Sequence[Message]:
        """Build nothing: there is nothing to clear."""
        return ()


def _uuid(payload: bytes) -> str:
    """Return the text of a UUID (RFC 9562, section 4)."""
    digits = payload.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
