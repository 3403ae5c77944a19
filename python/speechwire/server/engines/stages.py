"""What a recogniser, a translator and a synthesiser have to do to serve in the local engine.

Each is started once, serves the whole server, and is stopped once. Their methods run on the event loop, so what takes
longer than a few hundred microseconds belongs in a thread or a process of theirs. To stop a piece of work, its call is
cancelled; it then returns only when nothing of it is left that could be in the way of the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from speechwire.events import Flush, Transcript
from speechwire.server.engines import Part
from speechwire.server.voices import Voice

__all__ = ["Activity", "Heard", "Recognizer", "Spoken", "Synthesizer", "Translator", "Utterance"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is understood of one utterance: its words, capitalised and punctuated as in a sentence.

    Args:
        words: With their times in the stream, in seconds of the audio that was fed.
        is_final: False if the speaker goes on; the next of the stream then takes its place.
    """

    words: tuple[Transcript, ...]
    is_final: bool


@dataclass(frozen=True, slots=True)
class Activity:
    """What voice activity detection says at the end of one more step of 80 ms.

    Args:
        silence_s: Silence at the end of what has been heard; 0.0 in speech.
        busy_s: Seconds of computing since the last one.
    """

    silence_s: float
    busy_s: float


Heard = Utterance | Activity | Flush
Spoken = bytes | Transcript


class Recognizer(Part, Protocol):
    """Turns speech into sentences."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `recognize` expects."""

    @property
    def max_streams(self) -> int | None:
        """Streams that it can recognise at once and in real time; None for any number."""

    def check_language(self, language: str) -> None:
        """Raise EngineError if speech in `language` cannot be recognised."""

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        """Recognise one stream until `audio` ends, and report what is heard in it, in the stream's order.

        The texts do not depend on how the stream is cut into pieces of audio. An `Activity` is reported for each whole
        80 ms. After a `Flush`, and at the end, the utterance that is still being spoken is final; the `Flush` is then
        reported itself.

        Args:
            language: Two-letter code.
            audio: Pieces of s16le mono PCM of any length, taken no faster than they can be recognised.
            report: To be awaited; while it waits, no more than a few seconds of results may pile up.

        Raises:
            EngineError: The recognition failed.
        """


class Translator(Part, Protocol):
    """Turns a sentence of one language into another."""

    def check_pair(self, source: str, target: str) -> None:
        """Raise EngineError if there is no way from `source` to `target`; the two always differ."""

    async def translate(self, text: str, source: str, target: str) -> str:
        """Return `text`, of one sentence or several, in the language `target`.

        Raises:
            EngineError: The translation failed or took too long.
        """


class Synthesizer(Part, Protocol):
    """Turns a sentence into speech."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `synthesize` says."""

    def check_language(self, language: str) -> None:
        """Raise EngineError if there is no voice for `language`."""

    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        """Say a sentence: PCM in pieces of whole samples, and each word before the PCM in which it begins.

        While `say` waits, no other sentence is held up.

        Args:
            text: At most 500 characters, one sentence as a rule.
            language: Two-letter code.
            voice: None for the language's own; the accent of one from another language is not used.
            speed: 1.0 is usual; 0.5 to 2.0 may be asked for.
            say: Gets pieces of PCM, and a Transcript for each word of the text, in order, with its times in seconds
                from the sentence's first sample. To be awaited.

        Raises:
            EngineError: The synthesis failed or took too long.
        """
