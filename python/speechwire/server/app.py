"""The server: which path speaks which dialect, who may come in, and how to run it inside another program."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from speechwire.server import post, rest
from speechwire.server.account import Account
from speechwire.server.call import Call
from speechwire.server.dialects import gradium, gradium_rest, telephony
from speechwire.server.dialects.gradium_post import Post
from speechwire.server.engines import Engine
from speechwire.server.engines.together import finish
from speechwire.server.limits import DEFAULT_LIMITS, Places, ServerLimits
from speechwire.server.metrics import CONTENT_TYPE, Metrics
from speechwire.server.session import Connection, DialectProtocol, Meter, Session, Shared
from speechwire.server.ticks import Ticks
from speechwire.server.websocket import WebSocketConnection

__all__ = ["create_app", "serve"]

# Above the largest message of any dialect, which answers what is too big for it with its own error.
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
KEEPALIVE_S: Final = 20
SHUTDOWN_S: Final = 2
NOT_TO_BE_KEPT: Final = {"cache-control": "no-store"}
# How long sessions that were told to end may keep the server from stopping.
ENGINE_S: Final = 30


def create_app(
    engine: Engine,
    *,
    api_keys: Sequence[str] = (),
    account: Account | None = None,
    base_path: str = gradium.BASE_PATH,
    limits: ServerLimits = DEFAULT_LIMITS,
) -> Starlette:
    """Build the ASGI application.

    Args:
        engine: Answers every request. It is started before the first is accepted, and stopped after the last.
        api_keys: Keys that are let in; with none given, everybody is.
        account: What the REST routes work on; a new one unless given.
        base_path: What stands before every route, such as "/api"; may be "".
        limits: How much the server takes on.

    uvicorn logs the address of every connection at INFO, with the `?token=` that browsers put there; `serve` keeps it
    from that, other ways to run the application have to.

    Raises:
        ValueError: A key is empty, or a base path does not begin with "/".
    """
    if not all(api_keys):
        raise ValueError(f"expected keys of at least 1 character, got an empty one among {len(api_keys)}")
    base_path = base_path.rstrip("/")
    if base_path and not base_path.startswith("/"):
        raise ValueError(f"expected a base path that begins with '/', got {base_path!r}")
    max_recognitions = limits.max_recognitions or engine.max_recognitions
    places = Places(limits.max_requests, max_recognitions)
    accepted_keys = [key.encode() for key in api_keys]
    account = account or Account()
    sessions: set[asyncio.Task[None]] = set()
    metrics = Metrics()
    ticks = Ticks()
    is_ready = False

    shared = Shared(engine, places, metrics, limits, lambda voice_id: gradium_rest.find_voice(account, voice_id))

    def is_accepted(key: str | None) -> bool:
        return _is_accepted(key, accepted_keys)

    def remember_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        sessions.add(task)
        task.add_done_callback(sessions.discard)

    async def serve_connection(connection: Connection, protocol: DialectProtocol, meter: Meter) -> None:
        remember_task()
        await Session(connection, protocol, meter, shared).run()

    def serve_websocket(product: gradium.Product) -> Callable[[WebSocket], Awaitable[None]]:
        meter = gradium_rest.Meter(account.usage, product)

        async def serve_gradium(websocket: WebSocket) -> None:
            token = gradium.token(websocket.headers, websocket.query_params)
            key = gradium.credential(websocket.headers, websocket.query_params)
            # A token is used up by being shown, also where everybody is let in.
            redeemed = token is not None and account.tokens.redeem(token)
            accepted = redeemed or is_accepted(key)
            protocol = gradium.open_protocol(product, key, accepted=accepted)
            await serve_connection(WebSocketConnection(websocket), protocol, meter)

        return serve_gradium

    async def serve_post(connection: Connection, asked: Post) -> None:
        protocol = gradium.open_protocol(asked.product, None, accepted=True)
        await serve_connection(connection, protocol, gradium_rest.Meter(account.usage, asked.product))

    def serve_call(line: telephony.Line) -> Callable[[WebSocket], Awaitable[None]]:
        def may_call(key: str | None, token: str | None) -> bool:
            # As above, a token is used up by being shown.
            redeemed = token is not None and account.tokens.redeem(token)
            return redeemed or is_accepted(key)

        async def serve_telephony(websocket: WebSocket) -> None:
            remember_task()
            shown = telephony.parameters(websocket.headers, websocket.query_params)
            connection = WebSocketConnection(websocket, line.subprotocol)
            await Call(connection, line, shown, shared, ticks, may_call).run()

        return serve_telephony

    async def end_sessions() -> None:
        if sessions:
            # Cancelled by now, but perhaps waiting for a thread of the engine.
            await finish(asyncio.wait(sessions, timeout=ENGINE_S))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        nonlocal is_ready
        async with AsyncExitStack() as ending:
            ending.push_async_callback(engine.stop)
            await engine.start()
            ending.push_async_callback(end_sessions)
            is_ready = True
            try:
                yield
            finally:
                is_ready = False

    async def tell_health(_: Request) -> JSONResponse:
        health = {
            "status": "ready" if is_ready else "not ready",
            "running": metrics.num_running,
            "waiting": metrics.num_waiting,
            "max_requests": limits.max_requests,
            "max_recognitions": max_recognitions,
        }
        return JSONResponse(health, 200 if is_ready else 503, NOT_TO_BE_KEPT)

    async def tell_metrics(_: Request) -> Response:
        return Response(metrics.text(), headers={**NOT_TO_BE_KEPT, "content-type": CONTENT_TYPE})

    routes = [WebSocketRoute(path, serve_websocket(product)) for path, product in gradium.paths(base_path)]
    app = Starlette(
        routes=[
            *routes,
            *(WebSocketRoute(path, serve_call(line)) for path, line in telephony.paths(base_path)),
            Route("/health", tell_health),
            Route("/metrics", tell_metrics),
            *rest.routes(account, is_accepted, base_path),
            *post.routes(account, serve_post, is_accepted, base_path),
            WebSocketRoute("/{path:path}", _refuse_path),
        ],
        exception_handlers={HTTPException: rest.refuse},
        lifespan=lifespan,
    )
    # It would send the client to whatever host the client has named.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def serve(
    engine: Engine,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    api_keys: Sequence[str] = (),
    account: Account | None = None,
    base_path: str = gradium.BASE_PATH,
    limits: ServerLimits = DEFAULT_LIMITS,
) -> AsyncIterator[str]:
    """Run the server in this event loop while the block lasts; yields its address, such as "http://127.0.0.1:40000".

    Args:
        engine: Answers every request.
        host: Address to bind; loopback unless told otherwise.
        port: 0 picks a free one.
        api_keys: As for `create_app`.
        account: As for `create_app`.
        base_path: As for `create_app`.
        limits: As for `create_app`.

    Raises:
        EngineError: A part of the engine is not installed.
        ValueError: As for `create_app`.
        OSError: The address cannot be bound.
    """
    app = create_app(engine, api_keys=api_keys, account=account, base_path=base_path, limits=limits)
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        # A pong may wait behind a lot of audio, so a missing one proves nothing; TCP finds the peers that are gone.
        ws_ping_interval=KEEPALIVE_S,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        log_config=None,
        log_level="warning",  # at INFO it prints addresses, and with them the `?token=` of browsers
        access_log=False,
        lifespan="off",
    )
    server = _Server(config)
    # The port first, so that one that is taken is told before the engine is loaded. What goes wrong when the engine is
    # started uvicorn would log, with a traceback, and not raise.
    with _listen(host, port) as listener:
        async with app.router.lifespan_context(app):
            task = asyncio.create_task(server.serve(sockets=[listener]), name="speechwire-server")
            try:
                await server.wait_started(task)
                if task.done():
                    task.result()
                bound_port = listener.getsockname()[1]
                yield f"http://{f'[{host}]' if ':' in host else host}:{bound_port}"
            finally:
                server.should_exit = True
                await finish(asyncio.wait([task]))
                server.abort_connections()
            task.result()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the program around it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._started_event = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._started_event.set()

    def abort_connections(self) -> None:
        """Cut what is still open: connections whose clients do not read would wait for them for ever."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()

    async def wait_started(self, task: asyncio.Task[None]) -> None:
        started = asyncio.create_task(self._started_event.wait())
        await asyncio.wait([started, task], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends without Nagle's delay only on sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The accepted sockets inherit these. The names are Linux's; elsewhere the system's own times hold.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_S),
            ("TCP_KEEPINTVL", KEEPALIVE_S // 4),
            ("TCP_KEEPCNT", 4),
            ("TCP_USER_TIMEOUT", 2 * KEEPALIVE_S * 1000),
        ):
            if hasattr(socket, option):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def _is_accepted(key: str | None, accepted_keys: Sequence[bytes]) -> bool:
    if not accepted_keys:
        return True
    if key is None:
        return False
    # All keys are compared, each in constant time, so that timing tells nothing about any of them.
    shown = key.encode()
    return sum(hmac.compare_digest(shown, accepted) for accepted in accepted_keys) > 0


async def _refuse_path(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse(f"no dialect at {websocket.url.path}\n", status_code=404))
