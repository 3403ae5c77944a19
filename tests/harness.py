"""What several test files share: a guarded event loop, a running server, and a peer that misbehaves on demand."""

from __future__ import annotations

import asyncio
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol as WebSocketServer

from speechwire.server import serve
from speechwire.server.engines import Answer, EngineSession, Input
from speechwire.server.engines.loopback import LoopbackEngine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

READY = (
    '{"type":"ready","request_id":"req-1","model_name":"default","sample_rate":48000,"frame_size":3840,'
    '"audio_stream_names":[],"text_stream_names":[]}'
)


def run(main: Coroutine[Any, Any, T], *, timeout_s: float | None = None, held_clock: bool = False) -> T:
    """Run `main` in a loop of its own, and fail if it leaves a task or a socket behind.

    With `held_clock` the loop's time stands still while there is anything to do, and jumps to the next timer when there
    is not: waiting for minutes takes no time, and no bound is missed because the machine is slow. `timeout_s` is then
    of that time, has to be beyond what `main` waits, and is 30 s unless given. Of real time it is 100 s, for it only
    ends what hangs, a little before pytest would.
    """
    if timeout_s is None:
        timeout_s = 30.0 if held_clock else 100.0

    async def guarded() -> T:
        sockets = open_sockets()
        async with asyncio.timeout(timeout_s):
            result = await main
        await assert_nothing_left(sockets)
        return result

    if not held_clock:
        return asyncio.run(guarded())
    with asyncio.Runner(loop_factory=HeldClockLoop) as runner:
        return runner.run(guarded())


class HeldClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is what its timers say, with real sockets and threads."""

    def __init__(self) -> None:
        self._held_selector = HeldClockSelector()
        super().__init__(self._held_selector)

    def time(self) -> float:
        """Seconds that timers have been waited for."""
        return self._held_selector.now_s

    def stop_for(self, seconds: float) -> None:
        """Let time pass in which nothing runs, as when the machine stops; what was written arrives meanwhile."""
        time.sleep(self._held_selector.GRACE_S)
        self._held_selector.now_s += seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Call a function on a thread; meanwhile time is the machine's."""
        future = super().run_in_executor(executor, func, *args)
        self._held_selector.num_threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._held_selector.num_threads -= 1


class HeldClockSelector(selectors.DefaultSelector):
    """Looks for what is ready, and says that the timeout is over if nothing is."""

    GRACE_S = 0.001  # real time for the kernel to pass on what was just written to a socket of this process

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.num_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let the time pass at once, unless a thread is at work."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.num_threads:
            started = time.monotonic()
            ready = super().select(timeout)
            self.now_s += time.monotonic() - started
            return ready
        ready = super().select(self.GRACE_S)
        if not ready:
            # The loop takes a timer for due within its clock's resolution.
            self.now_s += timeout
        return ready


async def assert_nothing_left(sockets: set[str]) -> None:
    """Fail if tasks besides this one run, or sockets besides `sockets` are open."""
    for _ in range(20):  # what was cut or cancelled on the way out needs some turns of the loop to be gone
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    assert not open_sockets() - sockets, "sockets left behind"


def open_sockets() -> set[str]:
    """Return the sockets that this process holds."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


@asynccontextmanager
async def loopback_server(**options: Any) -> AsyncIterator[str]:
    """Run a server on the loopback engine; yields the base URL for clients."""
    async with serve(LoopbackEngine(), **options) as address:
        yield f"{address}/api/"


class Peer:
    """The server's end of one connection, in the hands of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._websocket = WebSocketServer(max_size=None)
        self._messages: deque[str] = deque()

    async def accept(self) -> None:
        """Complete the WebSocket handshake."""
        while not (events := self._websocket.events_received()):
            self._websocket.receive_data(await self._read())
        assert isinstance(events[0], Request)
        self._websocket.send_response(self._websocket.accept(events[0]))
        await self._flush()

    async def recv(self) -> str:
        """Return the next text message."""
        while True:
            for event in self._websocket.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._messages.append(bytes(event.data).decode())
            if self._messages:
                return self._messages.popleft()
            self._websocket.receive_data(await self._read())
            await self._flush()  # pongs

    async def send(self, text: str) -> None:
        """Send a text message."""
        self._websocket.send_text(text.encode())
        await self._flush()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes outside of the WebSocket protocol."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, wait for the answer and close the socket."""
        self._websocket.send_close(code, reason)
        await self._flush()
        while self._websocket.close_rcvd is None:
            self._websocket.receive_data(await self._read())
        self._writer.close()

    async def drain(self) -> None:
        """Answer pings and read until the other side has gone."""
        with suppress(ConnectionError, EOFError, asyncio.IncompleteReadError):
            while True:
                self._websocket.receive_data(await self._read())
                self._websocket.events_received()
                await self._flush()

    async def read_request(self) -> tuple[str, bytes]:
        """Return the head and the body of one HTTP request, whether it names its length or comes in chunks."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        if fields.get("transfer-encoding") != "chunked":
            return head, await self._reader.readexactly(int(fields.get("content-length", "0")))
        body = bytearray()
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return head, bytes(body)

    async def take(self, most: int) -> int:
        """Read some bytes, whatever they are; return how many."""
        return len(await self._reader.read(most))

    async def drain_bytes(self) -> None:
        """Read until the other side has gone, whatever comes."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def finish(self) -> None:
        """End the connection with a TCP FIN and no close frame."""
        self._writer.close()

    async def _read(self) -> bytes:
        data = await self._reader.read(65536)
        if not data:
            raise EOFError
        return data

    async def _flush(self) -> None:
        self._writer.write(b"".join(self._websocket.data_to_send()))
        await self._writer.drain()


Behaviour = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def misbehaving_server(behaviour: Behaviour) -> AsyncIterator[str]:
    """Run a server whose every connection is in the hands of `behaviour`; yields the base URL for clients."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, EOFError, asyncio.CancelledError):
                await behaviour(Peer(reader, writer))
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve_connection, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/api/"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))
        await server.wait_closed()


async def converse(session: EngineSession, *events: Input) -> list[Answer]:
    """Run an engine's session on these inputs; returns all that it says."""
    answers: list[Answer] = []

    async def inputs() -> AsyncIterator[Input]:
        for event in events:
            yield event

    async def say(answer: Answer) -> None:
        answers.append(answer)

    await session.run(inputs(), say)
    return answers
