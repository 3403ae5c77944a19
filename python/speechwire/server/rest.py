"""HTTP in front of the operations of a dialect: who may ask, how much they may send, and how it is written back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive

from speechwire.server.account import Account
from speechwire.server.dialects import gradium_rest
from speechwire.server.dialects.gradium_rest import Answer, Body, Operation, Request, Upload

__all__ = ["read_body", "refuse", "respond", "routes"]

MAX_JSON_BYTES: Final = 1024 * 1024
MAX_FORM_BYTES: Final = 64 * 1024 * 1024  # with a recording in it, which is kept on disk while it is read
MAX_FORM_FIELDS: Final = 32
MAX_FIELD_BYTES: Final = 16 * 1024
BODY_S: Final = 60.0  # how long a client may take to send its body


def routes(account: Account, is_accepted: Callable[[str | None], bool], base_path: str) -> list[Route]:
    """Return the routes of all operations on an account.

    Args:
        account: What the operations work on.
        is_accepted: Tells whether a key that was shown, or None, is let in.
        base_path: What stands before every route.
    """
    return [
        _route(
            f"{base_path}/{operation.route.rstrip('/')}{slash}", operation, _endpoint(operation, account, is_accepted)
        )
        for operation in gradium_rest.OPERATIONS
        for slash in ("", "/")  # clients write both
    ]


def _route(path: str, operation: Operation, endpoint: Callable[[HttpRequest], Awaitable[Response]]) -> Route:
    route = Route(path, endpoint, methods=[operation.method])
    if operation.once and route.methods:
        route.methods.discard("HEAD")  # which Starlette adds to GET
    return route


async def refuse(_: HttpRequest, error: Exception) -> Response:
    """Answer a path or a method that does not exist, in the shape of every other refusal."""
    assert isinstance(error, HTTPException)
    return respond(gradium_rest.refuse(error.status_code, error.detail), error.headers)


def _endpoint(
    operation: Operation, account: Account, is_accepted: Callable[[str | None], bool]
) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def endpoint(http: HttpRequest) -> Response:
        key = gradium_rest.credential(http.headers)
        if not is_accepted(key):
            return respond(gradium_rest.refuse_credential(key))
        read = await read_body(http, operation.body)
        if isinstance(read, Response):
            return read
        request = Request(http.path_params, http.query_params, *read)
        headers = {"cache-control": "no-store"} if operation.once else None
        return respond(gradium_rest.answer(operation, account, request), headers)

    return endpoint


async def read_body(http: HttpRequest, body: Body) -> tuple[dict[str, Any], dict[str, Upload]] | Response:
    """Return a body's JSON object or its form's texts, and its files; a body that cannot be read is refused."""
    try:
        async with asyncio.timeout(BODY_S):
            value, files = await _read_body(http, body)
    except TimeoutError:
        return respond(gradium_rest.refuse(408, f"the body took more than {BODY_S:g} s"))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    return respond(gradium_rest.refuse_json()) if value is None else (value, files)


async def _read_body(http: HttpRequest, body: Body) -> tuple[dict[str, Any] | None, dict[str, Upload]]:
    if body is Body.JSON:
        limited = HttpRequest(http.scope, _limited(http.receive, MAX_JSON_BYTES))
        try:
            value = json.loads(await limited.body())
        except (ValueError, RecursionError):
            return None, {}
        return value if isinstance(value, dict) else None, {}
    if body is Body.FORM:
        limited = HttpRequest(http.scope, _limited(http.receive, MAX_FORM_BYTES))
        async with limited.form(max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
            texts = {name: value for name, value in form.items() if isinstance(value, str)}
            files = {
                name: Upload(value.filename or "", value.size or 0)
                for name, value in form.items()
                if isinstance(value, UploadFile)
            }
        return texts, files
    return {}, {}


def _limited(receive: Receive, most: int) -> Receive:
    num_bytes = 0

    async def limited() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > most:
            raise HTTPException(413, f"expected a body of at most {most} bytes, got more")
        return message

    return limited


def respond(answer: Answer, headers: Any = None) -> Response:
    """Write an answer."""
    if answer.value is None:
        content = b""
    elif answer.is_json:
        content = json.dumps(answer.value).encode()
    else:
        content = str(answer.value).encode()
    return Response(content, answer.status, headers, answer.content_type)
