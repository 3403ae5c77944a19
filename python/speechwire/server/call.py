"""One telephone call: the caller's audio through a `PhoneLeg` to the engine, and its answers back in steady frames."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Final, NoReturn, Protocol

from speechwire.errors import AudioError, SpeechwireError
from speechwire.events import Audio, FailureKind, Flush, Flushed
from speechwire.server.dialects import telephony
from speechwire.server.dialects.telephony import CallEnd, CallSetup, Line
from speechwire.server.engines import Answer, EngineError, Input
from speechwire.server.engines.together import together
from speechwire.server.inbox import Inbox
from speechwire.server.limits import PlacesTaken
from speechwire.server.metrics import Outcome
from speechwire.server.onset import Onset
from speechwire.server.request import Request
from speechwire.server.session import MAX_CLOSE_REASON_BYTES, Closed, Connection, Disconnected, Shared
from speechwire.server.ticks import Ticks
from speechwire.telephony import CallAudio, CallEnded, CallMark, CallStarted, PhoneLeg

__all__ = ["Call", "CallConnection"]

logger = logging.getLogger("speechwire.server")

# A mark for every so many milliseconds of audio. One for each frame of 20 ms would be twice as many messages.
MARK_MS: Final = 100
START_S: Final = 10.0  # how long a call may take to say what it wants
STALL_S: Final = 5.0  # after this and up to half more, a far end that takes nothing of its audio is given up
CLOSE_S: Final = 2.0  # for a last word to a far end that may not take it
# An engine that has said nothing for so long has ended its answer; what it says next is another.
PAUSE_S: Final = 0.4
# Answers come faster than they are played. A speaker who does not pause may get this far ahead of his interpreter;
# the leg has room for more, as an engine may say much at once.
MAX_UNSENT_MS: Final = 90_000.0
SLICE_S: Final = 1  # of what is said at once
# What the caller has said and the engine has not taken.
MAX_BEHIND_S: Final = 10
MAX_BEHIND_EVENTS: Final = 50 * MAX_BEHIND_S
# A far end sends some tens of milliseconds at once. What is longer than this would be more than the caller may be
# ahead, and hold up the other calls while it is decoded.
MAX_MESSAGE_BYTES: Final = 128 * 1024
# Several are sent in one go, but others want their turn too.
MESSAGES_BETWEEN_TURNS: Final = 16


class CallConnection(Connection, Protocol):
    """The way to the far end."""

    async def send(self, message: str | bytes) -> None:
        """Send a text or a binary message, waiting until there is room for it; raises Disconnected."""


class Call:
    """Serves one connection until the call is over.

    Three tasks work for it. One reads, and never waits: audio goes into a box of bounded size, and a call whose engine
    leaves that full is ended. One runs the engine's session, which says its answers into the leg, and waits while too
    much is unplayed there. One sends what is due, woken by the server's ticks. Whatever ends the call ends all three,
    gives its place back, and is told to the far end.

    Args:
        connection: To the far end.
        line: What it speaks.
        parameters: That came with the connection; those of the call go before them.
        shared: What all sessions have in common.
        ticks: Wakes the sender.
        is_accepted: Tells whether a key or token, in this order, lets a call in.
    """

    def __init__(
        self,
        connection: CallConnection,
        line: Line,
        parameters: Mapping[str, str],
        shared: Shared,
        ticks: Ticks,
        is_accepted: Callable[[str | None, str | None], bool],
    ) -> None:
        self._connection = connection
        self._line = line
        self._parameters = parameters
        self._shared = shared
        self._ticks = ticks
        self._is_accepted = is_accepted
        self._loop = asyncio.get_running_loop()
        self._leg = PhoneLeg(line.framing, sample_rate=line.sample_rate, mark_ms=MARK_MS)
        self._inbox = Inbox(2 * line.sample_rate * MAX_BEHIND_S, MAX_BEHIND_EVENTS)
        self._call_id = "without a start"
        self._onset: Onset | None = None
        # The sender sleeps until then, or for ever.
        self._sleep: asyncio.Future[float] | None = None
        self._sleeps_until: float | None = None
        self._room: asyncio.Future[None] | None = None
        # The latest answer, when its last audio came, whether more of it may come, and whether that is wanted.
        self._answer = 0
        self._heard_answer = 0  # to its end
        self._said_s = 0.0
        self._is_said = False
        self._interrupted = False
        # A message that is being sent, since then.
        self._sending_since: float | None = None
        self._stalled: asyncio.Future[None] = self._loop.create_future()
        self._watching: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve the call; returns when it is over and nothing of it is left."""
        end = _Ended(CallEnd.STOPPED, "the server stops")
        try:
            try:
                await self._connection.accept()
                self._watch()
                await self._serve()
            except _Ended as ended:
                end = ended
            except Disconnected:
                end = _Ended(CallEnd.GONE, "the far end has gone")
            except Exception as error:  # before there was a request that could fail
                end = _end_of(error, too_long=False)
            if end.end not in (CallEnd.GONE, CallEnd.STALLED):
                await self._close(end)
        except asyncio.CancelledError:
            pass  # the server stops; this task ends here either way, and uvicorn would log a traceback
        finally:
            if self._watching is not None:
                self._watching.cancel()
            self._shared.metrics.count_call(self._line.framing, end.end.value, self._leg.stats)
            logger.info("%s call %s ended: %s: %s", self._line.framing, self._call_id, end.end.value, end)

    async def _close(self, ended: _Ended) -> None:
        reason = str(ended).encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._connection.close(telephony.close_code(ended.end), reason)
        except (TimeoutError, Disconnected):
            pass

    async def _serve(self) -> NoReturn:
        try:
            async with asyncio.timeout(START_S):
                while (started := await self._start_among_events()) is None:
                    pass
        except TimeoutError:
            raise _Ended(CallEnd.PROTOCOL, f"expected the start of a call within {START_S:g} s, got none") from None
        self._call_id = f"{started.call_id or started.stream_id!r:.80}"
        parameters = {**self._parameters, **started.parameters}
        if not self._is_accepted(telephony.credential(parameters), telephony.token(parameters)):
            raise _Ended(CallEnd.REFUSED, "the key is missing or wrong")
        try:
            setup = telephony.parse_setup(parameters, self._line)
        except ValueError as error:
            raise _Ended(CallEnd.REFUSED, str(error)) from None
        await self._interpret(setup)

    async def _interpret(self, setup: CallSetup) -> NoReturn:
        shared, start = self._shared, setup.start
        outcome = Outcome.FAILED
        try:
            async with asyncio.timeout(shared.limits.max_call_s) as limit, AsyncExitStack() as place:
                with shared.metrics.waiting():
                    await place.enter_async_context(shared.places.hold(start.wait_s, recognises=True))
                voice = None if start.voice_id is None else shared.find_voice(start.voice_id)
                request = Request(start, voice, shared.engine, frame_ms=None)
                if setup.barge_in:
                    self._onset = Onset(self._line.sample_rate)
                with shared.metrics.running(str(uuid.uuid4()), start, request):
                    await together(self._read(), self._run(request), self._send(), self._fail_when_stalled())
            raise AssertionError("one of them raises")
        except _Ended as ended:
            if ended.end is CallEnd.HUNG_UP:
                outcome = Outcome.COMPLETED
            raise
        except (Disconnected, asyncio.CancelledError):
            outcome = Outcome.DROPPED
            raise
        except Exception as error:
            end = _end_of(error, too_long=limit.expired())
            if end.end is CallEnd.BUSY:
                outcome = Outcome.REFUSED
            raise end from error
        finally:
            shared.metrics.count_end(start, outcome)

    # --- the caller

    async def _start_among_events(self) -> CallStarted | None:
        await self._recv()
        started = None
        for event in self._leg.events_received():
            if isinstance(event, CallStarted):
                started = event
            elif started is not None:
                self._take(event)
            else:
                self._check_end(event)
        return started

    async def _read(self) -> NoReturn:
        while True:
            await self._recv()
            for event in self._leg.events_received():
                self._take(event)

    async def _recv(self) -> None:
        try:
            message = await self._connection.recv()
        except Closed as closed:
            raise _Ended(CallEnd.HUNG_UP, "the far end has closed the connection") from closed
        if len(message) > MAX_MESSAGE_BYTES:
            raise _Ended(
                CallEnd.PROTOCOL, f"expected a message of at most {MAX_MESSAGE_BYTES} bytes, got {len(message)}"
            )
        try:
            self._leg.receive_message(message, now=self._loop.time())
        except SpeechwireError as error:
            raise _Ended(CallEnd.PROTOCOL, str(error)) from error

    def _take(self, event: object) -> None:
        if isinstance(event, CallMark) and event.ended:
            self._heard_answer = event.answer
        if not isinstance(event, CallAudio):
            self._check_end(event)
            return
        if self._onset is None:
            self._put(Audio(event.pcm))
            return
        for pcm in self._onset.feed(event.pcm):
            if pcm is None:
                self._interrupt()
            else:
                self._put(Audio(pcm))

    def _check_end(self, event: object) -> None:
        if isinstance(event, CallEnded):
            raise _Ended(CallEnd.HUNG_UP, "the call is over")

    def _put(self, event: Audio | Flush) -> None:
        if self._inbox.is_full:
            raise _Ended(CallEnd.BEHIND, f"the engine is more than {MAX_BEHIND_S} s behind the caller")
        self._inbox.put(event)

    def _interrupt(self) -> None:
        if self._interrupted or self._answer == self._heard_answer:
            return
        now = self._loop.time()
        self._leg.interrupt(now=now)
        self._heard_answer = self._answer
        # Until this comes back, or the engine has paused from now on, it says what it owes for the time before.
        self._interrupted = self._is_said = True
        self._said_s = now
        self._put(Flush(self._answer))
        self._wake_sender()
        self._wake_engine()

    # --- the engine

    async def _run(self, request: Request) -> NoReturn:
        async def say(answer: Answer) -> None:
            for event in request.encode(answer):
                if isinstance(event, Audio):
                    await self._say_audio(event.audio)
                elif isinstance(event, Flushed) and self._interrupted and event.flush_id == self._answer:
                    self._is_said = self._interrupted = False

        async with aclosing(self._inputs(request)) as inputs:
            await request.session.run(inputs, say)
        raise _Ended(CallEnd.ENGINE, "the engine ended before the call")

    async def _inputs(self, request: Request) -> AsyncGenerator[Input, None]:
        while True:
            event = await self._inbox.get()
            if isinstance(event, Audio):
                for audio in request.decode(event.audio):
                    yield audio
            elif isinstance(event, Flush):
                yield event

    async def _say_audio(self, pcm: bytes) -> None:
        slice_bytes = 2 * self._line.sample_rate * SLICE_S
        for place in range(0, len(pcm), slice_bytes):
            self._say_slice(pcm[place : place + slice_bytes])
            while self._leg.unsent_ms > MAX_UNSENT_MS:
                self._room = self._loop.create_future()
                await self._room

    def _say_slice(self, pcm: bytes) -> None:
        now = self._loop.time()
        if self._interrupted and now - self._said_s >= PAUSE_S:
            self._is_said = self._interrupted = False
        if not self._is_said:
            self._is_said = True
            self._answer += 1
        self._said_s = now
        self._leg.send_audio(pcm, answer=self._answer, now=now)
        self._wake_sender()

    # --- the far end

    def _wake_sender(self) -> None:
        """What is due may have changed: see to it that the sender does not sleep too long."""
        if self._sleep is None or self._sleep.done():
            return
        due = self._next_due()
        if due is not None and (self._sleeps_until is None or due < self._sleeps_until):
            self._sleep.set_result(self._loop.time())

    def _wake_engine(self) -> None:
        if self._room is not None and self._leg.unsent_ms <= MAX_UNSENT_MS:
            if not self._room.done():  # an engine that fails cancels what it says
                self._room.set_result(None)
            self._room = None

    def _next_due(self) -> float | None:
        due = self._leg.next_deadline()
        if self._is_said and not self._interrupted:
            ends_at = self._said_s + PAUSE_S
            due = ends_at if due is None else min(due, ends_at)
        return due

    async def _send(self) -> NoReturn:
        num_sent = 0
        while True:
            due = self._sleeps_until = self._next_due()
            now = self._loop.time()
            if due is None or due > now:
                self._sleep = self._loop.create_future() if due is None else self._ticks.at(due)
                now = await self._sleep
            else:
                await asyncio.sleep(0)
            if self._is_said and not self._interrupted and now >= self._said_s + PAUSE_S:
                self._leg.end_answer(self._answer, now=now)
                self._is_said = False
            for message in self._leg.messages_to_send(now=now):
                num_sent += 1
                if num_sent % MESSAGES_BETWEEN_TURNS == 0:
                    await asyncio.sleep(0)
                self._sending_since = now
                await self._connection.send(message)
            self._sending_since = None
            self._wake_engine()

    async def _fail_when_stalled(self) -> NoReturn:
        await self._stalled
        raise _Ended(CallEnd.STALLED, f"the far end took nothing for {STALL_S:g} s")

    def _watch(self) -> None:
        """Look now and then whether a message is stuck; a timer for each would cost more than the message."""
        now = self._loop.time()
        if self._sending_since is not None and now - self._sending_since >= STALL_S:
            if not self._stalled.done():
                self._stalled.set_result(None)
        else:
            self._watching = self._loop.call_later(STALL_S / 2, self._watch)


class _Ended(Exception):
    """The call is over."""

    def __init__(self, end: CallEnd, text: str) -> None:
        super().__init__(text)
        self.end = end


def _end_of(error: Exception, *, too_long: bool) -> _Ended:
    match error:
        case TimeoutError() if too_long:
            return _Ended(CallEnd.DURATION, "the call took too long")
        case PlacesTaken():
            return _Ended(CallEnd.BUSY, "too many requests run")
        case AudioError() | EngineError(kind=FailureKind.INPUT):
            return _Ended(CallEnd.REFUSED, str(error))
        case EngineError():
            return _Ended(CallEnd.ENGINE, str(error))
    logger.error("a call failed", exc_info=error)
    return _Ended(CallEnd.ENGINE, "internal error")
