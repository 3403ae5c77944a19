"""Every exception of Speechwire.

SpeechwireError
  AudioError              (ValueError)    audio bytes, formats or options that cannot be used
    ContainerError                        a WAV or Ogg stream that breaks its container's rules
    AudioopError                          `speechwire.audioop.error`, where the removed module raised its own
  WireError               (ValueError)    a message that breaks the wire's rules
  SessionError            (RuntimeError)  a session that did not end with `end_of_stream`
    ServerError                           the server sent an `error` message
    SessionClosed                         the connection ended first
    SessionTimeout        (TimeoutError)  a bound was reached: connect, ready, idle, send
    AuthError             (ValueError)    the key is missing or was refused

The built-in bases are what the official SDKs raise, so old `except` clauses keep working.
"""

from __future__ import annotations

__all__ = [
    "SpeechwireError",
    "AudioError",
    "ContainerError",
    "AudioopError",
    "WireError",
    "SessionError",
    "ServerError",
    "SessionClosed",
    "SessionTimeout",
    "AuthError",
]


class SpeechwireError(Exception):
    """Base of every exception that Speechwire raises on its own account."""


class AudioError(SpeechwireError, ValueError):
    """Audio bytes, a format name or an audio option cannot be used as given."""


class ContainerError(AudioError):
    """A WAV or Ogg stream breaks the rules of its container."""


class AudioopError(AudioError):
    """A width, a length or an argument that `audioop` refuses; `speechwire.audioop` calls it `error`."""


class WireError(SpeechwireError, ValueError):
    """A message breaks the rules of the wire: not JSON, a missing field, invalid base64."""


class SessionError(SpeechwireError, RuntimeError):
    """A session ended in another way than by the server's `end_of_stream` or our own close.

    Args:
        message: What happened, one line without a full stop.
        code: The WebSocket close code, or the code of the server's `error` message; None where there was none.
        reason: The server's own words, empty where it said nothing.
        request_id: The id from the server's `ready`, to quote to the vendor's support.
        sent_ms: Audio handed to the connection so far, in milliseconds.
        received_ms: Audio received so far, in milliseconds.
        retryable: True if the same request may succeed on a new connection.
        client_req_id: Which of several requests on one connection it ended; None if it ended the connection.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        reason: str = "",
        request_id: str | None = None,
        sent_ms: float = 0.0,
        received_ms: float = 0.0,
        retryable: bool = False,
        client_req_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.request_id = request_id
        self.sent_ms = sent_ms
        self.received_ms = received_ms
        self.retryable = retryable
        self.client_req_id = client_req_id

    def __str__(self) -> str:
        details = [] if self.code is None else [f"code {self.code}"]
        if self.request_id is not None:
            details.append(f"request {self.request_id}")
        if self.sent_ms or self.received_ms:
            details.append(f"sent {self.sent_ms:.0f} ms, received {self.received_ms:.0f} ms")
        return f"{self.message} ({'; '.join(details)})" if details else self.message


class ServerError(SessionError):
    """The server refused or gave up the request with an `error` message."""


class SessionClosed(SessionError):
    """The connection ended before the server said `end_of_stream`."""


class SessionTimeout(SessionError, TimeoutError):
    """A bound was reached while waiting for the other side."""


class AuthError(SessionError, ValueError):
    """The API key is missing, or the server refused it."""
