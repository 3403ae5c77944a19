"""Speech recognition with PocketSphinx and the English model that its wheel carries, each stream in a process."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from speechwire.events import Flush, Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.stages import Activity, Heard, Utterance
from speechwire.server.engines.together import finish, together
from speechwire.server.engines.worker import Worker

__all__ = ["PocketSphinxRecognizer"]

SAMPLE_RATE: Final = 16000
FRAME_BYTES: Final = 640  # 20 ms, in which the process works
STEP_BYTES: Final = 2560  # 80 ms, for each of which it reports an activity

# Messages both ways: from the process they say that what they asked for has been done.
BEGIN: Final = b"b"
FLUSH: Final = b"f"
END: Final = b"e"
# To the process.
SPEECH: Final = b"s"
# From the process.
ACTIVITY: Final = b"a"
WORDS: Final = b"w"
FINAL_WORDS: Final = b"W"

_ACTIVITY: Final = struct.Struct("<dd")
_STREAMS_PER_CPU: Final = 4
# Audio that a process may have and not yet have answered. More would only move a queue, and results of as much may wait
# for who takes them.
_MAX_STEPS_AHEAD: Final = 12


def pack_heard(heard: Utterance | Activity) -> tuple[bytes, bytes]:
    """Return the kind and the payload of the message that reports what was heard."""
    if isinstance(heard, Activity):
        return ACTIVITY, _ACTIVITY.pack(heard.silence_s, heard.busy_s)
    words = [(word.text, word.start_s, word.stop_s) for word in heard.words]
    return FINAL_WORDS if heard.is_final else WORDS, json.dumps(words).encode()


def unpack_heard(kind: bytes, payload: bytes) -> Utterance | Activity:
    """Return what was heard, from its message."""
    if kind == ACTIVITY:
        return Activity(*_ACTIVITY.unpack(payload))
    return Utterance(tuple(Transcript(*word) for word in json.loads(payload)), kind == FINAL_WORDS)


class PocketSphinxRecognizer:
    """Recognises English.

    Each stream has a process to itself, which is given back when the stream has ended well, and ended when it has not.
    A stream that begins finds one loaded: there is always one more than are in use, as long as there may be more.

    Args:
        max_streams: Streams at once; the next one fails. Four for each CPU unless given.
        timeout_s: How long a process may take to load, and, up to twice as long, for what it owes an answer.
    """

    def __init__(self, max_streams: int | None = None, timeout_s: float = 10.0) -> None:
        if max_streams is None:
            max_streams = _STREAMS_PER_CPU * len(os.sched_getaffinity(0))
        elif max_streams < 1:
            raise ValueError(f"expected max_streams of at least 1, got {max_streams}")
        self._max_streams = max_streams
        self._timeout_s = timeout_s
        self._num_streams = 0
        self._is_open = False
        # Loaded ones, or ones still loading. With those in use they are never more than there may be streams.
        self._pool: list[asyncio.Task[Worker]] = []

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that a stream consists of."""
        return SAMPLE_RATE

    @property
    def max_streams(self) -> int | None:
        """Processes that there may be."""
        return self._max_streams

    async def start(self) -> None:
        """Verify that PocketSphinx is installed, and load the first process."""
        if importlib.util.find_spec("pocketsphinx") is None:
            raise EngineError("python package pocketsphinx is not installed; run pip install 'speechwire[local]'")
        self._is_open = True
        self._fill_pool()
        await asyncio.wait(self._pool)
        self._pool[0].result()

    async def stop(self) -> None:
        """End the processes that no stream has; the others end with their streams."""
        self._is_open = False
        while self._pool:
            await _discard(self._pool.pop())

    def check_language(self, language: str) -> None:
        """Raise EngineError unless `language` is English."""
        if language != "en":
            raise EngineError(f"expected source language en, got {language}: the recogniser's model is English")

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        """Recognise a stream; see `stages.Recognizer`."""
        self.check_language(language)
        if self._num_streams == self._max_streams:
            raise EngineError(f"expected at most {self._max_streams} streams at once, got one more")
        self._num_streams += 1
        try:
            async with self._process() as worker:
                await _Stream(worker, report, self._timeout_s).run(audio)
        finally:
            self._num_streams -= 1
            self._fill_pool()

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Worker]:
        """Have a process for a stream; it waits for the next one if the block ends well."""
        is_from_pool = True
        while is_from_pool:
            is_from_pool = bool(self._pool)
            process = self._pool.pop() if self._pool else asyncio.create_task(_load(self._timeout_s))
            try:
                try:
                    worker = await asyncio.shield(process)
                    await _begin(worker, self._timeout_s)
                except EngineError:
                    if is_from_pool:
                        continue  # it has died while nobody looked, which costs nobody anything
                    raise
                self._fill_pool()
                yield worker
                if self._is_open:
                    self._pool.append(process)
                return
            finally:
                if process not in self._pool:
                    # What it was doing is not known; a new one costs less than finding out.
                    await _discard(process)

    def _fill_pool(self) -> None:
        if self._is_open and not self._pool and self._num_streams < self._max_streams:
            self._pool.append(asyncio.create_task(_load(self._timeout_s)))


async def _load(timeout_s: float) -> Worker:
    worker = await Worker.start(f"{__name__}_worker")
    try:
        await _begin(worker, timeout_s)
    except BaseException:
        await worker.stop()
        raise
    return worker


async def _begin(worker: Worker, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await worker.send(BEGIN)
            await worker.receive()
    except TimeoutError:
        raise EngineError(f"pocketsphinx took more than {timeout_s:g} s to begin") from None


async def _discard(process: asyncio.Task[Worker]) -> None:
    process.cancel()
    if not process.done():
        await finish(asyncio.wait([process]))
    if not process.cancelled() and process.exception() is None:
        await process.result().stop()


class _Stream:
    """What a process has been sent of one stream, and has not answered yet."""

    def __init__(self, worker: Worker, report: Callable[[Heard], Awaitable[None]], timeout_s: float) -> None:
        self._worker = worker
        self._report_heard = report
        self._timeout_s = timeout_s
        self._steps_ahead = asyncio.Semaphore(_MAX_STEPS_AHEAD)
        self._flushes: deque[Flush] = deque()
        self._num_owed = 0  # answers to whole steps, flushes and the end

    async def run(self, audio: AsyncIterator[bytes | Flush]) -> None:
        await together(self._send(audio), self._report())

    async def _send(self, audio: AsyncIterator[bytes | Flush]) -> None:
        """Send all that the process can work on now, in pieces of which none asks for more than one step."""
        num_bytes = 0
        pending = bytearray()

        async def send_pending(end: int) -> None:
            nonlocal num_bytes
            for start in range(0, end, STEP_BYTES):
                piece = bytes(pending[start : min(end, start + STEP_BYTES)])
                if num_bytes // STEP_BYTES < (num_bytes + len(piece)) // STEP_BYTES:
                    await self._steps_ahead.acquire()
                    self._num_owed += 1
                num_bytes += len(piece)
                await self._worker.send(SPEECH, piece)
            del pending[:end]

        async for item in audio:
            if isinstance(item, Flush):
                await send_pending(len(pending) - len(pending) % 2)  # half a sample waits for its other half
                self._flushes.append(item)
                self._num_owed += 1
                await self._worker.send(FLUSH)
            else:
                pending += item
                await send_pending(len(pending) - len(pending) % FRAME_BYTES)
        await send_pending(len(pending))
        self._num_owed += 1
        await self._worker.send(END)

    async def _report(self) -> None:
        while True:
            kind, payload = await self._receive()
            if kind in (ACTIVITY, FLUSH, END):
                self._num_owed -= 1
            if kind == END:
                return
            if kind == FLUSH:
                await self._report_heard(self._flushes.popleft())
                continue
            await self._report_heard(unpack_heard(kind, payload))
            if kind == ACTIVITY:
                self._steps_ahead.release()

    async def _receive(self) -> tuple[bytes, bytes]:
        """Return the next message, however long the speaker pauses; but not however long the process does."""
        while True:
            owes = self._num_owed > 0
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._worker.receive()
            except TimeoutError:
                if owes:
                    raise EngineError(f"pocketsphinx took more than {self._timeout_s:g} s") from None
