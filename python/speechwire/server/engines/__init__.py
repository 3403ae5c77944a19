"""What answers behind a dialect: PCM in, PCM and text out; no vendor, no WebSocket.

An engine is opened once per request. The session drives it: it feeds PCM at the rate the engine asks for and sends on
whatever `feed` and `flush` yield, pulling one item at a time, so a slow client slows the engine and never fills memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from speechwire.errors import SpeechwireError
from speechwire.events import Audio, Start, Transcript

__all__ = ["Engine", "EngineSession", "EngineError"]


class EngineError(SpeechwireError):
    """An engine cannot serve a request, or a part of it is not installed; the message says what to do."""


class EngineSession(Protocol):
    """One request being answered. Used by one thread at a time."""

    @property
    def input_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `feed` expects."""

    @property
    def output_sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM in the `Audio` that `feed` and `flush` yield."""

    def feed(self, pcm: bytes) -> Iterator[Audio | Transcript]:
        """Take PCM of any length and yield what is ready; a Transcript comes before the audio that speaks it."""

    def flush(self) -> Iterator[Audio | Transcript]:
        """The input has ended: yield all that is still owed."""

    def close(self) -> None:
        """Release everything at once; called exactly once, also when the client vanished in mid-speech.

        Never called while another thread is inside `feed` or `flush`, but perhaps before what they yield was pulled.
        """


class Engine(Protocol):
    """Opens sessions. One instance serves the whole server."""

    @property
    def blocking(self) -> bool:
        """True if `open`, `feed` and `flush` may take longer than a few hundred microseconds.

        The session then runs them on a worker thread; False keeps them on the event loop.
        """

    def check(self) -> None:
        """Verify that every part is installed; raises EngineError with the line that installs what is missing."""

    def open(self, start: Start, output_sample_rate: int) -> EngineSession:
        """Begin a request whose client wants audio at `output_sample_rate` Hz (a hint: the session resamples).

        Raises:
            EngineError: The request cannot be served, for example an unknown pair of languages.
        """
