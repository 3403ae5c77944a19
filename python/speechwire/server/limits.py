"""How much the server takes on: how long a request or a call may last, and how many may run at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "Places", "PlacesTaken", "ServerLimits"]

MAX_SESSION_S: Final = 300.0
MAX_CALL_S: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server.

    Args:
        max_session_s: Seconds from a request's setup to the last of its output; None for any time.
        max_call_s: Seconds from the start of a telephone call to its end; None for any time.
        max_requests: Requests that run at once on all connections together; None for any number.
        max_recognitions: Those of them in which speech is recognised; None for as many as the engine can serve in real
            time.

    Raises:
        ValueError: A bound is not positive.
    """

    max_session_s: float | None = MAX_SESSION_S
    max_call_s: float | None = MAX_CALL_S
    max_requests: int | None = None
    max_recognitions: int | None = None

    def __post_init__(self) -> None:
        for name, longest_s in (("max_session_s", self.max_session_s), ("max_call_s", self.max_call_s)):
            if longest_s is not None and not longest_s > 0:
                raise ValueError(f"expected {name} of more than 0, got {longest_s:g}")
        for name, most in (("max_requests", self.max_requests), ("max_recognitions", self.max_recognitions)):
            if most is not None and most < 1:
                raise ValueError(f"expected {name} of at least 1, got {most}")


DEFAULT_LIMITS: Final = ServerLimits()


class PlacesTaken(Exception):
    """As many requests run as may."""


class Places:
    """Who may run: one place for each request, first come, first served.

    Args:
        max_requests: Places in all, or None for any number.
        max_recognitions: Places of those that recognise speech, or None.
    """

    def __init__(self, max_requests: int | None = None, max_recognitions: int | None = None) -> None:
        self._free = None if max_requests is None else asyncio.Semaphore(max_requests)
        self._free_to_recognise = None if max_recognitions is None else asyncio.Semaphore(max_recognitions)

    @asynccontextmanager
    async def hold(self, wait_s: float, *, recognises: bool) -> AsyncIterator[None]:
        """Hold a place while the block lasts, waiting for one for up to `wait_s`; cancelling it leaves the queue.

        Raises:
            PlacesTaken: There was none in that time.
        """
        # Who waits to recognise must not keep those waiting who would not.
        wanted = [free for free in (self._free_to_recognise if recognises else None, self._free) if free is not None]
        if wait_s <= 0 and any(free.locked() for free in wanted):
            raise PlacesTaken
        taken: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(wait_s if wait_s > 0 else None):
                    for free in wanted:
                        await free.acquire()
                        taken.append(free)
            except TimeoutError:
                raise PlacesTaken from None
            yield
        finally:
            for free in taken:
                free.release()
