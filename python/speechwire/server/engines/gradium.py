"""The engine that is another service: it forwards what it hears to a Gradium endpoint, and says what comes back.

So every dialect, such as a telephone's, has that service behind it. A request outlives that service's limit of a
session and connections that break; where it cannot, it ends with the words of `speechwire.errors`, and never quietly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from speechwire.errors import AuthError, SessionError
from speechwire.events import Audio, FailureKind, Flush, Flushed, Start, Transcript
from speechwire.gradium import wire
from speechwire.gradium.client import GradiumClient
from speechwire.gradium.resume import ReconnectPolicy
from speechwire.gradium.stream import S2s
from speechwire.server.engines import EngineError, EngineSession, Input, Say
from speechwire.server.engines.together import together
from speechwire.server.voices import Voice

__all__ = ["GradiumEngine", "GradiumInterpreting"]

DEFAULT_POLICY: Final = ReconnectPolicy()
_DEFAULT_RATE: Final = wire.INPUT_PCM_SAMPLE_RATE


class GradiumEngine:
    """Interprets by another service; it neither recognises nor speaks, which its clients can ask that service for.

    Args:
        client: Where the service is, and with which key.
        reconnect: How a request goes on over another connection; None to end with the first.
    """

    max_recognitions: int | None = None

    def __init__(self, client: GradiumClient, reconnect: ReconnectPolicy | None = DEFAULT_POLICY) -> None:
        self._client = client
        self._reconnect = reconnect

    async def start(self) -> None:
        """Nothing to load: each request opens a connection of its own."""

    async def stop(self) -> None:
        """Nothing to release: a request closes its connection."""

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> GradiumInterpreting:
        """Begin a request that hears, and answers, at `sample_rate` Hz if the service knows that rate, else 24000.

        Raises:
            EngineError: No audio is wanted back, no language to translate into is named and no voice, or the service
                does not know the language.
        """
        if start.target_format is None:
            raise EngineError("expected a request to interpret, got one to recognise", FailureKind.INPUT)
        if start.target_language is None and start.voice_id is None:
            raise EngineError("expected a target language or a voice, got neither", FailureKind.INPUT)
        rate = sample_rate if sample_rate in wire.PCM_SAMPLE_RATES else _DEFAULT_RATE
        config = {"language": start.source_language, "target_language": start.target_language}
        try:
            session = self._client.s2s_realtime(
                input_format=f"pcm_{rate}",
                output_format=f"pcm_{rate}",
                voice_id=start.voice_id or wire.DEFAULT_VOICES.get(start.target_language or ""),
                json_config={name: value for name, value in config.items() if value is not None},
                wait_for_ready_on_start=True,
                reconnect=self._reconnect,
            )
        except wire.SetupRefused as error:
            raise EngineError(str(error), FailureKind.INPUT) from None
        return GradiumInterpreting(session, rate)

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> EngineSession:
        """Refuse; raises EngineError."""
        raise EngineError("expected a request to interpret, got a text to speak", FailureKind.INPUT)


class GradiumInterpreting:
    """One request on a connection of its own.

    Args:
        session: Not begun yet.
        sample_rate: Of the PCM in both directions, in Hz.
    """

    def __init__(self, session: S2s, sample_rate: int) -> None:
        self._session = session
        self._sample_rate = sample_rate

    @property
    def input_sample_rate(self) -> int:
        """The rate that was agreed on."""
        return self._sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The rate that was agreed on."""
        return self._sample_rate

    @property
    def busy_s(self) -> float:
        """Nothing: the work is done elsewhere."""
        return 0.0

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Forward what comes, and say what comes back.

        Raises:
            EngineError: The service refused the request, or the connection to it ended.
        """
        try:
            async with self._session:
                await together(self._forward(inputs), self._answer(say))
        except AuthError:
            # A key is ours and no matter of the client's.
            raise EngineError("the service behind refused this server's key") from None
        except SessionError as error:
            raise EngineError(f"the service behind failed: {error}") from error

    async def _forward(self, inputs: AsyncIterator[Input]) -> None:
        async for event in inputs:
            if isinstance(event, Audio):
                await self._session.send_audio(event.audio)
            elif isinstance(event, Flush):
                await self._session.send_flush(event.flush_id)
        await self._session.send_eos()

    async def _answer(self, say: Say) -> None:
        async for event in self._session.events():
            if isinstance(event, Audio | Transcript):
                await say(event)
            elif isinstance(event, Flushed):
                await say(Flush(event.flush_id))
        self._session.check_complete()
