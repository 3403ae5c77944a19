"""When frames leave: deadlines on a grid that follows the clock, never the time of sending."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Departure", "Pacer"]


# A far end without a buffer of ours still has a jitter buffer, and takes frames that come this late together. What is
# later was concealed there: the frame goes out in the interval that it is by now.
CATCH_UP_MS: Final = 60
# How far ahead frames go at most: what the playout buffer keeps waiting, so that there is something to send.
MAX_LEAD_MS: Final = 200


class Departure(NamedTuple):
    """A frame that leaves.

    Args:
        interval: Its place on the grid of the whole call, which counts the intervals without a frame too.
        plays_at: When it begins to play if the network takes no time.
        dry_s: For how long the far end had nothing to play before it.
    """

    interval: int
    plays_at: float
    dry_s: float


class Pacer:
    """The deadlines of one direction.

    Frame n plays n frames after the start, and leaves `lead_ms` before that, the first ones at the start. When a frame
    leaves after the far end has run dry, the grid starts anew: the far end needs its lead again. Where that frame had
    been there before, whoever asks for it was held up: the lead grows by as much as it was missing, up to 200 ms, so
    that being held up as long once more is not heard. A steady grid never starts anew, it leaves intervals out.

    Args:
        frame_ms: Duration of a frame.
        lead_ms: How far ahead of its place a frame leaves at first.
        is_steady: Every interval has a frame.
    """

    def __init__(self, frame_ms: float, lead_ms: float, *, is_steady: bool) -> None:
        self._frame_s = frame_ms / 1000
        self._lead_s = lead_ms / 1000
        self._is_steady = is_steady
        self._start = 0.0
        self._next: int | None = None  # frame of this grid; None without a grid
        self._first_interval = 0  # of this grid
        self.num_late = 0
        self.num_early = 0
        self.max_late_ms = 0.0

    @property
    def deadline(self) -> float | None:
        """When the next frame has to leave; None while there is no grid."""
        return None if self._next is None else self._start + max(0.0, self._next * self._frame_s - self._lead_s)

    @property
    def dry_at(self) -> float | None:
        """When the far end will have played all that was sent; None while there is no grid."""
        return None if self._next is None else self._start + self._next * self._frame_s

    def begin(self, now: float) -> None:
        """Begin the grid."""
        self._start, self._next = now, 0

    def leave(self, now: float, ready_since: float) -> Departure:
        """Count a frame that leaves now.

        Args:
            now: The time.
            ready_since: When its audio was there: it is late only from then on.
        """
        deadline, dry_at = self.deadline, self.dry_at
        late_s = now - (ready_since if deadline is None else max(deadline, ready_since))
        self.max_late_ms = max(self.max_late_ms, 1000 * late_s)
        self.num_late += late_s > self._frame_s
        if deadline is None or dry_at is None or self._next is None:
            self.begin(now)
            return self._advance(now, 0, 0.0)
        if self._is_steady:
            num_skipped = int((now - deadline) / self._frame_s) if now - deadline > CATCH_UP_MS / 1000 else 0
            return self._advance(now, self._next + num_skipped, num_skipped * self._frame_s)
        if now > dry_at:
            self._lead_s = min(self._lead_s + max(0.0, now - max(dry_at, ready_since)), MAX_LEAD_MS / 1000)
            self._first_interval += self._next + round((now - dry_at) / self._frame_s)
            self._start = now
            return self._advance(now, 0, now - dry_at)
        return self._advance(now, self._next, 0.0)

    def _advance(self, now: float, number: int, dry_s: float) -> Departure:
        self._next = number + 1
        plays_at = self._start + number * self._frame_s
        self.num_early += plays_at - now > self._frame_s / 2 and number * self._frame_s <= self._lead_s
        return Departure(self._first_interval + number, plays_at, dry_s)

    def forget(self) -> None:
        """Give the grid up, because the far end has been told to forget what it holds."""
        if self._next is not None:
            self._first_interval += self._next
            self._next = None
