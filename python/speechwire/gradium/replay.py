"""What a session that outlives its connections remembers: a state machine without I/O.

It keeps what was sent and not answered yet, says what the next connection has to be sent, and tells which of its
messages are new and what their times are on the one timeline of the source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from speechwire.audioop import rms
from speechwire.codec import alaw_decode, ulaw_decode
from speechwire.errors import AudioError
from speechwire.formats import FRAME_MS, bytes_per_sample, bytes_per_second
from speechwire.gradium import wire

__all__ = ["Item", "Leg", "Replay", "check_setup"]

# Silence as a pause of the speaker: about -44 dBFS, above the noise of a room and below quiet speech.
SILENCE_RMS: Final = 200
# As many frames of it are a pause to cut in: 240 ms, where the closure of a plosive takes 100.
PAUSE_FRAMES: Final = 3
# Parts of the allowed time of a session, from its end: a pause is looked for, and the cut cannot wait for one, because
# the answers that are still owed have to come in what is left.
SEEK_PART: Final = 0.15
RESERVE_PART: Final = 0.05
# Two texts of the same words that begin this close are the same one, heard twice.
SAME_TEXT_S: Final = 0.4
# What recognition has looked at for this much longer than its look-ahead, without a word, holds none.
UNHEARD_S: Final = 2.0
# A text that begins this much before the end of the latest is one of those that came before it.
KNOWN_MARGIN_S: Final = 0.1
MAX_MESSAGE_S: Final = 1  # of audio that is sent again
TIME_DIGITS: Final = 6  # what adding to a time leaves beyond these is noise


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to send: its message type, and the audio, the text or the flush id."""

    kind: str
    value: Any = None


@dataclass(slots=True)
class _Mark:
    """Something besides audio that was sent, and after which byte of it."""

    number: int
    position: int
    item: Item


@dataclass(slots=True)
class _Given:
    """A text that was given out; `stop_s` is None while its end is not known."""

    text: str
    start_s: float
    stop_s: float | None


@dataclass(slots=True)
class Leg:
    """One connection's part of the stream.

    Args:
        begin: First byte of the source that it is sent.
        since_s: When its `setup` was sent, on the caller's clock.
        offset_s: What its times lack to be those of the whole; None until all before it has ended.
        first_mark: First of the numbered marks that it is sent.
        header_bytes: What it will repeat of the header of its output.
        overlaps: True while its output is what was given out before.
        known_s: Texts that begin before this time were given out before.
    """

    begin: int
    since_s: float
    offset_s: float | None
    first_mark: int = 0
    header_bytes: int = 0
    overlaps: bool = False
    known_s: float = 0.0
    end: int | None = None  # where the next leg took over
    sent: int = field(init=False)
    next_mark: int = field(init=False)
    heard_s: float = 0.0  # of its output
    drops_end: bool = False  # the end of its latest text was given out before

    def __post_init__(self) -> None:
        self.sent = self.begin
        self.next_mark = self.first_mark


class Replay:
    """The memory of one request over all of its connections.

    Put what is to be sent in by `add_audio` and `add`, begin a leg for each connection, send it what `next_item`
    returns, and pass what it answers through `receive_message`. Positions are bytes of the source.

    Args:
        product: Which of the services it is.
        fields: The setup.
        replay_ms: Most audio that is kept for being sent again.
        lag_ms: How much of what was answered is sent again before the rest.
        session_s: How long the service allows a session to last, or None.
    """

    def __init__(
        self,
        product: wire.Product,
        fields: Mapping[str, Any],
        *,
        replay_ms: float,
        lag_ms: float,
        session_s: float | None,
    ) -> None:
        self._product = product
        self._session_s = session_s
        self.replay_ms = replay_ms
        self.legs: deque[Leg] = deque()
        self._marks: deque[_Mark] = deque()
        self._num_marks = 0
        self.input_ended = False
        self.ready: dict[str, Any] | None = None
        # The source.
        self._input_format = wire.input_codec_format(str(fields.get("input_format", wire.DEFAULT_FORMAT)))
        self._per_second = bytes_per_second(self._input_format) or 0 if product.audio_in else 0
        self._frame_bytes = self._per_second * FRAME_MS // 1000
        self._lag_bytes = int(lag_ms * self._per_second / 1000)
        self._max_bytes = max(self._frame_bytes, int(replay_ms * self._per_second / 1000))
        self._audio = bytearray()
        self._front = 0  # where `_audio` begins
        self._quiet: deque[bool] = deque()  # for each whole frame of `_audio`
        self._quiet_frames = 0  # at the end of the source
        self._sent = 0  # by any leg
        self._acked = 0
        self._unheard = 0  # up to here there is no word that is still to come
        self._lost = 0  # up to here, speech that nobody acknowledged is not kept any more
        # The output.
        self._wav = product.audio_out and fields.get("output_format", wire.DEFAULT_FORMAT) == wire.WAV
        output_format = wire.output_codec_format(str(fields.get("output_format", wire.DEFAULT_FORMAT)))
        if self._wav:
            output_format = wire.output_codec_format("pcm")
        self._out_sample_bytes = bytes_per_sample(output_format)
        self._out_rate = (bytes_per_second(output_format) or 0) // self._out_sample_bytes
        self._given_bytes = 0
        self._given_samples = 0  # where the given audio ends on the timeline
        self._header_given = False
        self._texts: list[_Given] = []
        self._suspects: list[_Given] = []  # what the leg after a break may say again
        self._open_text: _Given | None = None
        self._last_start_s = 0.0
        self._last_stop_s = 0.0
        self._last_step_s = 0.0

    @property
    def sent_ms(self) -> float:
        """Audio of the source that was sent at least once, in milliseconds."""
        return self._sent * 1000 / self._per_second if self._per_second else 0.0

    @property
    def received_ms(self) -> float:
        """Audio that was given out, in milliseconds."""
        return self._given_bytes * 1000 / (self._out_rate * self._out_sample_bytes) if self._given_bytes else 0.0

    @property
    def end(self) -> int:
        """How much audio the source has given."""
        return self._front + len(self._audio)

    # --- what goes out

    def pieces(self, audio: bytes, now_s: float) -> list[bytes]:
        """Cut a chunk to be added: at each frame's edge where a cut is being looked for, and else as it is."""
        if not self._frame_bytes:
            return [audio]
        pieces = []
        start = 0
        while start < len(audio):
            step = self._per_second * MAX_MESSAGE_S
            if self.opens_ahead(now_s):
                step = self._frame_bytes - (self.end + start) % self._frame_bytes
            pieces.append(audio[start : start + step])
            start += step
        return pieces

    def add_audio(self, audio: bytes, *, connected: bool) -> None:
        """Take the next audio of the source.

        While there is a connection, the oldest audio makes room for it, and what is lost by that cannot be sent again.
        """
        first = len(self._quiet) * self._frame_bytes
        self._audio += audio
        for start in range(first, len(self._audio) - self._frame_bytes + 1, self._frame_bytes):
            quiet = self._is_quiet(bytes(self._audio[start : start + self._frame_bytes]))
            self._quiet.append(quiet)
            self._quiet_frames = self._quiet_frames + 1 if quiet else 0
        self._make_room(connected=connected)

    def add(self, item: Item) -> None:
        """Take a flush, a text or the end of the input."""
        self.input_ended = self.input_ended or item.kind == wire.END_OF_STREAM
        self._marks.append(_Mark(self._num_marks, self.end, item))
        self._num_marks += 1

    @property
    def is_full(self) -> bool:
        """True if no more audio is to be added without a connection."""
        return bool(self._quiet) and len(self._audio) >= self._max_bytes and not self._is_needless

    def next_item(self) -> Item | None:
        """Return what the latest leg is to be sent next, taken as sent; None if there is nothing."""
        leg = self.legs[-1]
        stop = self.end
        for mark in self._marks:
            if mark.number >= leg.next_mark:
                if mark.position <= leg.sent:
                    leg.next_mark = mark.number + 1
                    return mark.item
                stop = mark.position
                break
        stop = min(stop, leg.sent + self._per_second * MAX_MESSAGE_S)
        if stop <= leg.sent:
            return None
        audio = bytes(self._audio[leg.sent - self._front : stop - self._front])
        leg.sent = stop
        self._sent = max(self._sent, stop)
        return Item(wire.AUDIO, audio)

    # --- legs

    def begin(self, now_s: float) -> None:
        """Begin the first leg."""
        self.legs.append(Leg(begin=0, since_s=now_s, offset_s=0.0))

    def opens_ahead(self, now_s: float) -> bool:
        """Tell whether it is time to have the next connection at hand."""
        if self._session_s is None or not self._frame_bytes or self.input_ended or not self.legs:
            return False
        return now_s >= self.legs[-1].since_s + self._session_s * (1 - SEEK_PART)

    def is_cut(self, now_s: float) -> bool:
        """Tell whether the latest leg ends here: at a frame's edge, in a pause unless that has been waited for long."""
        leg = self.legs[-1]
        if not self.opens_ahead(now_s) or self.end % self._frame_bytes or leg.sent < self.end or leg.sent == leg.begin:
            return False
        assert self._session_s is not None
        if leg.next_mark < self._num_marks:
            return False
        return self._quiet_frames >= PAUSE_FRAMES or now_s >= leg.since_s + self._session_s * (1 - RESERVE_PART)

    def roll_over(self, now_s: float) -> None:
        """Begin a leg where the latest one ends; that one is to be sent the end of its input."""
        end = self.legs[-1].end = self.end
        header_bytes = self._leading_header()
        self.legs.append(Leg(end, now_s, offset_s=None, first_mark=self._num_marks, header_bytes=header_bytes))

    def unsendable(self) -> str:
        """Say why the stream cannot be taken up again; empty if it can."""
        if self._product.audio_in:
            if self._lost > self._acked:
                unacked_ms = (self.end - self._acked) * 1000 / self._per_second
                return (
                    f"expected at most {self.replay_ms:.0f} ms of unacknowledged audio to be sent again, "
                    f"got {unacked_ms:.0f} ms"
                )
            return ""
        return "the audio of a synthesis cannot be taken up in its middle" if self._given_samples else ""

    def resume(self, now_s: float) -> float:
        """Begin a leg in place of all others, after a break.

        Returns: The milliseconds of audio that it will be sent once more.
        """
        head = self.legs[0]
        assert head.offset_s is not None
        # What the connection before this one answered is answered, for its end was waited for.
        begin = max((self._acked - self._lag_bytes) // max(1, self._frame_bytes) * self._frame_bytes, self._front)
        begin = max(begin, head.begin)
        offset_s = head.offset_s
        if self._per_second:
            offset_s += (begin - head.begin) / self._per_second
            # Output that is longer than its input has left the input's clock behind.
            offset_s += max(0.0, head.heard_s - (head.sent - head.begin) / self._per_second)
        known_s = self._last_stop_s - KNOWN_MARGIN_S
        header_bytes = self._leading_header()
        self.legs = deque([Leg(begin, now_s, offset_s, header_bytes=header_bytes, overlaps=True, known_s=known_s)])
        self._open_text = None
        self._suspects = [text for text in self._texts if text.stop_s is None or text.stop_s > offset_s]
        return max(0, self._sent - begin) * 1000 / self._per_second if self._per_second else 0.0

    # --- what comes in

    def receive_message(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Take a message of the first leg and return what is to be given out for it."""
        kind = message["type"]
        leg = self.legs[0]
        if kind == wire.READY:
            is_first, self.ready = self.ready is None, message
            return [message] if is_first else []
        if kind == wire.AUDIO:
            return self._receive_audio(leg, message)
        if kind == wire.TEXT:
            return self._receive_text(leg, message)
        if kind == wire.END_TEXT:
            return self._receive_end_text(leg, message)
        if kind == wire.STEP:
            return self._receive_step(leg, message)
        if kind == wire.FLUSHED:
            self._answer_flush(message.get("flush_id"))
        elif kind == wire.END_OF_STREAM and leg.end is not None:
            return self._end_leg(leg)
        return [message]

    def _end_leg(self, leg: Leg) -> list[dict[str, Any]]:
        assert leg.end is not None
        self.legs.popleft()
        following = self.legs[0]
        self._suspects.clear()
        # All that was sent before the cut has been answered by now, so every flush in it has been too.
        answered = [mark for mark in self._marks if mark.number < following.first_mark]
        for mark in answered:
            self._marks.remove(mark)
        following.offset_s = following.begin / self._per_second
        if self._product.audio_out:
            following.offset_s = max(following.offset_s, self._given_samples / self._out_rate)
        self._acknowledge(leg.end)
        self._texts.clear()
        self._open_text = None
        return [{"type": wire.FLUSHED, "flush_id": mark.item.value} for mark in answered] + [
            {"type": wire.RECONNECTED, "gap_ms": 0.0, "replayed_ms": 0.0}
        ]

    def _receive_audio(self, leg: Leg, message: dict[str, Any]) -> list[dict[str, Any]]:
        audio: bytes = message["audio"]
        if self._wav and not self._header_given:
            # The header of the first leg is that of the whole.
            self._header_given = True
            header, audio = audio[: wire.WAV_HEADER_BYTES], audio[wire.WAV_HEADER_BYTES :]
            if not audio:
                return [message]
        else:
            header, skipped = b"", min(leg.header_bytes, len(audio))
            leg.header_bytes -= skipped
            audio = audio[skipped:]
        if not audio:
            return []
        assert leg.offset_s is not None
        num_samples = len(audio) // self._out_sample_bytes
        leg_start_s = message.get("start_s")
        if not isinstance(leg_start_s, int | float):  # nobody has checked it
            leg_start_s = leg.heard_s
        leg.heard_s = leg_start_s + num_samples / self._out_rate
        position = round((leg_start_s + leg.offset_s) * self._out_rate)
        doubled = 0
        if leg.overlaps:
            doubled = min(num_samples, max(0, self._given_samples - position))
            leg.overlaps = doubled == num_samples
        audio = audio[doubled * self._out_sample_bytes :]
        self._acknowledge_output(leg)
        if not audio:
            return []
        position += doubled
        self._given_samples = position + num_samples - doubled
        self._given_bytes += len(audio)
        if not self._product.audio_in:
            # From here on, no text can be sent again.
            self._marks = deque(mark for mark in self._marks if mark.number >= leg.next_mark)
        if len(header) + len(audio) == len(message["audio"]) and not leg.offset_s:
            return [message]
        start_s, stop_s = position / self._out_rate, self._given_samples / self._out_rate
        times = {"start_s": round(start_s, TIME_DIGITS), "stop_s": round(stop_s, TIME_DIGITS)}
        return [{**message, "audio": header + audio, **times}]

    def _receive_text(self, leg: Leg, message: dict[str, Any]) -> list[dict[str, Any]]:
        message = self._shifted(leg, message, "start_s", "stop_s")
        start_s = message.get("start_s", self._last_start_s)
        if not self._product.audio_out and start_s < leg.known_s:
            leg.drops_end = True
            return []
        known = self._take_suspect(message["text"], start_s)
        leg.drops_end = known is not None and known.stop_s is not None
        if known is not None:
            self._open_text = known
            return []
        stop_s = message.get("stop_s")
        if stop_s is not None:
            if leg.overlaps and round(stop_s * self._out_rate) <= self._given_samples:
                return []  # what it says was given out before, perhaps in other words
            stop_s = message["stop_s"] = max(stop_s, self._last_start_s)
        start_s = self._last_start_s = message["start_s"] = max(start_s, self._last_start_s)
        self._open_text = _Given(message["text"], start_s, stop_s)
        self._texts.append(self._open_text)
        return [message]

    def _receive_end_text(self, leg: Leg, message: dict[str, Any]) -> list[dict[str, Any]]:
        if leg.drops_end:
            return []
        position = leg.begin + round(message["stop_s"] * self._per_second)
        message = self._shifted(leg, message, "stop_s")
        if self._open_text is not None:
            message["stop_s"] = max(message["stop_s"], self._open_text.start_s)
            self._open_text.stop_s = message["stop_s"]
            self._open_text = None
        self._last_stop_s = max(self._last_stop_s, message["stop_s"])
        self._acknowledge(position)
        self._texts = [text for text in self._texts if text.stop_s is None and text.start_s > message["stop_s"]]
        return [message]

    def _receive_step(self, leg: Leg, message: dict[str, Any]) -> list[dict[str, Any]]:
        looked_at_s = message["total_duration_s"]
        settled_s = looked_at_s - self._delay_s - UNHEARD_S
        message = self._shifted(leg, message, "total_duration_s")
        if self._open_text is not None:
            assert leg.offset_s is not None
            settled_s = min(settled_s, self._open_text.start_s - leg.offset_s)
        self._unheard = max(self._unheard, leg.begin + round(settled_s * self._per_second))
        total_s = message["total_duration_s"]
        if total_s <= self._last_step_s + 10**-TIME_DIGITS:
            return []
        self._last_step_s = total_s
        if leg.offset_s:
            message["step_idx"] += round(leg.offset_s / message["step_duration_s"])
        return [message]

    # --- inside

    @property
    def _delay_s(self) -> float:
        ready = self.ready or {}
        frames: float = ready.get("delay_in_frames", ready.get("delay_in_tokens", wire.DEFAULT_DELAY_FRAMES))
        return frames * FRAME_MS / 1000

    def _shifted(self, leg: Leg, message: dict[str, Any], *names: str) -> dict[str, Any]:
        assert leg.offset_s is not None
        message = dict(message)
        if leg.offset_s:
            for name in names:
                if name in message:
                    message[name] = round(message[name] + leg.offset_s, TIME_DIGITS)
        return message

    def _take_suspect(self, text: str, start_s: float) -> _Given | None:
        """Return the text of the same words and about the same time that was given out before, once."""
        same = [
            suspect
            for suspect in self._suspects
            if _words(suspect.text) == _words(text) and abs(suspect.start_s - start_s) < SAME_TEXT_S
        ]
        if not same:
            return None
        nearest = min(same, key=lambda suspect: abs(suspect.start_s - start_s))
        self._suspects.remove(nearest)
        return nearest

    def _answer_flush(self, flush_id: object) -> None:
        for mark in self._marks:
            if mark.item == Item(wire.FLUSH, flush_id):
                self._marks.remove(mark)
                return

    def _acknowledge_output(self, leg: Leg) -> None:
        assert leg.offset_s is not None
        heard_s = leg.heard_s + leg.offset_s
        unfinished_s = [
            text.start_s for text in self._texts if text.stop_s is not None and text.stop_s > heard_s + 10**-TIME_DIGITS
        ]
        settled_s = min([heard_s, *unfinished_s]) - leg.offset_s
        self._acknowledge(leg.begin + round(settled_s * self._per_second))
        first = min([heard_s, *unfinished_s])
        self._texts = [text for text in self._texts if text.stop_s is None or text.stop_s > first]

    def _acknowledge(self, position: int) -> None:
        if not self._frame_bytes:
            return
        position = min(position, self.legs[0].sent)
        self._acked = max(self._acked, position // self._frame_bytes * self._frame_bytes)
        self._drop(self._acked - self._lag_bytes)

    def _make_room(self, *, connected: bool) -> None:
        while len(self._audio) > self._max_bytes and self._quiet:
            stop = self._front + self._frame_bytes
            if stop > self.legs[-1].sent if connected else not self._is_needless:
                return
            if not self._is_needless:
                self._lost = stop
            self._drop(stop)

    @property
    def _is_needless(self) -> bool:
        """True if nothing is lost with the oldest frame."""
        return self._quiet[0] or self._front + self._frame_bytes <= max(self._acked, self._unheard)

    def _drop(self, position: int) -> None:
        num_frames = max(0, position - self._front) // self._frame_bytes
        for _ in range(num_frames):
            self._quiet.popleft()
        del self._audio[: num_frames * self._frame_bytes]
        self._front += num_frames * self._frame_bytes

    def _is_quiet(self, frame: bytes) -> bool:
        if self._input_format in wire.G711_FORMATS:
            frame = alaw_decode(frame) if self._input_format.startswith("alaw") else ulaw_decode(frame)
        return rms(frame, 2) < SILENCE_RMS

    def _leading_header(self) -> int:
        return wire.WAV_HEADER_BYTES if self._wav and self._header_given else 0


def check_setup(fields: Mapping[str, Any], product: wire.Product) -> None:
    """Refuse what cannot be taken up again on another connection.

    Raises:
        AudioError: A container as input, Opus as output, a named request, or a connection that is to be kept.
    """
    if product.audio_in:
        input_format = fields.get("input_format", wire.DEFAULT_FORMAT)
        if bytes_per_second(wire.input_codec_format(input_format)) is None:
            raise AudioError(
                f"reconnect needs a raw input_format, got {input_format!r}; "
                "name the container in source_format and send pcm"
            )
    if product.audio_out and fields.get("output_format") == wire.OPUS:
        raise AudioError(f"reconnect needs an output_format whose bytes tell their time, got {wire.OPUS!r}")
    if fields.get("client_req_id") is not None:
        raise AudioError(f"reconnect needs a connection of its own, got client_req_id {fields['client_req_id']!r}")
    if fields.get("close_ws_on_eos") is False:
        raise AudioError("reconnect serves one request, got close_ws_on_eos False")


def _words(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
