"""Many requests on one connection, each with a session of its own."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from speechwire.errors import SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import wire
from speechwire.gradium.link import Link
from speechwire.gradium.protocol import RequestBooks
from speechwire.gradium.stream import S2s, Stt, Tts

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient
    from speechwire.transport import Limits

__all__ = ["Multiplexer"]

SessionType = TypeVar("SessionType", bound=Tts | Stt | S2s)
_Message = dict[str, Any] | SessionError

# Messages that wait for one request before the connection is read no further; an audio message holds 80 ms.
INBOX_MESSAGES: Final = 64


class Multiplexer(Generic[SessionType]):
    """One connection to one product; use it as `async with client.multiplex_tts() as connection`.

    `request` prepares a session like those of `client.tts_realtime(...)`, to be used in `async with` too. As many as
    the service allows may run at once, each in tasks of its own, or one after the other. Leaving a session's block ends
    its request, and what the service still sends for it is dropped. Leaving the connection's block ends all.

    One task reads the connection while anybody waits for a message. So a request whose messages are never taken holds
    the others up, once INBOX_MESSAGES wait for it.
    """

    def __init__(self, client: GradiumClient, session_type: type[SessionType]) -> None:
        self._client = client
        self._session_type: type[SessionType] = session_type
        # A silence on one request says nothing about the others, so each request has its own bounds, and the
        # connection is only watched by its pings.
        limits = replace(client.limits, ready_s=None, idle_s=None)
        self._link = client.new_link(session_type.product, None, limits)
        self._channels: dict[str, _Channel] = {}
        self._num_requests = 0
        self._num_waiting = 0
        self._reader: asyncio.Task[None] | None = None
        self._held_up_by: _Channel | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        await self._link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._fail(SessionClosed("the connection has been closed on this side", code=wire.CLOSE_NORMAL))
        for channel in list(self._channels.values()):
            channel.abort()
        if self._reader is not None:
            self._reader.cancel()
            try:
                await asyncio.wait([self._reader])
            except asyncio.CancelledError:
                self._link.abort()
                raise
        if error is None:
            await self._link.close()
        else:
            self._link.abort()
            await self._link.wait_closed()

    def request(self, *, client_req_id: str | None = None, **setup: Any) -> SessionType:
        """Prepare a request of its own voice, format and options; use it in `async with`.

        Args:
            client_req_id: Its name on the wire; a new one unless given.
            **setup: As for the real-time call of the client, its `sample_rate` and `source_format` included.

        Raises:
            ValueError: A request of this name is still running, or was left and the service has not ended it yet.
        """
        self._num_requests += 1
        name = f"req-{self._num_requests}" if client_req_id is None else client_req_id
        self._check_name(name)
        channel = _Channel(self, self._link, self._client.limits, name)
        return self._session_type(self._client, link=channel, client_req_id=name, close_ws_on_eos=False, **setup)

    # --- for channels

    def begin(self, channel: _Channel) -> None:
        """Let a channel's messages in."""
        if self._failure is not None:
            raise self._failure_of(channel)
        self._check_name(channel.name)
        self._channels[channel.name] = channel

    def end(self, channel: _Channel) -> None:
        """Let no more of a channel's messages in."""
        self._channels.pop(channel.name, None)

    @property
    def held_up_by(self) -> str | None:
        """The name of the request whose messages are not taken, so that the connection is not read; or None."""
        return None if self._held_up_by is None else self._held_up_by.name

    async def take(self, channel: _Channel) -> dict[str, Any] | None:
        """Return the channel's next message; None after its end."""
        while not channel.inbox:
            if channel.ended:
                return None
            if self._failure is not None:
                raise self._failure_of(channel)
            self._num_waiting += 1
            try:
                if self._reader is None or self._reader.done():
                    self._reader = asyncio.create_task(self._read(), name="speechwire-multiplexer")
                await channel.wait()
            finally:
                self._num_waiting -= 1
        message = channel.inbox.popleft()
        channel.make_room()
        if isinstance(message, SessionError):
            raise message
        return message

    async def _read(self) -> None:
        """Put messages where they belong, as long as anybody waits for one."""
        try:
            while self._num_waiting:
                try:
                    name, message = await self._recv()
                except SessionError as error:
                    if error.client_req_id is None:
                        raise
                    name, message = error.client_req_id, error
                channel = self._channels.get(name)
                if channel is None:
                    continue  # what still came for a request that is over
                while len(channel.inbox) >= INBOX_MESSAGES and self._holds(channel):
                    self._held_up_by = channel
                    await channel.wait_for_room()
                self._held_up_by = None
                if self._holds(channel):
                    channel.put(message)
                    # Whoever waited for it has its turn before the next is read.
                    await asyncio.sleep(0)
        except Exception as error:
            self._fail(error)  # for all who wait, and all who come

    async def _recv(self) -> tuple[str, _Message]:
        message = await self._link.recv()
        if message is None:
            raise SessionClosed("the connection has been closed", code=wire.CLOSE_NORMAL)
        name = message.get("client_req_id")
        if not isinstance(name, str):
            self._link.abort()
            kind = message["type"]
            raise SessionClosed(
                f"expected client_req_id in every message, got {kind!r} without", code=wire.CLOSE_PROTOCOL
            )
        return name, message

    def _holds(self, channel: _Channel) -> bool:
        return self._channels.get(channel.name) is channel

    def _check_name(self, name: str) -> None:
        if name in self._channels or self._link.is_active(name):
            raise ValueError(f"expected the name of no running request, got {name!r}")

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error
        for channel in list(self._channels.values()):
            channel.wake()
            channel.make_room()

    def _failure_of(self, channel: _Channel) -> Exception:
        assert self._failure is not None
        # One for each request that it ends: they are raised in different tasks, with different books.
        error = copy.copy(self._failure)
        error.__cause__ = self._failure.__cause__
        return channel.annotate(error) if isinstance(error, SessionError) else error


class _Channel:
    """One request on a shared connection; a `RequestLink`."""

    def __init__(self, multiplexer: Multiplexer[Any], link: Link, limits: Limits, name: str) -> None:
        self.name = name
        self.inbox: deque[_Message] = deque()
        self.ended = False
        self._multiplexer = multiplexer
        self._link = link
        self._limits = limits
        self._begun = False
        self._books = RequestBooks({})
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def ready(self) -> dict[str, Any] | None:
        return self._books.ready

    @property
    def sent_ms(self) -> float:
        return self._books.sent_ms

    @property
    def received_ms(self) -> float:
        return self._books.received_ms

    @property
    def broken(self) -> bool:
        return self._link.broken

    @property
    def input_ended(self) -> bool:
        return self._books.input_ended

    async def open(self) -> None:
        pass  # the connection is open already

    async def send_setup(self, fields: Mapping[str, Any]) -> None:
        if fields.get("client_req_id") != self.name:
            raise ValueError(f"expected client_req_id {self.name!r}, got {fields.get('client_req_id')!r}")
        self._multiplexer.begin(self)
        self._begun = True
        self.ended = False
        await self._link.send_setup(fields)
        self._books = self._link.books(self.name)

    async def send_audio(self, audio: bytes, client_req_id: str | None) -> None:
        await self._link.send_audio(audio, self._checked(client_req_id))

    async def send_text(self, text: str, client_req_id: str | None) -> None:
        await self._link.send_text(text, self._checked(client_req_id))

    async def send_flush(self, flush_id: object, client_req_id: str | None) -> None:
        await self._link.send_flush(flush_id, self._checked(client_req_id))

    async def send_eos(self, client_req_id: str | None) -> None:
        await self._link.send_eos(self._checked(client_req_id))

    async def recv(self) -> dict[str, Any] | None:
        if self._failure is not None:
            raise self._failure
        self._check_begun()
        limit_s = self._limits.ready_s if self.ready is None else self._limits.idle_s
        try:
            async with asyncio.timeout(None if self.inbox else limit_s):
                message = await self._multiplexer.take(self)
        except TimeoutError as error:
            if isinstance(error, SessionError):
                raise
            raise self.annotate(self._timeout(limit_s)) from error
        if self._failure is not None:
            raise self._failure
        return message

    def _timeout(self, limit_s: float | None) -> SessionTimeout:
        other = self._multiplexer.held_up_by
        if other is None:
            return SessionTimeout(f"nothing came from the server for {limit_s:g} s", retryable=True)
        return SessionTimeout(f"the connection was not read for {limit_s:g} s: nobody takes the messages of {other!r}")

    def annotate(self, error: SessionError) -> SessionError:
        error.request_id = self._books.request_id
        error.sent_ms = self._books.sent_ms
        error.received_ms = self._books.received_ms
        error.client_req_id = self.name
        return error

    async def close(self) -> None:
        """End the request; what still comes for it is dropped."""
        self.abort()
        await self.wait_closed()

    def abort(self) -> None:
        """Drop what comes for the request from now on; `wait_closed` tells the service."""
        self.ended = True
        self.inbox.clear()
        self._multiplexer.end(self)
        self.wake()
        self.make_room()

    async def wait_closed(self) -> None:
        """Tell the service that no more input will come, if it does not know; there is no other way to stop it."""
        if not self._begun or self.input_ended or not self._books.active:
            return
        with suppress(SessionError, TimeoutError):  # the connection may be gone, and the request with it
            async with asyncio.timeout(self._limits.close_s):
                await self._link.send_eos(self.name)

    def fail(self, error: BaseException) -> None:
        self._failure = error
        self.abort()

    # --- for the multiplexer

    def put(self, message: _Message) -> None:
        """Take a message, the last one of the request if it says so."""
        self.inbox.append(message)
        if isinstance(message, SessionError) or message["type"] == wire.END_OF_STREAM:
            self.ended = True
            self._multiplexer.end(self)
        self.wake()

    async def wait(self) -> None:
        """Wait for a message, or for the end."""
        if self._waiter is not None:
            raise RuntimeError("another task is receiving from this request")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """End `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait_for_room(self) -> None:
        """Wait until a message has been taken; only the task that reads the connection does."""
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._room
        finally:
            self._room = None

    def make_room(self) -> None:
        """End `wait_for_room`."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _check_begun(self) -> None:
        if not self._begun:
            raise RuntimeError("no setup was sent; use the request in an async with block")

    def _checked(self, client_req_id: str | None) -> str:
        self._check_begun()
        if client_req_id not in {None, self.name}:
            raise ValueError(f"expected client_req_id {self.name!r}, got {client_req_id!r}")
        if self.ended:
            raise self.annotate(SessionClosed("the request has ended; its connection takes no more input for it"))
        return self.name
