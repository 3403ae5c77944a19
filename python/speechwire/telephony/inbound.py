"""The caller's audio: decoded, resampled, put in order and evened out, and what is missing counted."""

from __future__ import annotations

from typing import Final

from speechwire.codec import JitterBuffer, Transcoder, alaw_decode, ulaw_decode
from speechwire.formats import bytes_per_second
from speechwire.formats import sample_rate as rate_of
from speechwire.telephony.framing import Media, Packet

__all__ = ["Inbound"]

# Who has not asked for this long is not given what he missed, but what is due now.
MAX_BEHIND_S: Final = 1.0


class Inbound:
    """One direction of a call.

    Args:
        sample_rate: Rate in Hz of the PCM that comes out.
        frame_ms: Duration of a frame that comes out where packets come in.
    """

    def __init__(self, sample_rate: int, frame_ms: int) -> None:
        self._sample_rate = sample_rate
        self._frame_ms = frame_ms
        self._format = ""
        self._decoder: Transcoder | None = None
        self._ms_per_byte = 0.0
        self._next_chunk: int | None = None
        self._next_timestamp_ms: float | None = None
        self._buffer: JitterBuffer | None = None
        self._buffer_rate = 0
        self._lost_before = 0  # by the buffers of senders that are gone
        self._first_pop = 0.0
        self._num_pops = 0
        self._num_missing = 0
        self.received_ms = 0.0
        self.gap_ms = 0.0

    @property
    def num_lost(self) -> int:
        """How many frames the far end counted that did not come."""
        lost = self._num_missing + self._lost_before
        return lost if self._buffer is None else lost + self._buffer.stats.num_lost

    @property
    def deadline(self) -> float | None:
        """When the next frame is to be taken, None where audio comes out as soon as it is there."""
        return None if self._buffer is None else self._first_pop + self._num_pops * self._frame_ms / 1000

    def feed(self, media: Media) -> list[bytes]:
        """Take audio that comes in order and return PCM."""
        pcm = self._decode(media.payload, media.audio_format)
        duration_ms = len(media.payload) * self._ms_per_byte
        if media.chunk is not None:
            if self._next_chunk is not None:
                self._num_missing += max(0, media.chunk - self._next_chunk)
            self._next_chunk = media.chunk + 1
        if media.timestamp_ms is not None:
            # Timestamps are rounded, so less than half a frame is none missing.
            if (
                self._next_timestamp_ms is not None
                and media.timestamp_ms >= self._next_timestamp_ms + self._frame_ms / 2
            ):
                self.gap_ms += media.timestamp_ms - self._next_timestamp_ms
            self._next_timestamp_ms = media.timestamp_ms + duration_ms
        self.received_ms += duration_ms
        return pcm

    def push(self, packet: Packet, now: float) -> None:
        """Take a packet; what it holds comes out of `pop`."""
        rate = rate_of(packet.audio_format)
        assert rate is not None
        if self._buffer is None or rate != self._buffer_rate:
            self._lost_before = self.num_lost - self._num_missing
            self._first_pop, self._num_pops = (now, 0) if self._buffer is None else (self._first_pop, self._num_pops)
            self._buffer, self._buffer_rate = JitterBuffer(rate, frame_ms=self._frame_ms), rate
        elif packet.is_new_source:
            self._lost_before = self.num_lost - self._num_missing
            self._buffer.reset()
        self.received_ms += _duration_ms(packet.payload, packet.audio_format)
        name, _, _ = packet.audio_format.rpartition("_")
        pcm = {"ulaw": ulaw_decode, "alaw": alaw_decode}.get(name, bytes)(packet.payload)
        self._buffer.push(packet.sequence, packet.timestamp, pcm, now=now)

    def pop(self, now: float) -> list[bytes]:
        """Return the frames that are due."""
        deadline = self.deadline
        if self._buffer is None or deadline is None:
            return []
        pcm: list[bytes] = []
        if now - deadline > MAX_BEHIND_S:
            self._num_pops += int((now - deadline) * 1000 / self._frame_ms)
        while (deadline := self.deadline) is not None and deadline <= now:
            self._num_pops += 1
            pcm += self._decode(self._buffer.pop(now=now).pcm, f"pcm_{self._buffer_rate}")
        return pcm

    def _decode(self, payload: bytes, audio_format: str) -> list[bytes]:
        if self._decoder is None or self._format != audio_format:
            self._decoder, self._format = Transcoder(audio_format, f"pcm_{self._sample_rate}"), audio_format
            self._ms_per_byte = _duration_ms(b"\0", audio_format)
        return [pcm for pcm in self._decoder.feed(payload) if pcm]


def _duration_ms(payload: bytes, audio_format: str) -> float:
    second_bytes = bytes_per_second(audio_format)
    assert second_bytes is not None
    return 1000 * len(payload) / second_bytes
