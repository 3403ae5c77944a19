"""What answers behind a dialect: PCM or text in, PCM or text out; no vendor, no WebSocket.

An engine opens a session for each request, and the session runs until its input ends. Saying an answer waits until it
has left for the client, and input is taken when the session asks for it: so a slow client slows the session, a slow
session slows its client, and memory stays bounded as long as the session bounds what it keeps between the two.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from speechwire.errors import SpeechwireError
from speechwire.events import Audio, FailureKind, Flush, Pause, Start, Text, Transcript, VadStep
from speechwire.server.voices import Voice

__all__ = ["Answer", "Engine", "EngineError", "EngineSession", "Input", "ListeningSession", "Part", "Say"]

Input = Audio | Text | Pause | Flush
Answer = Audio | Transcript | VadStep | Flush
Say = Callable[[Answer], Awaitable[None]]


class EngineError(SpeechwireError):
    """An engine cannot serve a request, or a part of it is not installed; the message says what to do.

    Args:
        message: What happened, one line without a full stop.
        kind: Whose fault it is.
    """

    def __init__(self, message: str, kind: FailureKind = FailureKind.INTERNAL) -> None:
        super().__init__(message)
        self.kind = kind


class Part(Protocol):
    """What is loaded once for the whole server: an engine, or one of the parts that it is made of."""

    async def start(self) -> None:
        """Load all that the first request needs, so that it is served as fast as the second.

        Raises:
            EngineError: Something is not installed; the message has the line that installs it.
        """

    async def stop(self) -> None:
        """Release everything: no process, thread or file is left. Called once, also when `start` failed."""


class EngineSession(Protocol):
    """One request being answered."""

    @property
    def output_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM in the `Audio` that is said, if any is."""

    @property
    def busy_s(self) -> float:
        """Seconds of work that it has cost so far; where sessions share what works, with the wait for a turn."""

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Answer until `inputs` ends and all that is owed has been said. Called once.

        Interpreting says each Transcript before the audio that speaks it, on the output clock. Recognition says
        Transcripts on the input clock, as soon as it knows them, and a VadStep for each 80 ms of input. Synthesis says
        each word before its audio.

        Cancelling it, as when the client vanishes, releases everything that the request holds before it returns.

        Args:
            inputs: Audio, s16le mono PCM of any length, and flushes where the client speaks; texts, each one space
                behind the last, pauses and flushes where the client has text to be spoken.
            say: To be awaited by one task at a time. A Flush is said as it came once all that is owed for the input
                before it has been said.

        Raises:
            EngineError: The request cannot be served any longer.
        """


class ListeningSession(EngineSession, Protocol):
    """A request whose client speaks: recognition, which says texts and steps, or interpreting, texts and audio."""

    @property
    def input_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `run` expects."""


class Engine(Part, Protocol):
    """Opens sessions. One instance serves the whole server."""

    @property
    def max_recognitions(self) -> int | None:
        """Requests with speech to be recognised that it can serve at once and in real time; None for any number."""

    def listen(self, start: Start, sample_rate: int, voice: Voice | None) -> ListeningSession:
        """Open a session that recognises, or interprets where `start.target_format` tells of audio to come back.

        A session that never runs holds nothing.

        Args:
            start: What the client wants.
            sample_rate: Rate in Hz of the client's audio, its output if there is any: a hint, as it is resampled.
            voice: To speak with, if the client named one that is known; `start.voice_id` is what it said.

        Raises:
            EngineError: The request cannot be served, for example an unknown pair of languages.
        """

    def speak(self, start: Start, sample_rate: int, voice: Voice | None) -> EngineSession:
        """Open a session that speaks for a client that wants audio at `sample_rate` Hz, a hint as above, with a voice.

        Raises:
            EngineError: The request cannot be served, for example a language without a voice.
        """
