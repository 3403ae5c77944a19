"""What of each answer was sent, confirmed and heard."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Heard", "Ledger", "SentMark"]

# What a far end can owe: 256 frames are 5 s, where the lead and the way there and back are a few tenths of one. A far
# end that never returns a mark does not make the ledger grow.
MAX_OUTSTANDING: Final = 256
MAX_DIGITS: Final = 12  # of the number of a mark


@dataclass(frozen=True, slots=True)
class SentMark:
    """A mark and the place in its answer that it stands at.

    Args:
        number: Counted over the call.
        answer: The number of the answer.
        place_ms: How much of the answer comes before it.
        is_due_at: When it would come back if the network took no time.
        ended: True if nothing of the answer comes after it.
    """

    number: int
    answer: int
    place_ms: float
    is_due_at: float
    ended: bool


class _Frame(NamedTuple):
    answer: int
    begin_ms: float
    end_ms: float
    plays_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Heard:
    """How far an answer has come at the far end.

    Args:
        answer: The number of the answer.
        confirmed_ms: By the last of its marks that came back; None without marks.
        estimate_ms: By the clock.
        is_over: All that was sent has been heard, by the clock.
    """

    answer: int
    confirmed_ms: float | None
    estimate_ms: float
    is_over: bool


class Ledger:
    """The places of what was sent, on the answers' own clocks, and how much of it the far end has played.

    The clock of the estimate is that of the last mark that came back: it tells by how much the far end plays later than
    the grid of the frames, with the way there and back. Without marks, the network is taken to need no time.

    Args:
        has_marks: Whether marks come back.
    """

    def __init__(self, *, has_marks: bool) -> None:
        self._has_marks = has_marks
        self._marks: deque[SentMark] = deque(maxlen=MAX_OUTSTANDING)  # that have not come back
        self._frames: deque[_Frame] = deque(maxlen=MAX_OUTSTANDING)  # in the order of playing
        self._confirmed: SentMark | None = None
        self._shift_s = 0.0
        self.num_marks_sent = 0
        self.num_marks_returned = 0
        self.num_marks_flushed = 0

    def add_frame(self, answer: int, begin_ms: float, end_ms: float, plays_at: float, ends_at: float) -> None:
        """Enter a frame that leaves now, with its place in the answer and in time."""
        self._frames.append(_Frame(answer, begin_ms, end_ms, plays_at, ends_at))

    def add_mark(self, answer: int, place_ms: float, *, ended: bool, now: float) -> str:
        """Enter a mark behind all frames so far and return its name."""
        # One that finds nothing left to play comes back at once.
        is_due_at = max(now, self._frames[-1].ends_at) if self._frames else now
        self._marks.append(SentMark(self.num_marks_sent, answer, place_ms, is_due_at, ended))
        self.num_marks_sent += 1
        return _name(answer, self.num_marks_sent - 1)

    def _place_of(self, number: int) -> int | None:
        """Return where a mark stands among those that have not come back, which are counted without a hole."""
        place = number - self._marks[0].number if self._marks else -1
        return place if 0 <= place < len(self._marks) else None

    def is_ours(self, name: str) -> bool:
        """Tell whether the ledger has given out this name, or may have: of what is over it knows the number alone."""
        number = _number_in(name)
        if number is None or number >= self.num_marks_sent:
            return False
        place = self._place_of(number)
        return place is None or _name(self._marks[place].answer, number) == name

    def return_mark(self, name: str, now: float) -> SentMark | None:
        """Take a mark of ours that came back.

        Returns:
            The mark, or None if it tells nothing: it stood in audio that the far end was told to forget, or it comes
            for the second time or behind a later one.
        """
        number = _number_in(name)
        place = None if number is None else self._place_of(number)
        if place is None:
            self.num_marks_flushed += 1
            return None
        found = self._marks[place]
        # What stands before it was played too, whether its marks came back or not.
        for _ in range(place + 1):
            self._marks.popleft()
        self.num_marks_returned += 1
        self._confirmed = found
        self._shift_s = now - found.is_due_at
        return found

    def heard(self, now: float) -> Heard | None:
        """Return how far the first answer has come that was not heard to the end of what was sent, or else the last.

        Returns:
            None if nothing was sent.
        """
        at = now - self._shift_s
        while len(self._frames) > 1 and self._frames[0].ends_at <= at:
            self._frames.popleft()
        if not self._frames:
            return None
        frame = self._frames[0]
        part = min(1.0, max(0.0, (at - frame.plays_at) / (frame.ends_at - frame.plays_at)))
        estimate_ms = frame.begin_ms + part * (frame.end_ms - frame.begin_ms)
        confirmed = self._confirmed
        place_ms = confirmed.place_ms if confirmed is not None and confirmed.answer == frame.answer else 0.0
        return Heard(frame.answer, place_ms if self._has_marks else None, max(estimate_ms, place_ms), part >= 1.0)

    def forget(self) -> None:
        """Count on nothing that was sent so far: the far end has been told to forget it."""
        self._marks.clear()
        self._frames.clear()
        self._confirmed = None


def _name(answer: int, number: int) -> str:
    return f"{answer}-{number}"


def _number_in(name: str) -> int | None:
    """Return the number of a mark whose name could be ours; there are no more digits than a long call's marks need."""
    digits = name.rpartition("-")[2]
    is_ours = (
        digits.isascii() and digits.isdecimal() and len(digits) <= MAX_DIGITS and digits in ("0", digits.lstrip("0"))
    )
    return int(digits) if is_ours else None
