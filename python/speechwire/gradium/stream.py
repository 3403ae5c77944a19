"""Running sessions: pushed by hand in real time, or drawn from a source while their output is iterated."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from speechwire.errors import AudioError, SessionClosed, SessionError
from speechwire.events import ServiceEvent
from speechwire.gradium import wire
from speechwire.gradium.link import RequestLink
from speechwire.gradium.replay import check_setup
from speechwire.gradium.results import TextJoiner, TextWithTimestamps
from speechwire.source import AudioConverter, draw, iterate_audio, pace

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient
    from speechwire.gradium.resume import ReconnectPolicy
    from speechwire.source import AudioChunk, AudioInput

    TextInput = str | Iterable[str] | AsyncIterable[str]

__all__ = ["S2SStream", "S2s", "STTStream", "Session", "Stt", "TTSStream", "Tts"]


class Session:
    """What the three real-time sessions share.

    Use one as `async with client.s2s_realtime(...) as s2s`. Leaving the block closes the connection; an exception or a
    cancellation cuts it at once. Iteration yields every server message as a dict whose `audio` is bytes, the
    `end_of_stream` included, and then stops; it raises a SessionError in every other case. `events` yields the same as
    frozen dataclasses.

    One task may iterate while another sends. Sending waits when the connection is full, and a message is read only
    when it is asked for, so both sides must go on.
    """

    product: ClassVar[wire.Product]
    defaults: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        client: GradiumClient,
        route: str | None = None,
        *,
        send_setup_on_start: bool = True,
        wait_for_ready_on_start: bool = False,
        reconnect: ReconnectPolicy | None = None,
        link: RequestLink | None = None,
        **setup: Any,
    ) -> None:
        self._close_s = client.limits.close_s
        self._setup: dict[str, Any] = {**self.defaults, **_given(setup, self.product)}
        self._send_setup_on_start = send_setup_on_start
        self._wait_for_ready_on_start = wait_for_ready_on_start
        if reconnect is not None:
            if link is not None:
                raise AudioError("reconnect needs a connection of its own, got a part of a shared one")
            check_setup(self._setup, self.product)
        self._link = link or client.link(self.product, route, reconnect)

    @property
    def client_req_id(self) -> str | None:
        """The name of the request of the last `setup`."""
        return self._name(None)

    @property
    def output_format(self) -> str:
        """Wire format name of the output; empty where no audio comes back."""
        return str(self._setup.get("output_format", ""))

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds of the input format; 0.0 for containers."""
        return self._link.sent_ms

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds of the output format."""
        return self._link.received_ms

    @property
    def close_s(self) -> float:
        """Bound of closing, in seconds."""
        return self._close_s

    @property
    def ready(self) -> dict[str, Any] | None:
        """The server's `ready` message, or None until it came."""
        return self._link.ready

    @property
    def broken(self) -> bool:
        """True if sending has failed because the connection is gone."""
        return self._link.broken

    async def __aenter__(self) -> Self:
        await self._link.open()
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
        self._setup.update(_given(setup, self.product))
        await self._link.send_setup(self._setup)

    async def send_eos(self, client_req_id: str | None = None) -> None:
        """Say that no more input will come."""
        await self._link.send_eos(self._name(client_req_id))

    async def wait_for_ready(self) -> dict[str, Any]:
        """Wait for the first message, which has to be `ready`, and return it."""
        if self.ready is not None:
            return self.ready
        message = await self.recv()
        if message is None or message["type"] != wire.READY:
            got = "the end of the connection" if message is None else repr(message["type"])
            error = self._link.annotate(SessionClosed(f"expected a ready message, got {got}", code=wire.CLOSE_PROTOCOL))
            await self.aclose()
            raise error
        return message

    async def recv(self) -> dict[str, Any] | None:
        """Return the next message, or None after the end of the last request; cancelling loses no message.

        Raises:
            SessionError: The session ended in another way; it says how.
        """
        return await self._link.recv()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        message = await self.recv()
        if message is None:
            raise StopAsyncIteration
        return message

    async def events(self) -> AsyncGenerator[ServiceEvent, None]:
        """Yield the messages as frozen dataclasses of `speechwire.events`."""
        async for message in self:
            yield wire.parse_event(message)

    async def close(self) -> None:
        """Close the connection; takes `Limits.close_s` at most and may be called twice."""
        await self._link.close()

    def abort(self) -> None:
        """Cut the connection without a handshake; whoever receives sees the end."""
        self._link.abort()

    async def aclose(self) -> None:
        """Cut the connection without a handshake and wait until the socket is gone."""
        self.abort()
        await self._link.wait_closed()

    def fail(self, error: BaseException) -> None:
        """Cut the connection; whoever receives gets `error`."""
        self._link.fail(error)

    def check_complete(self) -> None:
        """Raise SessionClosed if the server ended the stream before it was told that the input had ended."""
        if not self._link.input_ended:
            raise self._link.annotate(SessionClosed("the server ended the stream before the input was complete"))

    def _name(self, client_req_id: str | None) -> str | None:
        return self._setup.get("client_req_id") if client_req_id is None else client_req_id


class _AudioSession(Session):
    """A session that takes audio."""

    def __init__(
        self,
        client: GradiumClient,
        route: str | None = None,
        *,
        sample_rate: int | None = None,
        source_format: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(client, route, **arguments)
        self._sample_rate = sample_rate
        self._source_format = source_format
        # One for each request, by its client_req_id: a conversion has a state.
        self._converters: dict[str | None, AudioConverter] = {}
        self.converter()  # arguments that cannot be used fail here, before there is a connection

    async def send_setup(self, setup: Mapping[str, Any]) -> None:
        """Send `setup`: the arguments of the session, overridden by the keys given here."""
        given = _given(setup, self.product)
        self._setup.update(given)
        self._converters.pop(self._name(None), None)
        self.converter(self._name(None))
        await super().send_setup(given)

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
            await self._link.send_audio(audio, self._name(client_req_id))

    async def send_flush(self, flush_id: object = 0, client_req_id: str | None = None) -> None:
        """Ask for all that is owed for the audio so far; a `flushed` message with the same id says that it has come."""
        await self._link.send_flush(flush_id, self._name(client_req_id))

    async def send_eos(self, client_req_id: str | None = None) -> None:
        """Say that no more audio will come; what a conversion still holds goes first."""
        name = self._name(client_req_id)
        await self.send_wire_audio(self.converter(name).flush(), name)
        await self._link.send_eos(name)

    def converter(self, client_req_id: str | None = None) -> AudioConverter:
        """Return what turns the audio of one request into its input format."""
        if client_req_id not in self._converters:
            self._converters[client_req_id] = AudioConverter(
                wire.input_codec_format(self._setup["input_format"]),
                source_format=self._source_format,
                sample_rate=self._sample_rate,
            )
        return self._converters[client_req_id]


class Tts(Session):
    """A real-time synthesis: send text in pieces, iterate audio and the times of the words."""

    product = wire.TTS
    defaults: ClassVar[Mapping[str, Any]] = {"model_name": wire.DEFAULT_MODEL, "output_format": wire.DEFAULT_FORMAT}

    async def send_text(self, text: str, client_req_id: str | None = None) -> None:
        """Send a piece of text; the service puts a space between two pieces, so cut between words.

        `wire.FLUSH_TAG` in it asks for all audio so far, `wire.break_tag(seconds)` makes a pause.
        """
        if not isinstance(text, str):
            raise TypeError(f"expected text to be str, got {type(text).__name__}")
        await self._link.send_text(text, self._name(client_req_id))


class Stt(_AudioSession):
    """A real-time recognition: send audio, iterate words, their ends, and what voice activity detection says."""

    product = wire.STT
    defaults: ClassVar[Mapping[str, Any]] = {"model_name": wire.DEFAULT_MODEL, "input_format": wire.DEFAULT_FORMAT}


class S2s(_AudioSession):
    """A real-time interpreting session: push audio, iterate translated audio and text."""

    product = wire.S2S
    defaults: ClassVar[Mapping[str, Any]] = {
        "model_name": wire.DEFAULT_MODEL,
        "input_format": "pcm",
        "output_format": "pcm",
    }


def _given(setup: Mapping[str, Any], product: wire.Product) -> dict[str, Any]:
    """Return the fields that were given: None stands for absent, formats have to be names, options in their range."""
    given = {key: value for key, value in setup.items() if value is not None}
    for name in ("input_format", "output_format"):
        if not isinstance(given.get(name, ""), str):
            raise AudioError(f"expected {name} to be a string, got {given[name]!r}")
    config = given.get("json_config")
    if isinstance(config, Mapping):
        wire.check_options(config, product)
    wire.build_setup(given)  # what is no JSON fails here, before there is a connection
    return given


class _Stream(ABC):
    """A session that draws its input from a source while its output is iterated.

    Iterate it once. The source is read while the output is iterated. The connection is closed when iteration ends, in
    whatever way; `aclose` (or `async with`) closes it for those who never iterate. A source that raises ends the
    iteration with its exception.
    """

    source_name: ClassVar[str] = "audio"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._iterated = False
        self._pump_task: asyncio.Task[None] | None = None
        self._joiner = TextJoiner()
        self._text_with_timestamps: list[TextWithTimestamps] = []

    @property
    def request_id(self) -> str | None:
        """The server's id of the request."""
        return self._ready.get("request_id")

    @property
    def output_format(self) -> str:
        """Wire format name of the output; empty where no audio comes back."""
        return self._session.output_format

    @property
    def sample_rate(self) -> int | None:
        """Rate of the output in Hz, as the server announced it; of recognition, that at which it hears."""
        return self._ready.get("sample_rate")

    @property
    def sent_ms(self) -> float:
        """Audio sent so far, in milliseconds of the input format."""
        return self._session.sent_ms

    @property
    def text_with_timestamps(self) -> list[TextWithTimestamps]:
        """The text segments that came so far."""
        return self._text_with_timestamps

    @property
    def _ready(self) -> dict[str, Any]:
        return self._session.ready or {}

    @property
    def _stream(self) -> AsyncIterator[dict[str, Any]]:
        # The official SDK's examples iterate this private name.
        return self.iter_events()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cut the connection if it is still there, and let go of the source."""
        self._session.abort()
        if self._pump_task is not None:
            self._pump_task.cancel()
            # Bounded, because the source may be slow to clean up behind itself.
            await asyncio.wait([self._pump_task], timeout=self._session.close_s)
        await self._session.aclose()

    async def events(self) -> AsyncGenerator[ServiceEvent, None]:
        """Yield the messages of `iter_events` as frozen dataclasses of `speechwire.events`."""
        async with aclosing(self.iter_events()) as messages:
            async for message in messages:
                yield wire.parse_event(message)

    async def iter_events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield every server message as a dict whose `audio` is bytes, `end_of_stream` last.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        if self._iterated:
            raise RuntimeError("the stream has been iterated before")
        self._iterated = True
        session = self._session
        self._pump_task = asyncio.create_task(self._pump(), name="speechwire-pump")
        try:
            async for message in session:
                self._text_with_timestamps += self._joiner.feed(message)
                yield message
                if message["type"] == wire.END_OF_STREAM:
                    break
            session.check_complete()
            await session.close()
        finally:
            await self.aclose()

    async def _iter_audio(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.iter_events()) as messages:
            async for message in messages:
                if message["type"] == wire.AUDIO:
                    yield message["audio"]

    async def _pump(self) -> None:
        try:
            try:
                await self._send_all()
                await self._session.send_eos()
            except SessionError:
                # A broken connection is left to the receiving side, which still reads what arrived before it broke;
                # the source's own exceptions, whatever their type, are not.
                if not self._session.broken:
                    raise
        except Exception as error:
            self._session.fail(error)
        except BaseException as error:
            # A cancellation changes nothing if the iteration is over, and else comes from within the source.
            failure = SessionClosed(f"the {self.source_name} source ended with {type(error).__name__}")
            failure.__cause__ = error
            self._session.fail(failure)
            if not isinstance(error, GeneratorExit):
                raise

    @abstractmethod
    async def _send_all(self) -> None:
        """Send what the source yields."""


class _AudioSourceStream(_Stream):
    """A stream whose source is audio."""

    def __init__(self, session: _AudioSession, audio: AudioInput, *, realtime: bool) -> None:
        super().__init__(session)
        self._audio_session = session
        self._converter = session.converter(session.client_req_id)
        self._audio = audio
        self._realtime = realtime

    async def _send_all(self) -> None:
        chunks = self._wire_chunks()
        if self._realtime:
            chunks = pace(chunks, self._converter.target_format)
        async with aclosing(chunks):
            async for chunk in chunks:
                await self._audio_session.send_wire_audio(chunk)

    async def _wire_chunks(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(iterate_audio(self._audio, self._converter.source_format)) as chunks:
            async for chunk in chunks:
                yield self._converter.feed(chunk)


class TTSStream(_Stream):
    """Text being spoken, its output iterated once by `iter_bytes`, `iter_events` or `events`."""

    source_name: ClassVar[str] = "text"

    def __init__(self, session: Tts, text: TextInput) -> None:
        super().__init__(session)
        self._tts = session
        self._text = text

    def iter_bytes(self) -> AsyncGenerator[bytes, None]:
        """Yield audio as it comes; the times of the words are collected in `text_with_timestamps`.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        return self._iter_audio()

    async def _send_all(self) -> None:
        async with aclosing(draw([self._text] if isinstance(self._text, str) else self._text)) as pieces:
            async for piece in pieces:
                await self._tts.send_text(piece)


class STTStream(_AudioSourceStream):
    """Audio being recognised, its output iterated once by `iter_text`, `iter_events` or `events`."""

    @property
    def delay_in_frames(self) -> int | None:
        """Look-ahead of the recognition in frames of 80 ms, as the server announced it."""
        return self._ready.get("delay_in_frames", self._ready.get("delay_in_tokens"))

    async def iter_text(self) -> AsyncGenerator[TextWithTimestamps, None]:
        """Yield each text when its end is known, so that `stop_s` is true.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        num_yielded = 0
        async with aclosing(self.iter_events()) as messages:
            async for _ in messages:
                while num_yielded < len(self._text_with_timestamps):
                    yield self._text_with_timestamps[num_yielded]
                    num_yielded += 1


class S2SStream(_AudioSourceStream):
    """Audio being interpreted, its output iterated once by `iter_audio`, `iter_events` or `events`."""

    @property
    def frame_size(self) -> int | None:
        """Samples in one frame of the output, as the server announced it."""
        return self._ready.get("frame_size")

    def iter_audio(self) -> AsyncGenerator[bytes, None]:
        """Yield output audio as it comes; text is collected in `text_with_timestamps`.

        Raises:
            SessionError: The session did not end with `end_of_stream`.
        """
        return self._iter_audio()
