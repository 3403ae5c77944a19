"""A running speech-to-speech session: the one receive loop, and the shapes in which it is offered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

from speechwire.errors import AudioError, SessionClosed, SessionError, WireError
from speechwire.gradium import wire
from speechwire.gradium.protocol import ClientProtocol
from speechwire.gradium.results import TextWithTimestamps
from speechwire.source import AudioConverter, iterate_audio, pace
from speechwire.transport import Connection

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient
    from speechwire.source import AudioChunk, AudioInput

__all__ = ["S2s", "S2SStream"]


class S2s:
    """A real-time session: push audio, iterate messages.

    Use it as `async with client.s2s_realtime(...) as s2s`. Leaving the block closes the connection; an exception or a
    cancellation cuts it at once. Iteration yields every server message as a dict whose `audio` is bytes, the
    `end_of_stream` included, and then stops; it raises a SessionError in every other case.

    One task may iterate while another sends. `send_audio` waits when the connection is full, and a message is read
    only when it is asked for, so both sides must go on.
    """

    def __init__(
        self,
        client: GradiumClient,
        route: str,
        setup: Mapping[str, Any],
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        send_setup_on_start: bool = True,
        wait_for_ready_on_start: bool = False,
    ) -> None:
        self._client = client
        self._route = route
        self._setup: dict[str, Any] = {
            "model_name": wire.DEFAULT_MODEL,
            "input_format": "pcm",
            "output_format": "pcm",
            **_given(setup),
        }
        self._source_format = source_format
        self._sample_rate = sample_rate
        # One for each request, by its client_req_id: a conversion has a state.
        self._converters: dict[str | None, AudioConverter] = {}
        self.converter()  # arguments that cannot be used fail here, before there is a connection
        self._send_setup_on_start = send_setup_on_start
        self._wait_for_ready_on_start = wait_for_ready_on_start
        self._protocol = ClientProtocol(wire.S2S)
        self._connection: Connection | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self.broken = False  # sending has failed: the connection is gone

    @property
    def client_req_id(self) -> str | None:
        """The name of the request of the last `setup`."""
        return self._name(None)

    @property
    def output_format(self) -> str:
        """Wire format name of the output."""
        return str(self._setup["output_format"])

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds of the input format; 0.0 for containers."""
        return self._protocol.sent_ms

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds of the output format."""
        return self._protocol.received_ms

    @property
    def close_s(self) -> float:
        """Bound of closing, in seconds."""
        return self._client.limits.close_s

    @property
    def ready(self) -> dict[str, Any] | None:
        """The server's `ready` message, or None until it came."""
        return self._protocol.ready

    async def __aenter__(self) -> S2s:
        await self._open()
        try:
            if self._send_setup_on_start:
                await self.send_setup({})
            if self._wait_for_ready_on_start:
                await self.wait_for_ready()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        else:
            await self.aclose()

    async def send_setup(self, setup: Mapping[str, Any]) -> None:
        """Send `setup`: the arguments of the session, overridden by the keys given here."""
        self._setup.update(_given(setup))
        self._converters.pop(self._setup.get("client_req_id"), None)
        self.converter(self._setup.get("client_req_id"))
        await self._send(self._protocol.setup(self._setup))

    async def send_audio(self, audio: AudioChunk, client_req_id: str | None = None) -> None:
        """Send a chunk of any length: bytes in the source's format, or a 1-D int16 or float32 array.

        Without `client_req_id` it goes to the request of the last `setup`.

        Raises:
            AudioError: A chunk that cannot be used as given; nothing was sent.
            SessionError: The connection has ended, or took nothing for `Limits.send_s`.
        """
        name = self._name(client_req_id)
        await self.send_wire_audio(self.converter(name).feed(audio), name)

    async def send_wire_audio(self, audio: bytes, client_req_id: str | None = None) -> None:
        """Send bytes that are in the input format already."""
        if audio:
            await self._send(self._protocol.audio(audio, self._name(client_req_id)))

    async def send_eos(self, client_req_id: str | None = None) -> None:
        """Say that no more audio will come; what a conversion still holds goes first."""
        name = self._name(client_req_id)
        await self.send_wire_audio(self.converter(name).flush(), name)
        await self._send(self._protocol.end_of_stream(name))

    async def wait_for_ready(self) -> dict[str, Any]:
        """Wait for the first message, which has to be `ready`, and return it."""
        if self._protocol.ready is not None:
            return self._protocol.ready
        message = await self.recv()
        if message is None or message["type"] != wire.READY:
            got = "the end of the connection" if message is None else repr(message["type"])
            error = self._annotate(SessionClosed(f"expected a ready message, got {got}", code=wire.CLOSE_PROTOCOL))
            await self.aclose()
            raise error
        return message

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
        limits = self._client.limits
        try:
            data = await connection.recv(limits.idle_s if self._protocol.ready is not None else limits.ready_s)
            return self._protocol.receive_message(data)
        except WireError as error:
            reason = f"malformed message from the server: {error}"
            closed = self._annotate(SessionClosed(reason, code=wire.CLOSE_PROTOCOL, reason=str(error)))
            await connection.close(wire.CLOSE_PROTOCOL, "malformed message")
            raise closed from error
        except SessionError as error:
            if self._failure is not None:
                raise self._failure from None
            if self._closed or (self._protocol.idle and error.code == wire.CLOSE_NORMAL):
                return None
            raise self._annotate(error) from error.__cause__

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        message = await self.recv()
        if message is None:
            raise StopAsyncIteration
        return message

    async def close(self) -> None:
        """Close the connection; takes `Limits.close_s` at most and may be called twice."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    def abort(self) -> None:
        """Cut the connection without a handshake; whoever receives sees the end."""
        self._closed = True
        if self._connection is not None:
            self._connection.abort()

    async def aclose(self) -> None:
        """Cut the connection without a handshake and wait until the socket is gone."""
        self.abort()
        if self._connection is not None:
            await self._connection.wait_closed()

    def fail(self, error: BaseException) -> None:
        """Cut the connection; whoever receives gets `error`."""
        self._failure = error
        if self._connection is not None:
            self._connection.abort()

    def converter(self, client_req_id: str | None = None) -> AudioConverter:
        """Return what turns the audio of one request into its input format."""
        if client_req_id not in self._converters:
            self._converters[client_req_id] = AudioConverter(
                wire.input_codec_format(self._setup["input_format"]),
                source_format=self._source_format,
                sample_rate=self._sample_rate,
            )
        return self._converters[client_req_id]

    def _name(self, client_req_id: str | None) -> str | None:
        return self._setup.get("client_req_id") if client_req_id is None else client_req_id

    def check_complete(self) -> None:
        """Raise SessionClosed if the server ended the stream before it was told that the input had ended."""
        if not self._protocol.input_ended:
            raise self._annotate(SessionClosed("the server ended the stream before the input was complete"))

    async def _open(self) -> None:
        if self._connection is not None:
            raise RuntimeError("the session has been opened before; make a new one")
        self._connection = await self._client.connect(self._route)

    async def _send(self, message: str) -> None:
        try:
            await self._require_connection().send(message)
        except SessionError as error:
            self.broken = True
            raise self._annotate(error) from error.__cause__

    def _require_connection(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("connection not open; use the session in an async with block")
        return self._connection

    def _annotate(self, error: SessionError) -> SessionError:
        error.request_id = self._protocol.request_id
        error.sent_ms = self._protocol.sent_ms
        error.received_ms = self._protocol.received_ms
        return error


def _given(setup: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given: None stands for absent, and formats have to be names."""
    given = {key: value for key, value in setup.items() if value is not None}
    for name in ("input_format", "output_format"):
        if not isinstance(given.get(name, ""), str):
            raise AudioError(f"expected {name} to be a string, got {given[name]!r}")
    return given


class S2SStream:
    """A session that draws its input from a source while its output is iterated.

    Iterate it once, by `iter_audio` or `iter_events`. The source is read while the output is iterated. The connection
    is closed when iteration ends, in whatever way; `aclose` (or `async with`) closes it for those who never iterate.
    A source that raises ends the iteration with its exception.
    """

    def __init__(self, session: S2s, audio: AudioInput, *, realtime: bool) -> None:
        self._session = session
        self._audio = audio
        self._realtime = realtime
        self._iterated = False
        self._text_with_timestamps: list[TextWithTimestamps] = []

    @property
    def output_format(self) -> str:
        """Wire format name of the output."""
        return self._session.output_format

    @property
    def sample_rate(self) -> int | None:
        """Rate of the output in Hz, as the server announced it."""
        return self._ready.get("sample_rate")

    @property
    def frame_size(self) -> int | None:
        """Samples in one frame of the output, as the server announced it."""
        return self._ready.get("frame_size")

    @property
    def request_id(self) -> str | None:
        """The server's id of the request."""
        return self._ready.get("request_id")

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds of the input format."""
        return self._session.sent_ms

    @property
    def text_with_timestamps(self) -> list[TextWithTimestamps]:
        """The text segments that came so far."""
        return self._text_with_timestamps

    @property
    def _converter(self) -> AudioConverter:
        return self._session.converter(self._session.client_req_id)

    @property
    def _ready(self) -> dict[str, Any]:
        return self._session.ready or {}

    @property
    def _stream(self) -> AsyncIterator[dict[str, Any]]:
        # The official SDK's examples iterate this private name.
        return self.iter_events()

    async def __aenter__(self) -> S2SStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cut the connection if it is still there."""
        await self._session.aclose()

    async def iter_audio(self) -> AsyncGenerator[bytes, None]:
        """Yield output audio as it comes; text is collected in `text_with_timestamps`.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        async with aclosing(self.iter_events()) as messages:
            async for message in messages:
                if message["type"] == wire.AUDIO:
                    yield message["audio"]

    async def iter_events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield every server message as a dict whose `audio` is bytes, `end_of_stream` last.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        if self._iterated:
            raise RuntimeError("the stream has been iterated before")
        self._iterated = True
        session = self._session
        pump = asyncio.create_task(self._pump(), name="speechwire-pump")
        try:
            async for message in session:
                if message["type"] == wire.TEXT:
                    self._text_with_timestamps.append(TextWithTimestamps.from_message(message))
                yield message
                if message["type"] == wire.END_OF_STREAM:
                    break
            session.check_complete()
            await session.close()
        finally:
            session.abort()
            pump.cancel()
            # Bounded, because the source may be slow to clean up behind itself.
            await asyncio.wait([pump], timeout=session.close_s)
            await session.aclose()

    async def _pump(self) -> None:
        try:
            await self._send_all()
        except Exception as error:
            self._session.fail(error)
        except BaseException as error:
            # A cancellation changes nothing if the iteration is over, and else comes from within the source.
            failure = SessionClosed(f"the audio source ended with {type(error).__name__}")
            failure.__cause__ = error
            self._session.fail(failure)
            if not isinstance(error, GeneratorExit):
                raise

    async def _send_all(self) -> None:
        chunks = self._wire_chunks()
        if self._realtime:
            chunks = pace(chunks, self._converter.target_format)
        async with aclosing(chunks):
            try:
                async for chunk in chunks:
                    await self._session.send_wire_audio(chunk)
                await self._session.send_eos()
            except SessionError:
                # A broken connection is left to the receiving side, which still reads what arrived before it broke;
                # the source's own exceptions, whatever their type, are not.
                if not self._session.broken:
                    raise

    async def _wire_chunks(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(iterate_audio(self._audio, self._converter.source_format)) as chunks:
            async for chunk in chunks:
                yield self._converter.feed(chunk)
