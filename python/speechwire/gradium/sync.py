"""The buffered calls for scripts without an event loop."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from speechwire.gradium import speech

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient

__all__ = ["SyncCalls"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    call: Callable[Concatenate[GradiumClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncCalls, P], T]:
    @functools.wraps(call)
    def blocking(self: SyncCalls, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.wait(call(self.client, *args, **kwargs))

    return blocking


class SyncCalls:
    """The buffered calls of a client, each of which blocks until it is done.

    They run on one event loop in a thread of its own, which starts with the first call and ends with `close`, with the
    `with` block, or with the program. Several threads may call at once. An interrupt cancels the call that it hits.
    A process that is forked starts a thread of its own.

    An iterable source is iterated on that thread: one that blocks for long, waiting for a device, holds up the other
    calls and the bounds of its own. Give bytes or arrays, or one client to each thread.
    """

    _loop: asyncio.AbstractEventLoop | None
    _thread: threading.Thread | None

    def __init__(self, client: GradiumClient) -> None:
        self.client = client
        self._start_anew()

    tts = _blocking(speech.tts)
    stt = _blocking(speech.stt)
    s2s = _blocking(speech.s2s)

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        """Run any coroutine of the client on the loop's thread and return what it returns.

        Raises:
            RuntimeError: An event loop runs in this thread, which the call would block; await the client's own call.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            call.close()
            raise RuntimeError("an event loop runs in this thread; await the client's call of the same name instead")
        future = asyncio.run_coroutine_threadsafe(call, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread; calls under way are cancelled. The next call starts another."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._loop = None
        self._thread = None
        self._process_id = os.getpid()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._process_id != os.getpid():
            # After a fork the loop is there and its thread is not; another thread may have held the lock.
            self._start_anew()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="speechwire-sync", daemon=True
                )
                self._thread.start()
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
