"""One WebSocket connection with a bound on every wait. The only importer of the `websockets` package.

The protocol is that of `websockets` without its I/O; this file gives it a socket, a clock and a queue.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from speechwire.errors import AuthError, SessionClosed, SessionError, SessionTimeout

__all__ = ["Connection", "Limits", "connect", "without_secret"]

# RFC 6455 section 7.4.1. 1006 never crosses the wire: it stands for an end without a close frame.
NORMAL_CLOSURE: Final = 1000
ABNORMAL_CLOSURE: Final = 1006
# Ends that say nothing against the request itself: going away, lost, failed, restarting, overloaded, bad gateway.
RETRYABLE_CODES: Final = frozenset({1001, ABNORMAL_CLOSURE, 1011, 1012, 1013, 1014})
# What we close with when the server sends what a WebSocket may not: protocol error, invalid data, message too big.
PROTOCOL_FAILURES: Final = frozenset({1002, 1007, 1009})
READ_BYTES: Final = 64 * 1024
AUTH_STATUSES: Final = frozenset({401, 403})
MIN_SECRET_CHARACTERS: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection. Times are in seconds; None switches a bound off.

    Args:
        connect_s: From the first packet to the end of the WebSocket handshake.
        ready_s: From the setup to the server's `ready`.
        idle_s: Longest wait for the next message while somebody is waiting for one. A service that says nothing during
            long pauses of the speaker needs more than the default.
        send_s: Longest wait for the peer to take what is being sent.
        close_s: For the closing handshake; then the connection is cut.
        keepalive_s: After a silence of this length the peer is pinged, and has the same time to send anything at all.
        max_message_bytes: Largest message accepted from the server, and most that waits for `recv` before reading
            pauses.
        receive_queue_frames: Messages that wait for `recv` before reading pauses; an audio message holds 80 ms.
    """

    connect_s: float | None = 10.0
    ready_s: float | None = 15.0
    idle_s: float | None = 60.0
    send_s: float | None = 30.0
    close_s: float = 2.0
    keepalive_s: float | None = 20.0
    max_message_bytes: int = 16 * 1024 * 1024
    receive_queue_frames: int = 64


class Connection(asyncio.BufferedProtocol):
    """An open connection that sends text and receives messages: str for text frames, bytes for binary ones.

    Every failure is a SessionError. Belongs to one event loop; one task may receive while others send. Reading pauses
    while as much as `Limits` allows waits for `recv`, so that the network slows the peer down.
    """

    def __init__(self, websocket: ClientProtocol, headers: Mapping[str, str], limits: Limits) -> None:
        self._websocket = websocket
        self._request = websocket.connect()
        for name, value in headers.items():
            self._request.headers[name] = value
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._failure: SessionError | None = None
        self._closing = False
        # Receiving.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._messages: deque[str | bytes] = deque()
        self._queued_bytes = 0
        self._fragments: list[bytes] = []
        self._fragments_are_text = False
        self._receiver: asyncio.Future[None] | None = None
        self._receive_deadline: float | None = None
        self._receive_wait_s = 0.0
        self._reading_paused = False
        self._last_data_s = self._loop.time()
        # Sending.
        self._room: asyncio.Future[None] | None = None
        self._send_deadline: float | None = None
        self._unsent_bytes = 0
        # One timer watches all waits, so that a message costs no timer of its own.
        self._timer: asyncio.TimerHandle | None = None
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # --- for the client

    @property
    def is_gone(self) -> bool:
        """True if nothing more can be sent."""
        return self._websocket.state is not State.OPEN or self._failure is not None

    async def send(self, text: str) -> None:
        """Send one text message; returns when the connection has room for another.

        Raises:
            SessionClosed: The connection has ended.
            SessionTimeout: The peer took nothing for `send_s`; the connection is cut.
        """
        if self.is_gone:
            raise self._end()
        self._websocket.send_text(text.encode())
        self._flush()
        while self._room is not None:
            if self._limits.send_s is not None and self._send_deadline is None:
                self._expect_sending(self._limits.send_s)
            await asyncio.shield(self._room)
            if self._gone.done():
                raise self._end()

    async def recv(self, timeout_s: float | None) -> str | bytes:
        """Wait for the next message; cancelling loses none.

        Args:
            timeout_s: Bound of this wait, in seconds, or None.

        Raises:
            SessionClosed: The connection has ended.
            SessionTimeout: Nothing came in time; the connection is cut.
        """
        while not self._messages:
            if self.is_gone:
                raise self._end()
            if self._receiver is not None:
                raise RuntimeError("another task is receiving from this connection")
            if timeout_s is not None:
                self._receive_wait_s = timeout_s
                self._receive_deadline = self._loop.time() + timeout_s
                self._watch(self._receive_deadline)
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
                self._receive_deadline = None
        message = self._messages.popleft()
        self._queued_bytes -= len(message)
        if self._reading_paused and not self._is_full():
            self._reading_paused = False
            self._last_data_s = self._loop.time()
            if self._transport is not None:
                self._transport.resume_reading()
        return message

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close with a handshake, or cut the connection after `close_s`; safe to call twice."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(code, reason)
            self._flush()
        # The answer stands behind whatever has not been read, which nobody wants any more.
        self._closing = True
        self._messages.clear()
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        self._wake_receiver()
        self._start_close_timer()
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Cut the connection now, without a handshake."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is gone; prompt after `abort`."""
        await asyncio.shield(self._gone)

    # --- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the opening handshake."""
        # Those of other event loops, such as uvloop's, do all that one does and are none.
        self._transport = cast("asyncio.Transport", transport)
        self._websocket.send_request(self._request)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        # One buffer for the whole connection: asyncio's own way allocates 256 KiB for every read.
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._last_data_s = self._loop.time()
        self._websocket.receive_data(bytes(self._buffer[:nbytes]))
        self._advance()

    def eof_received(self) -> None:
        """Note that nothing more will be read."""
        self._websocket.receive_eof()
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits."""
        self._websocket.receive_eof()  # marks the protocol as closed, whatever came before
        for timer in (self._timer, self._keepalive_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._gone.set_result(None)
        if not self._opened.done():
            self._opened.set_result(None)
        self._wake_receiver()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Make senders wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let senders go on."""
        self._send_deadline = None
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    # --- inside

    async def open(self) -> None:
        """Wait for the end of the opening handshake."""
        await asyncio.shield(self._opened)
        error = self._websocket.handshake_exc
        if error is not None:
            # Older releases of websockets leave some errors of their HTTP parser as they are.
            raise error if isinstance(error, InvalidHandshake | EOFError) else InvalidHandshake(str(error)) from error
        if self._limits.keepalive_s is not None and not self._gone.done():
            self._keepalive_timer = self._loop.call_later(self._limits.keepalive_s, self._keep_alive, None)

    def _advance(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._take_frame(event)
            elif not self._opened.done():
                self._opened.set_result(None)
        self._flush()
        if self._websocket.close_expected():
            self._start_close_timer()
        if self._messages or self._websocket.state is not State.OPEN:
            self._wake_receiver()
        if not self._reading_paused and self._is_full() and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _take_frame(self, frame: Frame) -> None:
        if self._closing:
            return
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._fragments_are_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return  # pings are answered and closes remembered by the protocol
        data = frame.data
        if not frame.fin or self._fragments:
            if data or not self._fragments:  # empty ones would pile up below every limit
                self._fragments.append(bytes(data))
            if not frame.fin:
                return
            data = b"".join(self._fragments)
            self._fragments.clear()
        if not self._fragments_are_text:
            self._queue(bytes(data))
            return
        try:
            self._queue(str(data, "utf-8"))
        except UnicodeDecodeError as error:
            self._websocket.fail(1007, f"{error.reason} at position {error.start}")

    def _queue(self, message: str | bytes) -> None:
        self._messages.append(message)
        self._queued_bytes += len(message)

    def _is_full(self) -> bool:
        limits = self._limits
        return len(self._messages) >= limits.receive_queue_frames or self._queued_bytes >= limits.max_message_bytes

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)
            # What has come is not late because who waits for it gets its turn later, as when the machine was stopped.
            self._receive_deadline = None

    def _watch(self, deadline: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check_deadlines)
        elif deadline < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._timer = None
        now = self._loop.time()
        receive, send = self._receive_deadline, self._send_deadline
        if receive is not None and receive <= now:
            self._give_up(f"nothing came from the server for {self._receive_wait_s:g} s")
        elif send is not None and send <= now and not self._has_sent_some():
            self._give_up(
                f"the server took no data for {self._limits.send_s:g} s; if its output is not being read, "
                "iterate the session while sending"
            )
        else:
            pending = [deadline for deadline in (receive, self._send_deadline) if deadline is not None]
            if pending:
                self._watch(min(pending))

    def _expect_sending(self, wait_s: float) -> None:
        assert self._transport is not None
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._send_deadline = self._loop.time() + wait_s
        self._watch(self._send_deadline)

    def _has_sent_some(self) -> bool:
        """Tell whether the peer has taken anything since the deadline was set; if so, set the next."""
        assert self._transport is not None
        assert self._limits.send_s is not None
        if self._transport.get_write_buffer_size() >= self._unsent_bytes:
            return False
        self._expect_sending(self._limits.send_s)
        return True

    def _keep_alive(self, pinged_at_s: float | None) -> None:
        interval_s = self._limits.keepalive_s
        assert interval_s is not None
        if self._websocket.state is not State.OPEN:
            return
        now = self._loop.time()
        # Anything that came counts as a sign of life, for a pong may be waiting behind a lot of audio; and it may have
        # come in the instant of the ping, by this clock.
        silent = self._last_data_s <= now - interval_s if pinged_at_s is None else self._last_data_s < pinged_at_s
        if silent and pinged_at_s is not None and not self._reading_paused:
            self._give_up(f"no answer to a ping within {interval_s:g} s")
            return
        if silent and not self._reading_paused:
            self._websocket.send_ping(b"")
            self._flush()
            pinged_at_s = now
        else:
            pinged_at_s = None
        self._keepalive_timer = self._loop.call_later(interval_s, self._keep_alive, pinged_at_s)

    def _start_close_timer(self) -> None:
        if self._close_timer is None and not self._gone.done():
            self._close_timer = self._loop.call_later(self._limits.close_s, self.abort)

    def _give_up(self, message: str) -> None:
        self._failure = SessionTimeout(message, retryable=True)
        self._wake_receiver()
        self.abort()

    def _end(self) -> SessionError:
        """Say how the connection ended."""
        if self._failure is not None:
            return self._failure
        if self._closing:
            return SessionClosed("the connection has been closed on this side", code=NORMAL_CLOSURE)
        received, sent = self._websocket.close_rcvd, self._websocket.close_sent
        if received is not None and (sent is None or self._websocket.close_rcvd_then_sent):
            code, reason = received.code, received.reason
            said = f": {reason}" if reason else ""
            return SessionClosed(
                f"the server closed the connection{said}", code=code, reason=reason, retryable=code in RETRYABLE_CODES
            )
        if sent is not None and sent.code in PROTOCOL_FAILURES:
            return SessionClosed(
                f"the server broke the WebSocket protocol: {sent.reason}", code=sent.code, reason=sent.reason
            )
        return SessionClosed("the connection was lost without a close frame", code=ABNORMAL_CLOSURE, retryable=True)


async def connect(
    url: str,
    headers: Mapping[str, str],
    limits: Limits,
    *,
    compression: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> Connection:
    """Open a connection.

    Args:
        url: A ws:// or wss:// address.
        headers: Added to the upgrade request; their values never reach a log.
        limits: Bounds of the connection.
        compression: Offer permessage-deflate; it costs more time than base64 and JSON together on audio.
        ssl_context: For wss:// addresses that need other than the system's certificates.

    Raises:
        SessionTimeout: The handshake took longer than `limits.connect_s`.
        AuthError: The server answered 401 or 403.
        SessionClosed: Nobody listens there, or the answer was no WebSocket handshake.
    """
    where = url.partition("?")[0]
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise SessionClosed(f"expected a ws:// or wss:// address, got {where}") from error
    websocket = ClientProtocol(
        uri,
        extensions=[ClientPerMessageDeflateFactory()] if compression else None,
        max_size=limits.max_message_bytes,
        logger=_quiet_logger(),
    )
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            # The value stays untold, for it may be the key.
            raise SessionClosed(f"expected a header of printable ASCII characters, got others in {name}")
    connection = Connection(websocket, headers, limits)
    try:
        async with asyncio.timeout(limits.connect_s):
            await asyncio.get_running_loop().create_connection(
                lambda: connection, uri.host, uri.port, ssl=(ssl_context or True) if uri.secure else None
            )
            await connection.open()
    except TimeoutError as error:
        connection.abort()
        bound = "the system's limit" if limits.connect_s is None else f"{limits.connect_s:g} s"
        raise SessionTimeout(f"no connection to {where} within {bound}", retryable=True) from error
    except InvalidStatus as error:
        connection.abort()
        status = error.response.status_code
        failure = AuthError if status in AUTH_STATUSES else SessionClosed
        raise failure(
            f"{where} answered the handshake with HTTP {status}", code=status, retryable=status >= 500
        ) from error
    except (InvalidHandshake, EOFError) as error:
        connection.abort()
        raise SessionClosed(f"{where} did not complete the WebSocket handshake: {error}", retryable=True) from error
    except (OSError, UnicodeError) as error:
        retryable = not isinstance(error, ssl.SSLError | UnicodeError)
        raise SessionClosed(f"could not connect to {where}: {error}", retryable=retryable) from error
    except asyncio.CancelledError:
        connection.abort()
        raise
    return connection


def without_secret(text: str, secret: str) -> str:
    """Return what a server said without the key, which it may repeat.

    Keys of less than 8 characters are placeholders such as "local", which are words as well; they stay.
    """
    return text.replace(secret, "***") if len(secret) >= MIN_SECRET_CHARACTERS else text


def _quiet_logger() -> logging.Logger:
    # At DEBUG, websockets prints the headers of the handshake and so the API key; INFO and above carry no secrets.
    logger = logging.getLogger("speechwire.transport")
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)
    return logger
