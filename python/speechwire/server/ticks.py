"""One timer for everybody who waits for a time that comes soon and often, such as that of a call's next frame."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import Final

__all__ = ["Ticks"]

# Many waits end in the same turn of the event loop instead of in a turn each.
TICK_S: Final = 0.004
RESOLUTION_S: Final = 1e-6


class Ticks:
    """Wakes at whole multiples of a short time all whose time has come: never early, and late by one tick at most.

    Belongs to one event loop. It has a timer while somebody waits for a time.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, asyncio.Future[float]]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when_s: float) -> asyncio.Future[float]:
        """Return a future that is done soon after a time of the event loop, with the time that it is then.

        Whoever waits may be woken earlier by a result from elsewhere.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[float] = loop.create_future()
        heappush(self._waiting, (when_s, next(self._order), future))
        tick_s = ceil(when_s / TICK_S) * TICK_S
        if self._timer is None or tick_s < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(tick_s, self._wake, loop)
        return future

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        waiting = self._waiting
        now = loop.time()
        # The loop takes for due what is so within its clock's resolution.
        while waiting and (waiting[0][2].done() or waiting[0][0] <= now + RESOLUTION_S):
            when_s, _, future = heappop(waiting)
            if not future.done():
                future.set_result(max(now, when_s))
        if waiting:
            self._timer = loop.call_at(ceil(waiting[0][0] / TICK_S) * TICK_S, self._wake, loop)
