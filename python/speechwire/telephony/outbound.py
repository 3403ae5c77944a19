"""The answers on their way to the caller: resampled, evened out, encoded, and sent in time with their marks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from speechwire.audioop import byteswap
from speechwire.codec import JitterBuffer, Transcoder, alaw_encode, ulaw_encode
from speechwire.errors import AudioError, WireError
from speechwire.formats import bytes_per_sample
from speechwire.formats import sample_rate as rate_of
from speechwire.telephony.events import Interruption
from speechwire.telephony.framing import Framing, Message
from speechwire.telephony.ledger import Heard, Ledger
from speechwire.telephony.pacer import Pacer

__all__ = ["Outbound"]

# A little less than the playout buffer has room for.
MAX_WAITING_MS: Final = 120_000


@dataclass(slots=True)
class _Answer:
    """An answer that is not all sent; places are samples of the buffer's time.

    Args:
        number: The application's number of it.
        begin: Where it begins.
        end: Where it ends, so far.
        place: How far it was sent.
        num_bytes: How much PCM came for it.
        num_unmarked: Frames since its last mark.
        is_open: More may come.
    """

    number: int
    begin: int
    end: int
    place: int
    num_bytes: int = 0
    num_unmarked: int = 0
    is_open: bool = True


class Outbound:
    """One direction of a call.

    Args:
        framing: The framing of a call that has started.
        ledger: Where is written down what leaves.
        sample_rate: Rate in Hz of the PCM that the application gives.
        frame_ms: Duration of a frame.
        mark_ms: How much audio is between two marks; None for marks at the ends only.
        now: The time.
    """

    def __init__(
        self, framing: Framing, ledger: Ledger, *, sample_rate: int, frame_ms: int, mark_ms: float | None, now: float
    ) -> None:
        assert framing.output_format is not None
        wire_rate = rate_of(framing.output_format)
        assert wire_rate is not None
        self._framing = framing
        self._is_steady = framing.is_steady
        self._ledger = ledger
        self._sample_rate = sample_rate
        self._wire_rate = wire_rate
        self._frame_ms = frame_ms
        self._frame_size = wire_rate * frame_ms // 1000
        frame_bytes = self._frame_size * bytes_per_sample(framing.output_format)
        if frame_bytes % framing.unit_bytes:
            raise WireError(f"expected frames of a multiple of {framing.unit_bytes} bytes, got {frame_bytes}")
        self._mark_frames = math.inf if mark_ms is None else max(1, round(mark_ms / frame_ms))
        self._resampler = Transcoder(f"pcm_{sample_rate}", f"pcm_{wire_rate}")
        self._resampler_delay_ms = self._resampler.delay_ms
        # With less than its lead the far end would run dry at the first delay of a service that speaks in real time.
        self._buffer = JitterBuffer(wire_rate, frame_ms=frame_ms, mode="playout", start_ms=framing.lead_ms)
        self._encode = _encoder(framing.output_format, is_big_endian=framing.is_big_endian)
        self._pacer = Pacer(frame_ms, framing.lead_ms, is_steady=framing.is_steady)
        if framing.is_steady:
            self._pacer.begin(now)
        self._answers: deque[_Answer] = deque()
        self._newest: int | None = None  # answer that audio was taken for
        self._sequence = 0
        self._pushed = 0  # samples
        self._played = 0  # of them, taken out of the buffer
        self._ready_since: float | None = None  # a whole frame waits
        self._retry_at: float | None = None  # when the buffer may have something to play
        self._fade = b""  # what is to be sent before all else
        self._is_dry = False
        self._unsent_ms = 0.0  # of answers that were interrupted
        self._refused_bytes = 0  # that came for them later
        self.num_frames = 0
        self.num_underruns = 0
        self.underrun_ms = 0.0
        self.sent_ms = 0.0

    @property
    def pacer(self) -> Pacer:
        """The deadlines, with their counters."""
        return self._pacer

    @property
    def dropped_ms(self) -> float:
        """Audio that was not sent because its answer was interrupted."""
        return self._unsent_ms + 1000 * self._refused_bytes / (2 * self._sample_rate)

    @property
    def unsent_ms(self) -> float:
        """Audio that waits."""
        return sum(self._taken_ms(answer) - self._sent(answer) for answer in self._answers)

    def feed(self, pcm: bytes, number: int, now: float) -> list[Message]:
        """Take audio of an answer; return the mark of the answer before, if that was all sent."""
        is_newer = self._newest is None or number > self._newest
        if not is_newer and not self._is_open(number):
            self._refused_bytes += len(pcm)
            return []
        # Before any of it is taken: what was refused leaves no trace, and may be given again.
        waiting_ms = self.unsent_ms + 1000 * len(pcm) / (2 * self._sample_rate)
        if waiting_ms > MAX_WAITING_MS:
            raise AudioError(f"expected at most {MAX_WAITING_MS} ms of audio waiting, got {waiting_ms:.0f}")
        messages: list[Message] = []
        if is_newer:
            messages = [] if self._newest is None else self.end(self._newest, now)
            self._newest = number
            self._answers.append(_Answer(number, self._pushed, self._pushed, self._pushed))
        answer = self._answers[-1]
        answer.num_bytes += len(pcm)
        # A packet of the buffer has a bound of its own, which is less at the higher rates.
        slice_bytes = 2 * self._sample_rate
        for start in range(0, len(pcm), slice_bytes):
            self._push(answer, self._resampler.feed(pcm[start : start + slice_bytes]), now)
        return messages

    def refuse(self, pcm: bytes) -> None:
        """Count audio that cannot be sent any more."""
        self._refused_bytes += len(pcm)

    def end(self, number: int, now: float) -> list[Message]:
        """Take no more of an answer; return its mark, if it was all sent."""
        if not self._is_open(number):
            return []
        answer = self._answers[-1]
        # The other half of a sample never came.
        self._push(answer, self._resampler.feed(bytes(answer.num_bytes % 2)) + self._resampler.flush(), now)
        answer.is_open = False
        self._buffer.finish()
        self._look_for_a_frame(now)
        return self._finish(now) if len(self._answers) == 1 and answer.place >= answer.end else []

    def _is_open(self, number: int) -> bool:
        return bool(self._answers) and self._answers[-1].number == number and self._answers[-1].is_open

    def _push(self, answer: _Answer, chunks: list[bytes], now: float) -> None:
        for pcm in chunks:
            self._buffer.push(self._sequence & 0xFFFF, self._pushed & 0xFFFFFFFF, pcm, now=now)
            self._sequence += 1
            self._pushed += len(pcm) // 2
        answer.end = self._pushed
        self._retry_at = now
        self._look_for_a_frame(now)

    def _look_for_a_frame(self, now: float) -> None:
        if self._pushed - self._played < self._frame_size and (not self._answers or self._answers[-1].is_open):
            self._ready_since = None
        elif self._ready_since is None:
            self._ready_since = now

    @property
    def deadline(self) -> float | None:
        """When `send` has something to do; None if not before more audio comes."""
        if self._is_steady:
            return self._pacer.deadline
        if not self._answers or self._retry_at is None:
            return None
        if self._ready_since is not None:
            due = self._pacer.deadline
        elif self._answers[0].place == self._answers[0].begin:
            return None
        else:
            # What is not there yet may still come before the far end has played all that it holds.
            due = self._pacer.dry_at
        return self._retry_at if due is None or due < self._retry_at else due

    def send(self, now: float) -> list[Message]:
        """Return the frames that are due, each with its marks behind it."""
        messages: list[Message] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            messages += self._next_frame(now, deadline)
        return messages

    def _next_frame(self, now: float, deadline: float) -> list[Message]:
        pcm, self._fade = self._fade, b""
        place, concealed = None, 0
        if not pcm:
            frame = self._buffer.pop(now=now)
            pcm, concealed, timestamp = frame.pcm, frame.concealed, frame.timestamp
            if not math.isnan(timestamp):
                # Places are counted without end, the buffer's time begins anew when it is reset.
                ahead = (round(timestamp) - self._played) & 0xFFFFFFFF
                place = self._played + (min(ahead, self._pushed - self._played) if ahead < 1 << 31 else 0)
            elif frame.kind == "silence":
                concealed = self._frame_size
                if not self._is_steady:
                    # The buffer gathers before it goes on, and is asked again when it has more, or in a frame's time.
                    waits = self._pushed > self._played
                    self._retry_at = now + self._frame_ms / 1000 if waits else None
                    self._ready_since = None if self._ready_since is None else self._retry_at
                    return []
        leaves = self._pacer.leave(now, deadline if self._ready_since is None else self._ready_since)
        self._played = self._played if place is None else place
        messages = [self._framing.build_audio(self._encode(pcm), leaves.interval)]
        self.num_frames += 1
        if self._answers:
            answer = self._answers[0]
            if answer.place > answer.begin:
                self._count_underrun(1000 * leaves.dry_s + 1000 * concealed / self._wire_rate, is_over=not concealed)
            if answer.place > answer.begin or place is not None:
                messages += self._enter(answer.place if place is None else place, leaves.plays_at, now)
        self._look_for_a_frame(now)
        return messages

    def _count_underrun(self, missing_ms: float, *, is_over: bool) -> None:
        self.num_underruns += missing_ms > 0 and not self._is_dry
        self.underrun_ms += missing_ms
        self._is_dry = not is_over

    def _enter(self, place: int, plays_at: float, now: float) -> list[Message]:
        """Write down how far a frame has come in the answers, and return the marks behind it."""
        messages: list[Message] = []
        while place > self._answers[0].end and len(self._answers) > 1:
            # The frame ends one answer and begins the next.
            self.sent_ms += self._place_ms(self._answers[0], self._answers[0].end) - self._sent(self._answers[0])
            messages += self._finish(now)
        answer = self._answers[0]
        begin_ms, answer.place = self._sent(answer), min(place, answer.end)
        end_ms = self._sent(answer)
        self.sent_ms += end_ms - begin_ms
        self._ledger.add_frame(answer.number, begin_ms, end_ms, plays_at, plays_at + self._frame_ms / 1000)
        answer.num_unmarked += 1
        if not answer.is_open and answer.place >= answer.end:
            # Behind it, those that were ended without any audio.
            while self._answers and not self._answers[0].is_open and place >= self._answers[0].end:
                messages += self._finish(now)
        elif answer.num_unmarked >= self._mark_frames:
            answer.num_unmarked = 0
            messages += self._mark(answer, end_ms, now, ended=False)
        return messages

    def _finish(self, now: float) -> list[Message]:
        answer = self._answers.popleft()
        self._is_dry = False
        return self._mark(answer, self._place_ms(answer, answer.end), now, ended=True)

    def _mark(self, answer: _Answer, place_ms: float, now: float, *, ended: bool) -> list[Message]:
        if not self._framing.has_marks:
            return []
        return list(self._framing.build_mark(self._ledger.add_mark(answer.number, place_ms, ended=ended, now=now)))

    def _sent(self, answer: _Answer) -> float:
        return self._place_ms(answer, answer.place)

    def _place_ms(self, answer: _Answer, place: int) -> float:
        """Return a place in the application's audio of an answer: the resampler's delay is none of it."""
        place_ms = 1000 * (place - answer.begin) / self._wire_rate - self._resampler_delay_ms
        return 0.0 if place_ms <= 0 else min(place_ms, self._taken_ms(answer))

    def _taken_ms(self, answer: _Answer) -> float:
        return 1000 * (answer.num_bytes // 2) / self._sample_rate

    def interrupt(self, now: float) -> tuple[Interruption, list[Message]]:
        """Forget all answers; return how far they came, and what the far end has to be told."""
        heard = self._ledger.heard(now)
        number = self._heard_answer(heard)
        if heard is not None and heard.answer == number:
            confirmed_ms, estimate_ms = heard.confirmed_ms, heard.estimate_ms
        else:
            confirmed_ms, estimate_ms = (0.0 if self._framing.has_marks else None), 0.0
        dropped_ms = self.drop(now)
        clear = list(self._framing.build_clear()) if heard is not None else []
        return Interruption(number, confirmed_ms, estimate_ms, dropped_ms), clear

    def _heard_answer(self, heard: Heard | None) -> int | None:
        # Where an answer has been heard to its end, the one that comes next counts, though it has not begun.
        waiting = [answer.number for answer in self._answers]
        if waiting and (heard is None or (heard.is_over and heard.answer not in waiting)):
            return waiting[0]
        return None if heard is None else heard.answer

    def drop(self, now: float) -> float:
        """Forget what was not sent, and what was as far as the far end can; return how much was not sent."""
        dropped_ms = self.unsent_ms
        self._unsent_ms += dropped_ms
        self._answers.clear()
        self._ledger.forget()
        self._resampler.reset()
        self._retry_at = self._ready_since = None
        self._is_dry = False
        self._played = self._pushed
        if self._framing.has_clear:
            # The far end cuts off by itself, so a fade would come too late and out of its place.
            self._buffer.reset()
            self._pacer.forget()
        else:
            self._buffer.clear()
            self._fade = self._buffer.pop(now=now).pcm
        return dropped_ms


def _encoder(output_format: str, *, is_big_endian: bool) -> Callable[[bytes], bytes]:
    """Return what turns PCM into a wire format of the same rate."""
    name, _, _ = output_format.rpartition("_")
    if name == "ulaw":
        return ulaw_encode
    if name == "alaw":
        return alaw_encode
    return _swap_bytes if is_big_endian else bytes


def _swap_bytes(pcm: bytes) -> bytes:
    return byteswap(pcm, 2)
