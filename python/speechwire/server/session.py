"""One connection: messages from the socket through the dialect to the engine, and its answers back."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from typing import Any, Final, Protocol, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from speechwire.codec import Transcoder
from speechwire.errors import AudioError
from speechwire.events import (
    Audio,
    EndOfStream,
    Failure,
    FailureKind,
    Flush,
    Flushed,
    InputEvent,
    OutputEvent,
    Start,
    Transcript,
)
from speechwire.formats import FRAME_MS, bytes_per_sample, sample_rate
from speechwire.server.engines import Engine, EngineError, EngineSession

__all__ = ["DialectProtocol", "Session"]

logger = logging.getLogger("speechwire.server")

T = TypeVar("T")

SLICE_BYTES: Final = 16 * 1024  # of input at once; an 80 ms message has 7680 at most
SEND_S: Final = 40.0  # how long a client may take nothing of its answers before it is given up
ABNORMAL_CLOSURE: Final = 1006
CONTAINER_SAMPLE_RATE: Final = 48000  # of WAV output, which names no rate
FIRST_MESSAGE_S: Final = 1.0  # how long a client without a valid key may stay silent before it is told to go
MAX_CLOSE_REASON_BYTES: Final = 123  # RFC 6455 section 5.5


class DialectProtocol(Protocol):
    """What a session needs of a dialect's server-side state machine."""

    close_code: int | None
    close_reason: str

    def receive_message(self, data: str | bytes) -> list[tuple[str | None, InputEvent]]:
        """Take one message; return pairs of request name and event."""

    @property
    def active(self) -> Collection[str | None]:
        """The names of the requests that are running."""

    def receive_nothing(self) -> None:
        """The client has said nothing for a while."""

    def start_output(self, name: str | None, request_id: str, sample_rate: int) -> None:
        """The engine has taken the request; its audio will have this rate in Hz."""

    def send_event(self, name: str | None, event: OutputEvent) -> None:
        """Turn one event of the engine into messages."""

    def messages_to_send(self) -> list[str]:
        """Return what has to be sent, and forget it."""


class Session:
    """Serves one WebSocket until it ends.

    Messages are taken one at a time, and the next is read only when the answers to the last have left: a client that
    does not read its answers is not read from either, and nothing piles up here.
    """

    def __init__(self, socket: WebSocket, protocol: DialectProtocol, engine: Engine, workers: Executor) -> None:
        self._socket = socket
        self._protocol = protocol
        self._engine = engine
        self._workers = workers
        self._requests: dict[str | None, _Request] = {}

    async def run(self) -> None:
        """Serve the connection; returns when it is closed."""
        try:
            await self._socket.accept()
            await self._serve()
            if self._protocol.close_code is not None:
                reason = self._protocol.close_reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
                await self._socket.close(self._protocol.close_code, reason)
        except WebSocketDisconnect:
            pass  # the client has gone; there is nobody left to tell
        except asyncio.CancelledError:
            pass  # the server stops; this task ends here either way, and uvicorn would log a traceback
        finally:
            for name in list(self._requests):
                await self._end(name)

    async def _serve(self) -> None:
        timeout_s: float | None = FIRST_MESSAGE_S
        while self._protocol.close_code is None:
            try:
                message = await asyncio.wait_for(self._socket.receive(), timeout_s)
            except TimeoutError:
                self._protocol.receive_nothing()
            else:
                if message["type"] == "websocket.disconnect":
                    return
                text = message.get("text")
                await self._take(message["bytes"] if text is None else text)
            timeout_s = None
            await self._send_pending()

    async def _take(self, data: str | bytes) -> None:
        for name, event in self._protocol.receive_message(data):
            await self._apply(name, event)
        for name in self._requests.keys() - self._protocol.active:
            await self._end(name)

    async def _apply(self, name: str | None, event: InputEvent) -> None:
        try:
            match event:
                case Start():
                    # Known before it is opened, so that it is closed whatever happens meanwhile.
                    assert event.source_format is not None
                    assert event.target_format is not None
                    request = self._requests[name] = _Request(event.source_format, event.target_format, event)
                    await self._call(request.open, self._engine)
                    self._protocol.start_output(name, str(uuid.uuid4()), request.output_sample_rate)
                    await self._answer(name, request.header())
                case Audio(audio):
                    # In slices, because a message may hold minutes, and this loop serves others too.
                    for start in range(0, len(audio), SLICE_BYTES):
                        if start:
                            await asyncio.sleep(0)
                        await self._answer(name, self._requests[name].feed(audio[start : start + SLICE_BYTES]))
                case Flush(flush_id):
                    self._protocol.send_event(name, Flushed(flush_id))
                case EndOfStream():
                    await self._answer(name, self._requests[name].flush())
        except WebSocketDisconnect:
            raise
        except (AudioError, EngineError) as error:
            self._protocol.send_event(
                name, Failure(str(error), FailureKind.INPUT if isinstance(error, AudioError) else FailureKind.INTERNAL)
            )
        except Exception:
            logger.exception("the engine failed")
            self._protocol.send_event(name, Failure("internal error"))

    async def _answer(self, name: str | None, events: Iterator[OutputEvent]) -> None:
        if not self._engine.blocking:
            for event in events:
                self._protocol.send_event(name, event)
        else:
            while (event := await self._call(next, events, None)) is not None:
                self._protocol.send_event(name, event)
                await self._send_pending()
        await self._send_pending()

    async def _end(self, name: str | None) -> None:
        try:
            await self._call(self._requests.pop(name).close)
        except Exception:
            logger.exception("the engine failed to close")

    async def _send_pending(self) -> None:
        messages = self._protocol.messages_to_send()
        if not messages:
            return
        try:
            async with asyncio.timeout(SEND_S):
                for message in messages:
                    await self._socket.send({"type": "websocket.send", "text": message})
        except (TimeoutError, RuntimeError) as error:
            # The client has taken nothing for long, or uvicorn has closed the connection on its own account.
            raise WebSocketDisconnect(ABNORMAL_CLOSURE) from error

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        if not self._engine.blocking:
            return function(*args)
        work = asyncio.get_running_loop().run_in_executor(self._workers, function, *args)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # A thread cannot be interrupted, and the engine's session may only be closed when it is out of it.
            await asyncio.wait([work])
            raise


class _Request:
    """The way of one request's audio: wire format to the engine's PCM and back to the wire format."""

    def __init__(self, source_format: str, target_format: str, start: Start) -> None:
        self.output_sample_rate = sample_rate(target_format) or CONTAINER_SAMPLE_RATE
        self._source_format = source_format
        self._target_format = target_format
        self._start = start
        self._has_input = False
        self._sent_samples = 0
        self._session: EngineSession | None = None

    def open(self, engine: Engine) -> None:
        """Begin; raises EngineError if the engine cannot serve the request."""
        session = self._session = engine.open(self._start, self.output_sample_rate)
        self._decoder = Transcoder(self._source_format, f"pcm_{session.input_sample_rate}")
        self._encoder = Transcoder(f"pcm_{session.output_sample_rate}", self._target_format, FRAME_MS)

    def header(self) -> Iterator[OutputEvent]:
        """Yield what stands before the first audio: the header of a container."""
        return map(Audio, self._encoder.feed(b""))

    def feed(self, audio: bytes) -> Iterator[OutputEvent]:
        """Yield the answers to more input."""
        assert self._session is not None
        self._has_input = True
        for pcm in self._decoder.feed(audio):
            yield from self._encode(self._session.feed(pcm))

    def flush(self) -> Iterator[OutputEvent]:
        """Yield what is still owed at the end of the input, and then the end."""
        assert self._session is not None
        if self._has_input:  # no input is no error, not even where a header would have been expected
            for pcm in self._decoder.flush():
                yield from self._encode(self._session.feed(pcm))
        yield from self._encode(self._session.flush())
        yield from map(self._with_span, self._encoder.flush())
        yield EndOfStream()

    def close(self) -> None:
        """Release the engine, if the request got as far as that."""
        if self._session is not None:
            self._session.close()

    def _encode(self, events: Iterator[Audio | Transcript]) -> Iterator[OutputEvent]:
        for event in events:
            if isinstance(event, Audio):
                yield from map(self._with_span, self._encoder.feed(event.audio))
            else:
                yield event

    def _with_span(self, audio: bytes) -> Audio:
        start = self._sent_samples
        self._sent_samples += len(audio) // bytes_per_sample(self._target_format)
        return Audio(audio, start / self.output_sample_rate, self._sent_samples / self.output_sample_rate)
