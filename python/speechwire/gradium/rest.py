"""Gradium over HTTP: one request and its bounds, its errors, and when it may be sent again.

The only importer of `httpx`, and itself imported at the first REST call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Final

import httpx

from speechwire.errors import AuthError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import rest_wire, wire
from speechwire.transport import Limits, without_secret

__all__ = ["Answer", "Rest"]

# Requests that may be repeated without doing anything twice (RFC 9110 section 9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE"})
# Failures before anything was sent.
UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
AUTH_STATUSES: Final = frozenset({401, 403})
# Refusals that say nothing against the request itself: timeout, too many, bad gateway, unavailable, gateway timeout.
RETRYABLE_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
NUM_RETRIES: Final = 2
FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 30.0  # a server that wants to be left alone for longer is not waited for
PIECE_BYTES: Final = 64 * 1024  # of a body; `Limits.send_s` is for each
MAX_REFUSAL_BYTES: Final = 64 * 1024
MAX_REASON_CHARACTERS: Final = 500


class Rest:
    """Sends requests to the routes below one address.

    Every call opens a connection and closes it. Between `open` and `close` connections are kept and used again.

    The bounds of `limits`: `connect_s` for connecting; `send_s` for the server to take each piece of the body;
    `idle_s` for the head of the answer from the end of the body on, for the whole of a small answer's body, and for
    each part of a streamed one. A GET, PUT or DELETE that failed for a passing reason is sent again, twice at most,
    and so is anything that failed to connect.

    Args:
        base_url: An http or https address that ends in "/".
        headers: Returns what every request carries.
        limits: Bounds of every request.
        api_key: What no text of an error may contain, whatever the server says.
        ssl_context: For services whose certificates the system does not know.
        use_proxies: Go through the proxies that the environment names.
        sleep: Waits for so many seconds.
        uniform: Returns a random number from 0.0 to 1.0.
        clock: Returns Unix time in seconds.
    """

    def __init__(
        self,
        base_url: str,
        headers: Callable[[], Mapping[str, str]],
        limits: Limits,
        *,
        api_key: str = "",
        ssl_context: ssl.SSLContext | None = None,
        use_proxies: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._base_url = base_url
        self._headers = headers
        self._limits = limits
        self._api_key = api_key
        self._ssl_context = ssl_context
        self._use_proxies = use_proxies
        self._sleep = sleep
        self._uniform = uniform
        self._clock = clock
        self._pool: httpx.AsyncClient | None = None
        self._pool_loop: asyncio.AbstractEventLoop | None = None

    @property
    def idle_s(self) -> float | None:
        """Bound in seconds of the wait for more of an answer."""
        return self._limits.idle_s

    def open(self) -> None:
        """Keep connections from now on, for calls in the running event loop.

        Raises:
            RuntimeError: They are kept already.
        """
        if self._pool is not None:
            raise RuntimeError("the client is open already")
        self._pool = self._new_pool()
        self._pool_loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Close the connections that were kept."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def fetch(self, method: str, route: str, **parts: Any) -> Any:
        """Send a request and return the JSON of its answer, or None if it has no body; arguments as for `request`.

        Raises:
            SessionError: As for `request`, and SessionClosed for an answer that is not JSON.
        """
        answer = await self.request(method, route, **parts)
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            kind = answer.headers.get("content-type", "no content type")
            raise SessionClosed(
                f"malformed answer to {self._where(method, route)}: expected JSON, got {kind}", code=answer.status_code
            ) from error

    async def request(self, method: str, route: str, **parts: Any) -> httpx.Response:
        """Send a request and return its answer with the body read.

        Args:
            method: In capitals.
            route: Below the base URL.
            **parts: `params`, `json`, `data`, `files`, `content` or `headers`, as `httpx.AsyncClient` takes them.

        Raises:
            AuthError: The key was refused.
            ServerError: The server refused the request; `code` is its own code where it gave one, and else the HTTP
                status.
            SessionTimeout: A bound was reached.
            SessionClosed: No connection, or it was lost.
        """
        is_lost = False
        for attempt in count():
            retry_after_s = 0.0
            try:
                async with self._exchange(method, route, parts) as answer:
                    if answer.is_success:
                        body = await answer.read(self._limits.max_message_bytes)
                        return httpx.Response(answer.status, headers=answer.headers, content=body)
                    if is_lost and method == "DELETE" and answer.status == httpx.codes.NOT_FOUND:
                        # The answer to the first one was lost, but it was carried out.
                        return httpx.Response(httpx.codes.NO_CONTENT)
                    retry_after_s = self._retry_after_s(answer.headers.get("retry-after"))
                    error = await self._refusal(answer)
            except SessionError as caught:
                error = caught
                is_lost = is_lost or not _is_unsent(error)
            await self._wait_or_raise(error, attempt, retry_after_s, may_repeat=method in IDEMPOTENT)
        raise AssertionError

    @asynccontextmanager
    async def stream(self, method: str, route: str, **parts: Any) -> AsyncIterator[Answer]:
        """Send a request and yield its answer with the body unread; arguments and exceptions as for `request`.

        It is sent again only if it failed to connect. The answer is there when all of the request's body has been sent.
        """
        for attempt in count():
            async with AsyncExitStack() as stack:
                try:
                    answer = await stack.enter_async_context(self._exchange(method, route, parts))
                except SessionError as caught:
                    error = caught
                else:
                    if not answer.is_success:
                        raise await self._refusal(answer)
                    yield answer
                    return
            await self._wait_or_raise(error, attempt)

    def refusal(
        self, message: str, code: int | None, reason: str, *, status: int | None = None, request_id: str | None = None
    ) -> ServerError | AuthError:
        """Return the error for a refusal.

        Args:
            message: What was refused; `reason` is put behind it.
            code: The vendor's, or the HTTP status, or None.
            reason: The server's words; a key in them is made unreadable.
            status: HTTP status, or None for one that came in a successful answer.
            request_id: The server's id of the request, if it has told one.
        """
        reason = self.without_key(reason)
        is_auth = status in AUTH_STATUSES or wire.is_auth_error(code, reason)
        return (AuthError if is_auth else ServerError)(
            f"{message}: {reason}" if reason else message,
            code=code,
            reason=reason,
            request_id=request_id,
            retryable=not is_auth and (status in RETRYABLE_STATUSES or code == wire.CLOSE_INTERNAL),
        )

    def without_key(self, text: str) -> str:
        """Return the server's words, shortened, and without the key, which a server may repeat."""
        return without_secret(text, self._api_key)[:MAX_REASON_CHARACTERS]

    @contextmanager
    def mapped(self, where: str) -> Iterator[None]:
        """Turn what `httpx` raises within the block into a SessionError."""
        limits = self._limits
        try:
            yield
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise SessionTimeout(f"no connection for {where} within {limits.connect_s:g} s", retryable=True) from error
        except httpx.WriteTimeout as error:
            text = f"the server took no data of {where} for {limits.send_s:g} s"
            raise SessionTimeout(text, retryable=True) from error
        except httpx.ReadTimeout as error:
            text = f"nothing came from the server for {where} for {limits.idle_s:g} s"
            raise SessionTimeout(text, retryable=True) from error
        except httpx.ConnectError as error:
            is_refused_certificate = isinstance(_root(error), ssl.SSLError)
            raise SessionClosed(
                f"could not connect for {where}: {self.without_key(str(error))}", retryable=not is_refused_certificate
            ) from error
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            # The text may hold what could not be sent.
            raise SessionClosed(f"{where} cannot be sent: {type(error).__name__}") from error
        except httpx.HTTPError as error:
            text = self.without_key(str(error)) or type(error).__name__
            raise SessionClosed(f"the connection was lost during {where}: {text}", retryable=True) from error

    @asynccontextmanager
    async def _exchange(self, method: str, route: str, parts: Mapping[str, Any]) -> AsyncIterator[Answer]:
        where = self._where(method, route)
        headers = {**self._headers(), **(parts.get("headers") or {})}
        async with AsyncExitStack() as stack:
            pool = self._pool
            if pool is None or self._pool_loop is not asyncio.get_running_loop():
                pool = await stack.enter_async_context(self._new_pool())
            with self.mapped(where):
                request = pool.build_request(
                    method, self._base_url + route.lstrip("/"), **{**parts, "headers": headers}
                )
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async with _bounded(f"no answer to {where}", self._limits.idle_s) as bound:
                body = request.stream = _Body(request.stream, bound, self._limits)
                try:
                    with self.mapped(where):
                        response = await pool.send(request, stream=True)
                except SessionError:
                    if body.failure is not None:
                        # The source of the body may itself be a connection; what it raises is not ours.
                        raise body.failure from None
                    raise
                finally:
                    await body.aclose()
            stack.push_async_callback(response.aclose)
            yield Answer(response, where, self)

    async def _refusal(self, answer: Answer) -> SessionError:
        body = await answer.read(MAX_REFUSAL_BYTES, cut=True)
        code, reason = rest_wire.parse_refusal(answer.content_type, body)
        code = answer.status if code is None else code
        return self.refusal(f"{answer.where} answered HTTP {answer.status}", code, reason, status=answer.status)

    async def _wait_or_raise(
        self, error: SessionError, attempt: int, retry_after_s: float = 0.0, *, may_repeat: bool = False
    ) -> None:
        delay_s = max(FIRST_DELAY_S * 2**attempt * (0.5 + self._uniform()), retry_after_s)
        may_repeat = error.retryable and (may_repeat or _is_unsent(error))
        if not may_repeat or attempt >= NUM_RETRIES or delay_s > MAX_DELAY_S:
            raise error
        await self._sleep(delay_s)

    def _retry_after_s(self, value: str | None) -> float:
        # RFC 9110 section 10.2.3: seconds, or a date.
        if value is None:
            return 0.0
        try:
            return (
                float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - self._clock()
            )
        except (ValueError, OverflowError):
            return 0.0

    def _where(self, method: str, route: str) -> str:
        return f"{method} {self._base_url}{route.lstrip('/').partition('?')[0]}"

    def _new_pool(self) -> httpx.AsyncClient:
        _quieten_logger()
        if self._base_url.startswith("https:") and self._ssl_context is None:
            # The system's certificates, as for the WebSocket. Loading them takes long, so it is done once.
            self._ssl_context = ssl.create_default_context()
        limits = self._limits
        return httpx.AsyncClient(
            verify=self._ssl_context or False,
            timeout=httpx.Timeout(
                None, connect=limits.connect_s, read=limits.idle_s, write=limits.send_s, pool=limits.connect_s
            ),
            # Small answers need no compression, and audio gains nothing by it.
            headers={"accept-encoding": "identity"},
            trust_env=self._use_proxies,
        )


class Answer:
    """An answer whose body is still to be read.

    Args:
        response: As it came.
        where: Method and address of the request, for errors.
        rest: Whose bounds hold.
    """

    def __init__(self, response: httpx.Response, where: str, rest: Rest) -> None:
        self._response = response
        self._rest = rest
        self.where = where

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status_code

    @property
    def is_success(self) -> bool:
        """Tell whether the status is one of 200 to 299."""
        return self._response.is_success

    @property
    def headers(self) -> httpx.Headers:
        """Headers of the answer."""
        return self._response.headers

    @property
    def content_type(self) -> str:
        """Content type without its parameters, in small letters; "" if there is none."""
        value: str = self.headers.get("content-type", "")
        return value.partition(";")[0].strip().lower()

    @property
    def is_delimited(self) -> bool:
        """Tell whether the body says where it ends.

        One that does not ends with its connection, so what was cut off looks complete (RFC 9112 section 6.3).
        """
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes; raises SessionError if it was cut off."""
        with self._rest.mapped(self.where):
            async for chunk in self._response.aiter_bytes():
                yield chunk

    async def lines(self, most: int) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the body as they come, without empty ones.

        Raises:
            SessionClosed: A line has more than `most` bytes, or the body was cut off.
            SessionTimeout: A line took longer than `Limits.idle_s`.
        """
        lines = rest_wire.Lines()
        ready: list[bytes] = []
        is_complete = False
        async with aclosing(self.chunks()) as chunks:
            while not is_complete:
                async with _bounded(f"no complete line from {self.where}", self._rest.idle_s) as bound:
                    _allow(bound, self._rest.idle_s)
                    while not ready and not is_complete:
                        chunk = await anext(chunks, None)
                        is_complete = chunk is None
                        ready += lines.flush() if chunk is None else lines.feed(chunk)
                        if lines.num_waiting_bytes > most:
                            raise SessionClosed(f"expected lines of at most {most} bytes from {self.where}, got more")
                for line in ready:
                    yield line
                ready.clear()

    async def read(self, most: int, *, cut: bool = False) -> bytes:
        """Return the whole body of a small answer; with `cut`, its first `most` bytes will do.

        Raises:
            SessionClosed: It has more than `most` bytes, or was cut off.
            SessionTimeout: It took longer than `Limits.idle_s`.
        """
        body = bytearray()
        idle_s = self._rest.idle_s
        async with _bounded(f"no complete answer to {self.where}", idle_s) as bound, aclosing(self.chunks()) as chunks:
            _allow(bound, idle_s)
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    if cut:
                        break
                    raise SessionClosed(f"expected an answer to {self.where} of at most {most} bytes, got more")
        return bytes(body[:most])


class _Body(httpx.AsyncByteStream):
    """The body of a request, in pieces, which watches that the server takes them and then answers.

    Time that its source takes does not count. `failure` is what the source raised.
    """

    def __init__(self, source: httpx.AsyncByteStream, bound: asyncio.Timeout, limits: Limits) -> None:
        self._source = source
        self._bound = bound
        self._answer_s = limits.idle_s
        # Each piece has its own bound; this one is for an answer that comes before the body is out.
        self._piece_s = None if None in (limits.send_s, limits.idle_s) else (limits.send_s or 0) + (limits.idle_s or 0)
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self.failure: Exception | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = self._cut()
        return self._pieces

    async def aclose(self) -> None:
        """Stop; the source belongs to who gave it."""
        if self._pieces is not None:
            await self._pieces.aclose()

    async def _cut(self) -> AsyncGenerator[bytes, None]:
        chunks = aiter(self._source)
        while True:
            _allow(self._bound, None)
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                break
            except Exception as error:
                self.failure = error
                raise
            for start in range(0, len(chunk), PIECE_BYTES):
                _allow(self._bound, self._piece_s)
                yield chunk[start : start + PIECE_BYTES]
        _allow(self._bound, self._answer_s)


@asynccontextmanager
async def _bounded(text: str, seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    """Raise SessionTimeout when the bound that is yielded, and set by `_allow`, is reached."""
    try:
        async with asyncio.timeout(None) as bound:
            yield bound
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise SessionTimeout(f"{text} within {seconds:g} s", retryable=True) from error


def _allow(bound: asyncio.Timeout, seconds: float | None) -> None:
    bound.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def _is_unsent(error: SessionError) -> bool:
    return isinstance(error.__cause__, UNSENT)


def _root(error: BaseException) -> BaseException:
    """Return the first of a chain of exceptions."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _quieten_logger() -> None:
    # At DEBUG, this one prints the headers of answers, in which a server may repeat the key. Those of requests, and the
    # bodies, are not printed.
    logger = logging.getLogger("httpcore.http11")
    if logger.getEffectiveLevel() < logging.INFO:
        logger.setLevel(logging.INFO)
