"""RTP packets of a call: the header of RFC 3550, the payloads of RFC 3551, keys by RFC 4733.

Payload types 0 (PCMU) and 8 (PCMA) are those of RFC 3551, table 4; that of linear PCM, which goes with the high byte
first (section 4.5.11), and that of keys are agreed upon for the call, in its SDP. Signalling is not done here, nor
RTCP: its packets on the same port (RFC 5761, section 4) are passed over, and so is comfort noise (RFC 3389).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from speechwire.audioop import byteswap
from speechwire.errors import AudioError, WireError
from speechwire.events import Unknown
from speechwire.formats import bytes_per_sample, sample_rate
from speechwire.telephony.events import CallStarted, Dtmf
from speechwire.telephony.framing import CALL_RATES, KEYS, Message, Packet, WireEvent

__all__ = ["DTMF_PAYLOAD_TYPE", "L16_PAYLOAD_TYPE", "Rtp"]

HEADER_BYTES: Final = 12
VERSION: Final = 2
PCMU: Final = 0
PCMA: Final = 8
COMFORT_NOISE: Final = 13
STATIC_TYPES: Final = {PCMU: "ulaw_8000", PCMA: "alaw_8000"}
DYNAMIC_TYPES: Final = range(96, 128)
# What most SDP offers; any of the above may be agreed upon.
L16_PAYLOAD_TYPE: Final = 96
DTMF_PAYLOAD_TYPE: Final = 101
# The types of RTCP, as the second byte of a packet of RTP would have them (RFC 5761, section 4).
RTCP: Final = range(192, 224)
EVENT_BYTES: Final = 4
# What begins so many samples or more before the last key is not late: the sender counts anew. A second at 8 kHz.
MAX_KEY_BEHIND: Final = 8000


class Rtp:
    """One call's packets; each message is the content of one datagram, in both directions.

    Args:
        ssrc: Our number as a sender, 32 random bits (RFC 3550, section 8).
        encoding: What is sent: "ulaw_8000", "alaw_8000", or PCM of 8 to 48 kHz.
        sequence: The number of the first packet, 16 random bits.
        timestamp: The time of the first packet, 32 random bits.
        payload_type: That of PCM, in both directions, 96 to 127.
        dtmf_payload_type: That of keys, 96 to 127.

    Raises:
        AudioError: The encoding is none of these, or a number is out of range.
    """

    has_marks = False
    has_clear = False
    is_steady = True
    is_big_endian = True
    unit_bytes = 1
    lead_ms = 0  # the far end's jitter buffer measures delay: what comes early makes it shrink

    def __init__(
        self,
        *,
        ssrc: int,
        encoding: str = "ulaw_8000",
        sequence: int = 0,
        timestamp: int = 0,
        payload_type: int = L16_PAYLOAD_TYPE,
        dtmf_payload_type: int = DTMF_PAYLOAD_TYPE,
    ) -> None:
        for name, value, bits in (("ssrc", ssrc, 32), ("sequence", sequence, 16), ("timestamp", timestamp, 32)):
            if not 0 <= value < 1 << bits:
                raise AudioError(f"expected {bits} bits of {name}, got {value}")
        for name, value in (("payload_type", payload_type), ("dtmf_payload_type", dtmf_payload_type)):
            if value not in DYNAMIC_TYPES:
                raise AudioError(f"expected a {name} of 96 to 127, got {value}")
        if payload_type == dtmf_payload_type:
            raise AudioError(f"expected a payload type for each of PCM and keys, got {payload_type} for both")
        rate = sample_rate(encoding)
        if rate is None or not (encoding in STATIC_TYPES.values() or encoding.startswith("pcm_")):
            raise AudioError(f"expected an encoding of {', '.join(STATIC_TYPES.values())} or pcm, got {encoding}")
        if rate not in CALL_RATES:
            raise AudioError(f"expected a sample rate of 8000 to 48000 Hz, got {rate}")
        self.output_format: str | None = encoding
        self._formats = {payload_type: encoding} | STATIC_TYPES if encoding.startswith("pcm_") else dict(STATIC_TYPES)
        self._type = next(number for number, name in self._formats.items() if name == encoding)
        self._dtmf_type = dtmf_payload_type
        self._bytes_per_sample = bytes_per_sample(encoding)
        self._ssrc = ssrc.to_bytes(4, "big")
        self._sequence = sequence
        self._timestamp = timestamp
        self._next_interval = 0
        self._source: bytes | None = None  # whom we listen to
        self._candidate: tuple[bytes, int] | None = None  # somebody else, and the number that would follow
        self._last_key: tuple[bytes, int] | None = None  # source and time of the last key

    def receive_message(self, data: Message) -> Sequence[WireEvent]:
        """Parse one datagram."""
        if isinstance(data, str):
            raise WireError(f"expected bytes, got a text of {len(data)} characters")
        data = bytes(data)
        if len(data) < HEADER_BYTES:
            raise WireError(f"expected at least {HEADER_BYTES} bytes, got {len(data)}")
        if data[0] >> 6 != VERSION:
            raise WireError(f"expected RTP version {VERSION}, got {data[0] >> 6}")
        if data[1] in RTCP:
            return []
        payload, payload_type = _payload(data), data[1] & 0x7F
        source, sequence = data[8:12], int.from_bytes(data[2:4], "big")
        if payload_type == COMFORT_NOISE:
            return []
        if payload_type == self._dtmf_type:
            return self._key(source, int.from_bytes(data[4:8], "big"), payload)
        audio_format = self._formats.get(payload_type)
        if audio_format is None or len(payload) % bytes_per_sample(audio_format):
            return [Unknown({"payload_type": payload_type, "payload": payload})]
        if not payload:
            return []
        events: list[WireEvent] = []
        is_new_source = source != self._source
        if is_new_source and self._source is None:
            rate = sample_rate(audio_format)
            assert rate is not None
            events.append(CallStarted("", source.hex(), audio_format, rate))
        elif is_new_source and self._candidate != (source, sequence):
            # A stray packet does not end a stream: the next sender has two in a row (RFC 3550, appendix A.1).
            self._candidate = (source, (sequence + 1) & 0xFFFF)
            return []
        self._source, self._candidate = source, None
        if audio_format.startswith("pcm_"):
            payload = byteswap(payload, 2)
        timestamp = int.from_bytes(data[4:8], "big")
        return [*events, Packet(payload, audio_format, sequence, timestamp, is_new_source)]

    def _key(self, source: bytes, timestamp: int, payload: bytes) -> Sequence[WireEvent]:
        """Tell a key once, at its first packet: all packets of one have the time of its beginning."""
        if len(payload) < EVENT_BYTES or payload[0] >= len(KEYS):
            return [Unknown({"payload_type": self._dtmf_type, "payload": payload})]
        last_source, last_timestamp = self._last_key or (b"", 0)
        # The last packets of a key may come behind the first ones of the next.
        if source == last_source and (last_timestamp - timestamp) & 0xFFFFFFFF < MAX_KEY_BEHIND:
            return []
        self._last_key = (source, timestamp)
        return [Dtmf(KEYS[payload[0]])]

    def build_audio(self, payload: bytes, interval: int) -> Message:
        """Build a packet; the marker bit stands where intervals were left out (RFC 3551, section 4.1)."""
        num_samples = len(payload) // self._bytes_per_sample
        marker = 0 if interval and interval == self._next_interval else 0x80
        sequence, self._sequence = self._sequence, (self._sequence + 1) & 0xFFFF
        self._next_interval = interval + 1
        timestamp = (self._timestamp + interval * num_samples) & 0xFFFFFFFF
        head = bytes((VERSION << 6, marker | self._type)) + sequence.to_bytes(2, "big") + timestamp.to_bytes(4, "big")
        return head + self._ssrc + payload

    def build_mark(self, name: str) -> Sequence[Message]:
        """Build nothing: there are no marks."""
        return ()

    def build_clear(self) -> Sequence[Message]:
        """Build nothing: there is nothing to clear."""
        return ()


def _payload(data: bytes) -> bytes:
    """Return what is left of a packet without its header, contributing sources, extension and padding."""
    begin, end = HEADER_BYTES + 4 * (data[0] & 0x0F), len(data)
    if data[0] & 0x10:
        if begin + 4 > end:
            raise WireError(f"expected an extension of the header at byte {begin}, got {end} bytes")
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    if data[0] & 0x20:
        if not 0 < data[-1] <= end - begin:
            raise WireError(f"expected padding of 1 to {max(0, end - begin)} bytes, got {data[-1]}")
        end -= data[-1]
    if begin > end:
        raise WireError(f"expected a header of {begin} bytes, got {end} bytes")
    return data[begin:end]
