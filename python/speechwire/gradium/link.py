"""What a session talks through: a connection with its state machine, and the one receive loop of this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from speechwire.errors import SessionClosed, SessionError, WireError
from speechwire.gradium import wire
from speechwire.gradium.protocol import ClientProtocol, RequestBooks
from speechwire.transport import Connection, Limits, without_secret

__all__ = ["Link", "RequestLink"]


class RequestLink(Protocol):
    """What a session needs: a connection of its own, a part of a shared one, or several in a row."""

    @property
    def ready(self) -> dict[str, Any] | None:
        """The latest `ready`, or None until it came."""

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds; 0.0 for containers."""

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds."""

    @property
    def broken(self) -> bool:
        """True if sending has failed because the connection is gone."""

    @property
    def input_ended(self) -> bool:
        """True if the end of all input has been sent."""

    async def open(self) -> None:
        """Connect."""

    async def send_setup(self, fields: Mapping[str, Any]) -> None:
        """Begin a request."""

    async def send_audio(self, audio: bytes, client_req_id: str | None) -> None:
        """Send audio in the request's input format."""

    async def send_text(self, text: str, client_req_id: str | None) -> None:
        """Send text to be spoken."""

    async def send_flush(self, flush_id: object, client_req_id: str | None) -> None:
        """Ask for everything that is pending."""

    async def send_eos(self, client_req_id: str | None) -> None:
        """Say that no more input will come."""

    async def recv(self) -> dict[str, Any] | None:
        """Return the next message, or None after the end of the last request; cancelling loses no message."""

    def annotate(self, error: SessionError) -> SessionError:
        """Write into an error what the books say."""

    async def close(self) -> None:
        """Close with a handshake; bounded, and safe to call twice."""

    def abort(self) -> None:
        """Cut the connection now."""

    async def wait_closed(self) -> None:
        """Wait until the socket is gone; prompt after `abort`."""

    def fail(self, error: BaseException) -> None:
        """Cut the connection; whoever receives gets `error`."""


class Link:
    """One connection, opened once and used by one session.

    Args:
        connect: Opens the connection.
        product: Which of the services is at the other end.
        limits: Bounds of every wait.
        api_key: What no error may repeat, whatever the server says.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        product: wire.Product,
        limits: Limits,
        *,
        api_key: str = "",
    ) -> None:
        self._connect = connect
        self._api_key = api_key
        self._limits = limits
        self._protocol = ClientProtocol(product)
        self._connection: Connection | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._broken = False

    @property
    def ready(self) -> dict[str, Any] | None:
        """The latest `ready`, or None until it came."""
        return self._protocol.ready

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds; 0.0 for containers."""
        return self._protocol.sent_ms

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds."""
        return self._protocol.received_ms

    @property
    def broken(self) -> bool:
        """True if sending has failed because the connection is gone."""
        return self._broken

    @property
    def input_ended(self) -> bool:
        """True if the end of all input has been sent."""
        return self._protocol.input_ended

    @property
    def is_gone(self) -> bool:
        """True if the connection was there and has ended."""
        return self._connection is not None and self._connection.is_gone

    def books(self, client_req_id: str | None) -> RequestBooks:
        """Return the books of one request."""
        return self._protocol.books(client_req_id)

    def is_active(self, client_req_id: str) -> bool:
        """Tell whether a request of this name was begun and has not been ended by the service."""
        return self._protocol.is_active(client_req_id)

    async def open(self) -> None:
        """Connect; a link is opened once."""
        if self._connection is not None:
            raise RuntimeError("the session has been opened before; make a new one")
        self._connection = await self._connect()

    async def send_setup(self, fields: Mapping[str, Any]) -> None:
        """Begin a request."""
        await self._send(self._protocol.setup(fields))

    async def send_audio(self, audio: bytes, client_req_id: str | None) -> None:
        """Send audio in the request's input format."""
        await self._send(self._protocol.audio(audio, client_req_id))

    async def send_text(self, text: str, client_req_id: str | None) -> None:
        """Send text to be spoken."""
        await self._send(self._protocol.text(text, client_req_id))

    async def send_flush(self, flush_id: object, client_req_id: str | None) -> None:
        """Ask for everything that is pending."""
        await self._send(self._protocol.flush(flush_id, client_req_id))

    async def send_eos(self, client_req_id: str | None) -> None:
        """Say that no more input will come."""
        await self._send(self._protocol.end_of_stream(client_req_id))

    async def recv(self) -> dict[str, Any] | None:
        """Return the next message, or None after the end of the last request; cancelling loses no message.

        Raises:
            SessionError: The session ended in another way; it says how.
        """
        if self._failure is not None:
            raise self._failure
        if self._protocol.finished:
            return None
        connection = self._require_connection()
        limits = self._limits
        try:
            data = await connection.recv(limits.idle_s if self._protocol.ready is not None else limits.ready_s)
            return self._protocol.receive_message(data)
        except WireError as error:
            reason = f"malformed message from the server: {error}"
            closed = self.annotate(SessionClosed(reason, code=wire.CLOSE_PROTOCOL, reason=str(error)))
            self._failure = closed  # who sends meanwhile is told the same
            await connection.close(wire.CLOSE_PROTOCOL, "malformed message")
            raise closed from error
        except SessionError as error:
            if self._failure is not None:
                raise self._failure from None
            if self._closed or (self._protocol.idle and error.code == wire.CLOSE_NORMAL):
                return None
            if error.client_req_id is not None:
                raise self._redact(error) from error.__cause__  # it has the books of its own request
            raise self.annotate(error) from error.__cause__

    def annotate(self, error: SessionError) -> SessionError:
        """Write into an error what the books say, and take the key out of it."""
        error.request_id = self._protocol.request_id
        error.sent_ms = self._protocol.sent_ms
        error.received_ms = self._protocol.received_ms
        return self._redact(error)

    def _redact(self, error: SessionError) -> SessionError:
        error.message = without_secret(error.message, self._api_key)
        error.reason = without_secret(error.reason, self._api_key)
        error.args = (error.message,)
        return error

    async def close(self) -> None:
        """Close with a handshake, which takes `Limits.close_s` at most; safe to call twice."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    def abort(self) -> None:
        """Cut the connection without a handshake; whoever receives sees the end."""
        self._closed = True
        if self._connection is not None:
            self._connection.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is gone; prompt after `abort`."""
        if self._connection is not None:
            await self._connection.wait_closed()

    def fail(self, error: BaseException) -> None:
        """Cut the connection; whoever receives gets `error`."""
        self._failure = error
        if self._connection is not None:
            self._connection.abort()

    async def _send(self, message: str) -> None:
        try:
            await self._require_connection().send(message)
        except SessionError as error:
            self._broken = True
            if isinstance(self._failure, SessionError):
                raise self._failure from None
            raise self.annotate(error) from error.__cause__

    def _require_connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("connection not open; use the session in an async with block")
        return self._connection
