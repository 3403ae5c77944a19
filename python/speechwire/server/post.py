"""One-shot speech over HTTP: a request's body and its answer as a session's way to its client."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from speechwire.server import rest
from speechwire.server.account import Account
from speechwire.server.dialects import gradium_post
from speechwire.server.dialects.gradium_post import Post
from speechwire.server.dialects.gradium_rest import Answer, Body, credential
from speechwire.server.session import Connection, Disconnected

__all__ = ["PostConnection", "routes"]

Serve = Callable[[Connection, Post], Awaitable[None]]


def routes(account: Account, serve: Serve, is_accepted: Callable[[str | None], bool], base_path: str) -> list[Route]:
    """Return the two routes of one-shot speech.

    Args:
        account: Whose voices there are.
        serve: Serves one request.
        is_accepted: Tells whether a key that was shown, or None, is let in.
        base_path: What stands before both routes.
    """

    def let_in(endpoint: Callable[[HttpRequest], Awaitable[ASGIApp]]) -> Callable[[HttpRequest], Awaitable[ASGIApp]]:
        async def check(http: HttpRequest) -> ASGIApp:
            key = credential(http.headers)
            return await endpoint(http) if is_accepted(key) else rest.respond(gradium_post.refuse_credential(key))

        return check

    async def synthesise(http: HttpRequest) -> ASGIApp:
        read = await rest.read_body(http, Body.JSON)
        if not isinstance(read, tuple):
            return read
        return _answer(gradium_post.read_synthesis(account, read[0], http.query_params), http)

    async def recognise(http: HttpRequest) -> ASGIApp:
        return _answer(gradium_post.open_recognition(http.headers, http.query_params), http)

    def _answer(post: Post | Answer, http: HttpRequest) -> ASGIApp:
        if isinstance(post, Answer):
            return rest.respond(post)

        async def stream(_: Scope, receive: Receive, send: Send) -> None:
            await serve(PostConnection(post, receive, send), post)

        return stream

    return [
        Route(f"{base_path}/{gradium_post.SYNTHESIS_ROUTE}", let_in(synthesise), methods=["POST"]),
        Route(f"{base_path}/{gradium_post.RECOGNITION_ROUTE}", let_in(recognise), methods=["POST"]),
    ]


class PostConnection:
    """One HTTP request, whose body is read as the session takes it and answered as the session speaks.

    Args:
        post: What was asked for.
        receive: Brings the rest of the request, as ASGI has it.
        send: Takes the answer.
    """

    def __init__(self, post: Post, receive: Receive, send: Send) -> None:
        self._post = post
        self._receive = receive
        self._send = send
        self._first = deque(post.messages)
        self._more_body = self._owes_end = post.takes_audio
        self._started = False
        self._ended = False

    async def accept(self) -> None:
        """Begin; the answer begins with the session's first message."""

    async def recv(self) -> str:
        """Return the next message of the client, as a WebSocket would have brought it."""
        if self._first:
            return self._first.popleft()
        while self._more_body:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self._more_body = message.get("more_body", False)
            if message.get("body"):
                return self._post.audio_message(message["body"])
        if self._owes_end:
            self._owes_end = False
            return self._post.end_message()
        while (await self._receive())["type"] != "http.disconnect":
            pass  # nothing more is expected from a client but that it stays
        raise Disconnected

    async def send(self, message: str) -> None:
        """Write what a message adds to the answer, waiting until the client has taken enough of it."""
        if self._ended:
            return
        if not self._started:
            refusal = self._post.refusal(message)
            if refusal is not None:
                self._ended = True
                await rest.respond(refusal)({"type": "http"}, self._receive, self._send)
                return
            headers = [(b"content-type", self._post.content_type.encode())]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self._started = True
        try:
            part = self._post.part(message)
        except gradium_post.Truncated as error:
            # Without its end the client sees that this is not all.
            raise Disconnected from error
        if part:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def close(self, code: int, reason: str) -> None:
        """End the answer."""
        if not self._ended:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
