"""Sessions that go on over a new connection: before the service's limit ends one, and after one broke."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from speechwire.errors import AuthError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import wire
from speechwire.gradium.link import Link
from speechwire.gradium.replay import Item, Replay, check_setup
from speechwire.transport import Limits

__all__ = ["ReconnectPolicy", "ResumingLink"]

# Connections whose messages have not all been taken, above which no other takes over.
MOST_UNREAD_LINKS: Final = 2


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """When a session goes on over a new connection, and how hard that is tried.

    A key that is refused is never tried again. What `rules` does not name is tried if the error is `retryable`, or is
    the service's limit on a session's duration or on how many run at once: a lost session may still be counted there.

    Args:
        attempts: Most connections that are tried after one break, at least 1.
        budget_s: Most time from a break until the service is ready again, in seconds.
        backoff_s: Bound of the wait before the first attempt; it doubles with each. The wait is a random part of it.
        max_backoff_s: Largest bound of such a wait.
        session_s: How long the service allows a session to last, in seconds: a new one takes over before. None to
            wait for the service's error instead.
        replay_ms: Most audio that is kept to be sent again, in milliseconds.
        lag_ms: How far what comes back may lag behind the time that it says it has reached: so much answered audio is
            sent again too, and what comes back for that is not given out again.
        rules: Close codes and codes of errors that are worth a new connection (True) or are not (False).
    """

    attempts: int = 5
    budget_s: float = 30.0
    backoff_s: float = 0.25
    max_backoff_s: float = 5.0
    session_s: float | None = 300.0
    replay_ms: float = 20_000.0
    lag_ms: float = 3_000.0
    rules: Mapping[int, bool] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"expected at least 1 attempt, got {self.attempts}")
        if self.session_s is not None and self.session_s <= 0:
            raise ValueError(f"expected session_s above 0, got {self.session_s:g}")

    def allows(self, error: SessionError) -> bool:
        """Tell whether an end of this kind is worth a new connection."""
        if isinstance(error, AuthError):
            return False
        if error.code is not None and error.code in self.rules:
            return self.rules[error.code]
        return error.retryable or error.reason in {wire.SESSION_TOO_LONG, wire.TOO_MANY_SESSIONS}

    def backoff_bound_s(self, attempt: int) -> float:
        """Return the longest wait before an attempt, which are counted from 1."""
        # The exponent is bounded because a float is.
        return min(self.max_backoff_s, self.backoff_s * 2.0 ** min(attempt - 1, 64))


class ResumingLink:
    """Several connections in a row that look like one; see `RequestLink`.

    Audio is kept until something came back for it. Messages of a connection are given out when those of the one before
    have been.

    Args:
        new_link: Returns a link that is not connected yet.
        product: Which of the services is at the other end.
        limits: Bounds of every wait on one connection.
        policy: When to go on, and how hard to try.
        rng: Returns a random number from 0.0 to 1.0, for the waits between attempts.
    """

    def __init__(
        self,
        new_link: Callable[[], Link],
        product: wire.Product,
        limits: Limits,
        policy: ReconnectPolicy,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._new_link = new_link
        self._product = product
        self._limits = limits
        self._policy = policy
        self._rng = rng
        self._fields: Mapping[str, Any] = {}
        self._replay: Replay | None = None
        self._links: deque[Link] = deque()  # one for each leg of the replay
        self._outbox: deque[dict[str, Any]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: dict[Link, asyncio.Task[None]] = {}
        self._connected = asyncio.Event()  # cleared while what is sent only waits for a connection
        self._spare: asyncio.Task[None] | None = None
        self._spare_link: Link | None = None
        self._recovery: asyncio.Task[None] | None = None
        # The outage that has not been got over: when it began, the attempts since, and when the service was ready.
        self._outage_s: float | None = None
        self._num_attempts = 0
        self._ready_s = 0.0
        self._failure: BaseException | None = None
        self._gave_up = False
        self._closed = False
        self._finished = False

    @property
    def ready(self) -> dict[str, Any] | None:
        """The latest `ready`, or None until the first came."""
        return None if self._replay is None else self._replay.ready

    @property
    def sent_ms(self) -> float:
        """Audio of the source that was sent, in milliseconds; what was sent again counts once."""
        return 0.0 if self._replay is None else self._replay.sent_ms

    @property
    def received_ms(self) -> float:
        """Audio that was given out, in milliseconds."""
        return 0.0 if self._replay is None else self._replay.received_ms

    @property
    def broken(self) -> bool:
        """True if nothing more can be sent."""
        return self._gave_up or self._finished or self._closed

    @property
    def input_ended(self) -> bool:
        """True if the end of all input has been said."""
        return self._replay is None or self._replay.input_ended

    async def open(self) -> None:
        """Connect; a link is opened once, and its first connection is tried once."""
        if self._links:
            raise RuntimeError("the session has been opened before; make a new one")
        link = self._new_link()
        self._links.append(link)
        await link.open()

    async def send_setup(self, fields: Mapping[str, Any]) -> None:
        """Begin the request; there is one.

        Raises:
            AudioError: Fields that do not go with another connection.
        """
        if self._replay is not None:
            raise RuntimeError("a session with reconnect serves one request; make a new one")
        check_setup(fields, self._product)
        self._fields = dict(fields)
        policy = self._policy
        self._replay = Replay(
            self._product, fields, replay_ms=policy.replay_ms, lag_ms=policy.lag_ms, session_s=policy.session_s
        )
        self._replay.begin(self._now_s())
        self._connected.set()
        await self._send(self._links[-1], self._links[-1].send_setup(self._fields))

    async def send_audio(self, audio: bytes, client_req_id: str | None) -> None:
        """Send audio; without a connection it is kept, and when that is full, sending waits."""
        replay = self._require_replay()
        for piece in replay.pieces(audio, self._now_s()):
            await self._wait_for_room(replay)
            replay.add_audio(piece, connected=self._connected.is_set())
            await self._transmit(replay)
            await self._look_ahead(replay)
        self._raise_failure()

    async def send_text(self, text: str, client_req_id: str | None) -> None:
        """Send text to be spoken."""
        await self._add(Item(wire.TEXT, text))

    async def send_flush(self, flush_id: object, client_req_id: str | None) -> None:
        """Ask for everything that is pending; asked again on the next connection if this one does not answer."""
        # As it will come back: a tuple is a list on the wire.
        await self._add(Item(wire.FLUSH, json.loads(json.dumps(flush_id))))

    async def send_eos(self, client_req_id: str | None) -> None:
        """Say that no more input will come."""
        await self._add(Item(wire.END_OF_STREAM))

    async def recv(self) -> dict[str, Any] | None:
        """Return the next message, or None after the end of the request; cancelling loses no message.

        Raises:
            SessionError: The session ended in another way, and could not go on.
        """
        while not self._outbox:
            if self._failure is not None:
                raise self._failure
            if self._finished or self._closed:
                return None
            if self._recovery is not None:
                # A task, so that those who wait for a message with a timeout do not begin it anew each time.
                recovery = self._recovery
                await asyncio.wait([recovery])
                self._recovery = None
                if not recovery.cancelled():
                    recovery.result()
                continue
            if not self._links:
                raise RuntimeError("connection not open; use the session in an async with block")
            link = self._links[0]
            try:
                message = await link.recv()
            except SessionError as error:
                if self._failure is None and not self._closed:
                    self._break(error)
                continue
            if message is None:
                self._finished = True
            else:
                self._take(link, message)
        return self._outbox.popleft()

    def annotate(self, error: SessionError) -> SessionError:
        """Write into an error what the books say."""
        if self.ready is not None:
            error.request_id = self.ready.get("request_id")
        error.sent_ms = self.sent_ms
        error.received_ms = self.received_ms
        return error

    async def close(self) -> None:
        """Close with a handshake, which takes `Limits.close_s` at most; safe to call twice."""
        self._closed = True
        self._stop()
        try:
            if self._links:
                await self._links[-1].close()
        finally:
            self.abort()
        await self.wait_closed()

    def abort(self) -> None:
        """Cut all connections without a handshake; whoever receives sees the end."""
        self._closed = True
        self._stop()
        for link in (*self._links, *self._ending):
            link.abort()

    async def wait_closed(self) -> None:
        """Wait until the sockets and the tasks are gone; prompt after `abort`."""
        for link in tuple(self._links):
            await link.wait_closed()
        tasks = [*self._tasks, *self._ending.values()]
        if tasks:
            await asyncio.wait(tasks)

    def fail(self, error: BaseException) -> None:
        """Cut the connections; whoever receives gets `error`."""
        self._failure = error
        self._gave_up = True
        self._stop()
        for link in self._links:
            link.fail(error)

    # --- sending

    async def _add(self, item: Item) -> None:
        replay = self._require_replay()
        self._check_usable()
        replay.add(item)
        await self._transmit(replay)
        self._raise_failure()

    async def _wait_for_room(self, replay: Replay) -> None:
        self._check_usable()
        while not self._connected.is_set() and replay.is_full:
            try:
                async with asyncio.timeout(self._limits.send_s):
                    await self._connected.wait()
            except TimeoutError:
                if self._recovery is None:
                    raise self.annotate(
                        SessionTimeout(
                            f"the connection broke {self._limits.send_s:g} s ago and nobody has noticed; iterate the "
                            "session while sending",
                            retryable=True,
                        )
                    ) from None
            self._check_usable()

    async def _transmit(self, replay: Replay) -> None:
        """Send what the latest connection has not been sent; several tasks may do so, for each takes the next item."""
        while self._connected.is_set() and self._links and (item := replay.next_item()) is not None:
            link = self._links[-1]
            if item.kind == wire.AUDIO:
                await self._send(link, link.send_audio(item.value, None))
            elif item.kind == wire.TEXT:
                await self._send(link, link.send_text(item.value, None))
            elif item.kind == wire.FLUSH:
                await self._send(link, link.send_flush(item.value, None))
            else:
                await self._send(link, link.send_eos(None))

    async def _send(self, link: Link, sending: Awaitable[None]) -> None:
        try:
            await sending
        except SessionError:
            # Whoever receives learns how it ended, after what arrived before.
            if self._links and link is self._links[-1]:
                self._connected.clear()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_usable(self) -> None:
        self._raise_failure()
        if self._closed or self._finished:
            side = "on this side" if self._closed else "by the server"
            raise self.annotate(SessionClosed(f"the session has been ended {side}", code=wire.CLOSE_NORMAL))

    # --- taking over before the limit

    async def _look_ahead(self, replay: Replay) -> None:
        now_s = self._now_s()
        if not self._connected.is_set() or not replay.opens_ahead(now_s):
            return
        if len(self._links) > MOST_UNREAD_LINKS:
            return  # nobody receives; the service's limit will end it
        if self._spare_link is not None and self._spare_link.is_gone:
            self._drop_spare()
        if self._spare is None:
            self._spare = self._spawn(self._open_spare())
        if self._spare_link is None or not replay.is_cut(now_s):
            return
        old, new = self._links[-1], self._spare_link
        self._spare = self._spare_link = None
        self._links.append(new)
        replay.roll_over(now_s)
        # A task, because a cancellation of the sender must not keep the old one waiting.
        self._spawn(self._end_input(old))
        # Written before anything is waited for, so that nothing else is sent first.
        await self._send(new, new.send_setup(self._fields))

    async def _end_input(self, link: Link) -> None:
        await self._send(link, link.send_eos(None))

    async def _open_spare(self) -> None:
        """Open the next connection; if that cannot be done, the service's limit is met as a break."""
        for attempt in range(1, self._policy.attempts + 1):
            link = self._new_link()
            try:
                await link.open()
            except SessionError as error:
                if not self._policy.allows(error):
                    return
                await asyncio.sleep(self._rng() * self._policy.backoff_bound_s(attempt))
            else:
                self._spare_link = link
                return

    # --- going on after a break

    def _take(self, link: Link, message: dict[str, Any]) -> None:
        replay = self._require_replay()
        messages = replay.receive_message(message)
        self._outbox += messages
        if len(replay.legs) < len(self._links):
            self._links.popleft()
            self._end(link, link.close())
        elif message["type"] == wire.END_OF_STREAM:
            self._finished = True
        if messages and message["type"] != wire.READY:
            self._outage_s = None

    def _break(self, error: SessionError) -> None:
        """Begin to go on after `error`, or give up."""
        now_s = self._now_s()
        self._connected.clear()
        self._drop_links()
        self._drop_spare()
        # A service that is ready again and breaks at once, each time, is one outage; only news end it, or time.
        if self._outage_s is None or now_s - self._ready_s > self._policy.budget_s:
            self._outage_s, self._num_attempts = now_s, 0
        reason = "" if self._replay is None else self._replay.unsendable()
        if self._replay is None or reason or not self._policy.allows(error):
            self._give_up(error, reason)
            return
        self._recovery = self._spawn(self._recover(self._replay, error, now_s))

    async def _recover(self, replay: Replay, error: SessionError, broken_s: float) -> None:
        assert self._outage_s is not None
        try:
            async with asyncio.timeout_at(self._outage_s + self._policy.budget_s):
                while self._num_attempts < self._policy.attempts and self._policy.allows(error):
                    self._num_attempts += 1
                    await asyncio.sleep(self._rng() * self._policy.backoff_bound_s(self._num_attempts))
                    try:
                        await self._reconnect(replay, broken_s)
                    except SessionError as failure:
                        self._drop_links()
                        error = failure
                    else:
                        return
        except TimeoutError:
            self._drop_links()
        self._give_up(error)

    async def _reconnect(self, replay: Replay, broken_s: float) -> None:
        link = self._new_link()
        self._links.append(link)
        await link.open()
        since_s = self._now_s()
        await link.send_setup(self._fields)
        ready = await link.recv()
        if ready is None or ready["type"] != wire.READY:
            got = "the end of the connection" if ready is None else repr(ready["type"])
            raise SessionClosed(f"expected a ready message, got {got}", code=wire.CLOSE_PROTOCOL)
        is_first = replay.ready is None
        replayed_ms = replay.resume(since_s)
        self._outbox += replay.receive_message(ready)
        self._ready_s = self._now_s()
        if not is_first:
            gap_ms = (self._ready_s - broken_s) * 1000
            self._outbox.append({"type": wire.RECONNECTED, "gap_ms": gap_ms, "replayed_ms": replayed_ms})
        self._connected.set()
        # A task, because the answers have to be taken meanwhile.
        self._spawn(self._transmit(replay))

    def _give_up(self, error: SessionError, reason: str = "") -> None:
        """Let everybody know how the last attempt ended, with what came before as its cause."""
        if not reason and self._num_attempts:
            assert self._outage_s is not None
            outage_s = self._now_s() - self._outage_s
            attempts = f"attempt {self._num_attempts} of {self._policy.attempts} to reconnect"
            reason = f"{attempts}, {outage_s:.1f} s after the break"
        failure = error
        if reason:
            failure = type(error)(
                f"{error.message}; {reason}", code=error.code, reason=error.reason, retryable=error.retryable
            )
            failure.__cause__ = error
        self._failure = self.annotate(failure)
        self._gave_up = True
        self._connected.set()

    # --- connections and tasks

    def _drop_links(self) -> None:
        while self._links:
            self._cut(self._links.pop())

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.cancel()
        if self._spare_link is not None:
            self._cut(self._spare_link)
        self._spare = self._spare_link = None

    def _cut(self, link: Link) -> None:
        link.abort()
        self._end(link, link.wait_closed())

    def _end(self, link: Link, ending: Coroutine[Any, Any, None]) -> None:
        """Wait for a connection that is not used any more; `abort` makes that prompt."""
        task = self._ending[link] = asyncio.create_task(ending)
        task.add_done_callback(lambda _: self._ending.pop(link))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _stop(self) -> None:
        """Cancel what goes on beside the callers, and wake those who wait for it."""
        self._outbox.clear()
        self._drop_spare()
        for task in self._tasks:
            task.cancel()
        self._connected.set()

    def _require_replay(self) -> Replay:
        if self._replay is None:
            raise RuntimeError("connection not open or no setup sent; use the session in an async with block")
        return self._replay

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
