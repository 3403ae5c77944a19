"""The input of one request, waiting for its engine: bounded, so that a full one stops the reading."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from speechwire.events import Audio, EndOfStream, Flush, Pause, Text

__all__ = ["Inbox", "Input"]

Input = Audio | Text | Pause | Flush | EndOfStream

MAX_BYTES: Final = 64 * 1024  # 1.4 s of 24 kHz PCM
MAX_EVENTS: Final = 64


class Inbox:
    """Events of one request in the order in which they came, put by one task and got by another.

    What comes in is always taken, as one message may be longer than the whole box; before the next is put, `room` has
    to be awaited.

    Args:
        max_bytes: Of audio and text that make the box full.
        max_events: Of any size, that do.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, max_events: int = MAX_EVENTS) -> None:
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._events: deque[Input] = deque()
        self._num_bytes = 0
        self._closed = False
        self._getter: asyncio.Future[None] | None = None
        self._putter: asyncio.Future[None] | None = None

    def put(self, event: Input) -> None:
        """Add an event; a closed box throws it away."""
        if self._closed:
            return
        self._events.append(event)
        self._num_bytes += _size(event)
        _wake(self._getter)

    async def room(self) -> None:
        """Wait until the box is no longer full."""
        while self.is_full:
            self._putter = asyncio.get_running_loop().create_future()
            await self._putter

    async def get(self) -> Input:
        """Wait for the next event and take it out; cancelling loses none."""
        while not self._events:
            self._getter = asyncio.get_running_loop().create_future()
            await self._getter
        event = self._events.popleft()
        self._num_bytes -= _size(event)
        if self._putter is not None and not self.is_full:
            _wake(self._putter)
        return event

    def close(self) -> None:
        """Nobody gets anything any more: forget what is there, and let go who waits for room."""
        self._closed = True
        self._events.clear()
        self._num_bytes = 0
        _wake(self._putter)

    @property
    def is_full(self) -> bool:
        """True if `room` would wait."""
        return self._num_bytes >= self._max_bytes or len(self._events) >= self._max_events


def _size(event: Input) -> int:
    match event:
        case Audio(audio):
            return len(audio)
        case Text(text):
            return len(text)
    return 0


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
