"""How much the server takes on: how long a request may last, and how many may run at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_LIMITS", "Places", "PlacesTaken", "ServerLimits"]

MAX_SESSION_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server.

    Args:
        max_session_s: Seconds from a request's setup to the last of its output; None for any time.
        max_requests: Requests that run at once on all connections together; None for any number.

    Raises:
        ValueError: A bound is not positive.
    """

    max_session_s: float | None = MAX_SESSION_S
    max_requests: int | None = None

    def __post_init__(self) -> None:
        if self.max_session_s is not None and not self.max_session_s > 0:
            raise ValueError(f"expected max_session_s of more than 0, got {self.max_session_s:g}")
        if self.max_requests is not None and self.max_requests < 1:
            raise ValueError(f"expected max_requests of at least 1, got {self.max_requests}")


DEFAULT_LIMITS: Final = ServerLimits()


class PlacesTaken(Exception):
    """As many requests run as may."""


class Places:
    """Who may run: one place for each request, first come, first served."""

    def __init__(self, most: int | None) -> None:
        self._free = None if most is None else asyncio.Semaphore(most)

    async def take(self, wait_s: float) -> None:
        """Take a place, waiting for one for up to `wait_s`; give it back with `leave`.

        Cancelling it leaves the queue.

        Raises:
            PlacesTaken: There was none in that time.
        """
        if self._free is None:
            return
        if self._free.locked() and wait_s <= 0:
            raise PlacesTaken
        try:
            async with asyncio.timeout(wait_s if wait_s > 0 else None):
                await self._free.acquire()
        except TimeoutError:
            raise PlacesTaken from None

    def leave(self) -> None:
        """Give a place back."""
        if self._free is not None:
            self._free.release()
