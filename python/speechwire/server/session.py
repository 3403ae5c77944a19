"""One connection: messages from the client through the dialect to the engine, and its answers back."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Final, Protocol

from speechwire.errors import AudioError
from speechwire.events import Audio, EndOfStream, Failure, FailureKind, InputEvent, OutputEvent, Start, Text
from speechwire.server.engines import Answer, Engine, EngineError, Input
from speechwire.server.inbox import Inbox
from speechwire.server.limits import Places, PlacesTaken, ServerLimits
from speechwire.server.metrics import Metrics, Outcome
from speechwire.server.request import Request
from speechwire.server.voices import Voice

__all__ = ["Closed", "Connection", "DialectProtocol", "Disconnected", "Meter", "Session", "Shared"]

logger = logging.getLogger("speechwire.server")

SLICE_BYTES: Final = 16 * 1024  # of input at once; an 80 ms message has 7680 at most
SEND_S: Final = 40.0  # after this and up to half more, a client that takes nothing of its answers is given up
FIRST_MESSAGE_S: Final = 1.0  # how long a client without a valid key may stay silent before it is told to go
MAX_REQUESTS: Final = 256  # of one connection at once
# Messages that are sent before others get their turn, and the loop may find out that the client has gone; asyncio warns
# of the sixth to one.
MESSAGES_BETWEEN_TURNS: Final = 4
BUSY: Final = Failure("too many requests run", FailureKind.BUSY)
MAX_CLOSE_REASON_BYTES: Final = 123  # RFC 6455 section 5.5


class Disconnected(Exception):
    """The client has gone, or is given up; there is nobody left to tell."""


class Closed(Disconnected):
    """The client has closed the connection in good order."""


class Connection(Protocol):
    """What a session needs of the way to its client. `recv` and `send` are never called twice at once."""

    async def accept(self) -> None:
        """Begin; raises Disconnected."""

    async def recv(self) -> str | bytes:
        """Return the next message; raises Disconnected."""

    async def send(self, message: str) -> None:
        """Send a message, waiting until there is room for it; raises Disconnected. Cancelling sends nothing."""

    async def close(self, code: int, reason: str) -> None:
        """Say that nothing follows; raises Disconnected."""


class DialectProtocol(Protocol):
    """What a session needs of a dialect's server-side state machine."""

    close_code: int | None
    close_reason: str

    def receive_message(self, data: str | bytes) -> list[tuple[str | None, InputEvent]]:
        """Take one message; return pairs of request name and event."""

    @property
    def active(self) -> Collection[str | None]:
        """The names of the requests that are running."""

    def receive_nothing(self) -> None:
        """The client has said nothing for a while."""

    def start_output(self, name: str | None, request_id: str, sample_rate: int) -> None:
        """The engine has taken the request; its audio will have this rate in Hz."""

    def send_event(self, name: str | None, event: OutputEvent) -> None:
        """Turn one event of the engine into messages."""

    def messages_to_send(self) -> list[str]:
        """Return what has to be sent, and forget it."""


class Meter(Protocol):
    """What books the use of a session; called on the event loop."""

    def count_start(self) -> None:
        """A request was taken."""

    def count_input_audio(self, seconds: float) -> None:
        """A message brought audio."""

    def count_input_text(self, num_characters: int) -> None:
        """A message brought text to be spoken."""

    def count_output(self, event: OutputEvent) -> None:
        """An event went to the client."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a server have in common.

    Args:
        engine: Answers every request.
        places: Of the requests that may run at once.
        metrics: Counts them.
        limits: How long a request or a call may last.
        find_voice: Tells how a voice sounds, or None for an id that nobody knows.
    """

    engine: Engine
    places: Places
    metrics: Metrics
    limits: ServerLimits
    find_voice: Callable[[str], Voice | None]


class Session:
    """Serves one connection until it ends.

    One task reads, and one works for each request, taking its input from a bounded box: while that is full nothing is
    read but one message, which shows whether the client is still there. A request takes its next input when the answers
    to the last have left. So a client that does not read its answers is soon not read from either, and nothing piles up
    here. A request that waits for a place takes no input: it is refused when its box is full, for the place that it
    waits for may be that of another request on this connection, whose end has yet to be read.
    """

    def __init__(self, connection: Connection, protocol: DialectProtocol, meter: Meter, shared: Shared) -> None:
        self._connection = connection
        self._protocol = protocol
        self._meter = meter
        self._shared = shared
        self._running: dict[str | None, _Running] = {}
        self._num_tasks = 0
        self._ahead: asyncio.Task[str | bytes] | None = None  # reads the next message while a box is full
        self._unsent: deque[str] = deque()
        self._num_sent = 0
        self._sending = asyncio.Lock()
        self._sending_since: float | None = None
        self._given_up = False
        self._watching: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve the connection; returns when it is closed and nothing of it is left."""
        try:
            try:
                await self._connection.accept()
                self._watch(asyncio.get_running_loop())
                async with asyncio.TaskGroup() as self._tasks:
                    self._tasks.create_task(self._read())
                    await self._over.wait()
                    if not self._given_up:
                        await self._close_connection()
                    raise Disconnected  # which cancels whatever still runs
            except* Disconnected:
                pass
        except asyncio.CancelledError:
            pass  # the server stops; this task ends here either way, and uvicorn would log a traceback
        finally:
            if self._watching is not None:
                self._watching.cancel()

    async def _close_connection(self) -> None:
        assert self._protocol.close_code is not None
        reason = self._protocol.close_reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        await self._connection.close(self._protocol.close_code, reason)

    async def _read(self) -> None:
        try:
            await self._receive(await asyncio.wait_for(self._connection.recv(), FIRST_MESSAGE_S))
        except TimeoutError:
            self._protocol.receive_nothing()
            await self._send_pending()
        while self._protocol.close_code is None:
            ahead, self._ahead = self._ahead, None
            await self._receive(await (self._connection.recv() if ahead is None else ahead))

    async def _receive(self, message: str | bytes) -> None:
        for name, event in self._protocol.receive_message(message):
            await self._take(name, event)
        closing = self._protocol.close_code is not None
        if closing or len(self._protocol.active) < len(self._running):
            for name in self._running.keys() - (() if closing else self._protocol.active):
                self._running.pop(name).stop()
        messages = self._protocol.messages_to_send()
        if messages or closing:
            await self._send(messages)

    async def _take(self, name: str | None, event: InputEvent) -> None:
        if isinstance(event, Start) and self._num_tasks >= MAX_REQUESTS:
            self._protocol.send_event(name, BUSY)
        elif isinstance(event, Start):
            running = self._running[name] = _Running()
            running.task = self._tasks.create_task(self._serve(name, event, running))
            self._num_tasks += 1
            running.task.add_done_callback(self._count_end)
        elif (known := self._running.get(name)) is not None:
            known.inbox.put(event)
            if known.inbox.is_full:
                await self._make_room(name, known)

    def _count_end(self, _: asyncio.Task[None]) -> None:
        self._num_tasks -= 1

    async def _make_room(self, name: str | None, running: _Running) -> None:
        """Wait until a request has taken some of its input, or refuse one that has no place to run in."""
        if self._ahead is None:
            # If the client has gone, this ends the session.
            self._ahead = self._tasks.create_task(self._connection.recv())
        if not running.has_place:
            await asyncio.sleep(0)  # a new task takes a place that is free in its first turn
        if running.has_place:
            await running.inbox.room()
        elif running.inbox.is_full:  # it has not ended meanwhile
            self._running.pop(name).stop()
            self._protocol.send_event(name, BUSY)

    async def _serve(self, name: str | None, start: Start, running: _Running) -> None:
        last: OutputEvent = EndOfStream()
        outcome = Outcome.DROPPED
        try:
            async with asyncio.timeout(self._shared.limits.max_session_s) as limit, AsyncExitStack() as place:
                with self._shared.metrics.waiting():
                    recognises = start.source_format is not None
                    await place.enter_async_context(self._shared.places.hold(start.wait_s, recognises=recognises))
                running.has_place = True
                await self._answer(name, start, running.inbox)
            # The place was given back before the client learns of it, so that its next request finds it free.
            outcome = Outcome.COMPLETED
        except Disconnected:
            raise
        except Exception as error:
            last = _failure(error, too_long=limit.expired())
            outcome = Outcome.REFUSED if last is BUSY else Outcome.FAILED
        finally:
            self._shared.metrics.count_end(start, outcome)
        running.inbox.close()
        # A new request may have this name from here on.
        if self._running.get(name) is running:
            del self._running[name]
            self._protocol.send_event(name, last)
        await self._send_pending()

    async def _answer(self, name: str | None, start: Start, inbox: Inbox) -> None:
        voice = None if start.voice_id is None else self._shared.find_voice(start.voice_id)
        request = Request(start, voice, self._shared.engine)
        request_id = str(uuid.uuid4())
        self._meter.count_start()
        self._protocol.start_output(name, request_id, request.output_sample_rate)

        async def tell(events: Iterable[OutputEvent]) -> None:
            for event in events:
                self._protocol.send_event(name, event)
                self._meter.count_output(event)
            await self._send_pending()

        async def say(answer: Answer) -> None:
            await tell(request.encode(answer))

        with self._shared.metrics.running(request_id, start, request):
            await tell(request.header())
            async with aclosing(self._inputs(request, inbox)) as inputs:
                await request.session.run(inputs, say)
            await tell(request.encode_end())

    async def _inputs(self, request: Request, inbox: Inbox) -> AsyncGenerator[Input, None]:
        """Yield the request's input as its engine wants it."""
        while not isinstance(event := await inbox.get(), EndOfStream):
            if not isinstance(event, Audio):
                if isinstance(event, Text):
                    self._meter.count_input_text(len(event.text))
                yield event
                continue
            heard_s = request.heard_s
            # In slices, because a message may hold minutes, and this loop serves others too.
            for start in range(0, len(event.audio), SLICE_BYTES):
                if start:
                    await asyncio.sleep(0)
                for audio in request.decode(event.audio[start : start + SLICE_BYTES]):
                    yield audio
            self._meter.count_input_audio(request.heard_s - heard_s)
        for audio in request.decode_end():
            yield audio

    async def _send_pending(self) -> None:
        """Send what the dialect has to say; returns when it has left."""
        await self._send(self._protocol.messages_to_send())

    async def _send(self, messages: list[str]) -> None:
        self._unsent.extend(messages)
        # What this task had to say may be with another that sends.
        if self._unsent or self._sending.locked():
            async with self._sending:
                await self._send_all()
        if self._protocol.close_code is not None:
            self._over.set()

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsent:
            self._num_sent += 1
            if self._num_sent % MESSAGES_BETWEEN_TURNS == 0:
                await asyncio.sleep(0)
            self._sending_since = loop.time()
            await self._connection.send(self._unsent[0])
            # Only now, so that who is cancelled loses no message of others.
            self._unsent.popleft()
        self._sending_since = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now and then whether a message is stuck; a timer for each would cost more than the message."""
        if self._sending_since is not None and loop.time() - self._sending_since >= SEND_S:
            self._given_up = True
            self._over.set()
        else:
            self._watching = loop.call_later(SEND_S / 2, self._watch, loop)


class _Running:
    """A request that runs: its input, and the task that works for it."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.has_place = False
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End it, and with it the engine's session."""
        self.inbox.close()
        if self.task is not None:
            self.task.cancel()


def _failure(error: Exception, *, too_long: bool) -> Failure:
    match error:
        case TimeoutError() if too_long:
            return Failure("the request took too long", FailureKind.DURATION)
        case PlacesTaken():
            return BUSY
        case AudioError():
            return Failure(str(error), FailureKind.INPUT)
        case EngineError(kind=kind):
            return Failure(str(error), kind)
    logger.error("the engine failed", exc_info=error)
    return Failure("internal error")
