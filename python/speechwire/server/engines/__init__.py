"""What answers behind a dialect: PCM or text in, PCM or text out; no vendor, no WebSocket.

An engine is opened once per request. The request drives it and sends on whatever its methods yield, pulling one item at
a time, so a slow client slows the engine and never fills memory. It pulls all of one answer before it asks for the
next, or closes the session.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from speechwire.errors import SpeechwireError
from speechwire.events import Audio, Start, Transcript, VadStep
from speechwire.server.voices import Voice

__all__ = ["Answers", "Engine", "EngineError", "EngineSession", "ListeningSession", "Part", "SpeakingSession"]

Answers = Iterator[Audio | Transcript | VadStep]


class EngineError(SpeechwireError):
    """An engine cannot serve a request, or a part of it is not installed; the message says what to do."""


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
    """One request being answered. Used by one thread at a time."""

    @property
    def output_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM in the `Audio` that is yielded, if any is."""

    def flush(self) -> Answers:
        """Yield all that is still owed for the input so far; more may follow."""

    def close(self) -> None:
        """Release everything at once; called exactly once, also when the client vanished in mid-speech.

        Never called while another thread is inside another method, but perhaps before what they yield was pulled.
        """


class ListeningSession(EngineSession, Protocol):
    """A request whose client speaks: recognition, which yields texts and steps, or interpreting, texts and audio."""

    @property
    def input_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `feed` expects."""

    def feed(self, pcm: bytes) -> Answers:
        """Take PCM of any length and yield what is ready.

        Interpreting yields a Transcript before the audio that speaks it, on the output clock. Recognition yields
        Transcripts on the input clock, as soon as it knows them, and a VadStep for each 80 ms of input.
        """


class SpeakingSession(EngineSession, Protocol):
    """A request whose client has text to be spoken."""

    def speak(self, text: str) -> Answers:
        """Take more text, one space behind the last, and yield what is ready: words, each before its audio."""

    def pause(self, seconds: float) -> Answers:
        """Speak what is pending, and then be silent for a time."""


class Engine(Protocol):
    """Opens sessions. One instance serves the whole server."""

    @property
    def blocking(self) -> bool:
        """True if a call may take longer than a few hundred microseconds.

        The session then runs them on a worker thread; False keeps them on the event loop.
        """

    def check(self) -> None:
        """Verify that every part is installed; raises EngineError with the line that installs what is missing."""

    def listen(self, start: Start, sample_rate: int, voice: Voice | None) -> ListeningSession:
        """Begin to recognise, or to interpret where `start.target_format` tells of audio to come back.

        Args:
            start: What the client wants.
            sample_rate: Rate in Hz of the client's audio, its output if there is any: a hint, as it is resampled.
            voice: To speak with, if the client named one that is known; `start.voice_id` is what it said.

        Raises:
            EngineError: The request cannot be served, for example an unknown pair of languages.
        """

    def speak(self, start: Start, sample_rate: int, voice: Voice | None) -> SpeakingSession:
        """Begin to speak for a client that wants audio at `sample_rate` Hz, a hint as above, with a voice.

        Raises:
            EngineError: The request cannot be served, for example a language without a voice.
        """
