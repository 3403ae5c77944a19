"""The engine that translates speech on this machine: a recogniser, a translator and a synthesiser in a row.

The three parts are interfaces; `recognize`, `translate` and `synthesize` hold the ones that come with Speechwire. None
of them calls a service, and all of them are small: this engine makes a complete server for tests and demonstrations,
and shows where better models go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from speechwire.events import Audio, Start, Transcript
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.translate import ApertiumTranslator

__all__ = ["LocalEngine", "Recognition", "Recognizer", "Synthesizer", "Translator"]

_DEFAULT_LANGUAGE = "en"
_PIECES_PER_SECOND = 12.5


class Recognition(Protocol):
    """One stream being recognised. Used by one thread at a time."""

    def feed(self, pcm: bytes) -> Iterator[str]:
        """Take s16le mono PCM of any length and yield the sentences that ended in it, capitalised and punctuated."""

    def flush(self) -> Iterator[str]:
        """The input has ended: yield the sentence that was still being spoken."""

    def close(self) -> None:
        """Release everything at once; called exactly once."""


class Recognizer(Protocol):
    """Turns speech into sentences. One instance serves the whole server, from several threads."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that a recognition expects."""

    def check(self) -> None:
        """Verify that every part is installed; raises EngineError with the line that installs what is missing."""

    def check_language(self, language: str) -> None:
        """Raise EngineError if speech in `language` cannot be recognised."""

    def open(self, language: str) -> Recognition:
        """Begin to recognise a stream in `language`."""


class Translator(Protocol):
    """Turns a sentence of one language into another. One instance serves the whole server, from several threads."""

    def check(self) -> None:
        """Verify that every part is installed; raises EngineError with the line that installs what is missing."""

    def check_pair(self, source: str, target: str) -> None:
        """Raise EngineError if there is no way from `source` to `target`; the two always differ."""

    def translate(self, text: str, source: str, target: str) -> str:
        """Return `text` in the language `target`; raises EngineError if that fails or takes too long."""


class Synthesizer(Protocol):
    """Turns a sentence into speech. One instance serves the whole server, from several threads."""

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that `synthesize` yields."""

    def check(self) -> None:
        """Verify that every part is installed; raises EngineError with the line that installs what is missing."""

    def check_language(self, language: str) -> None:
        """Raise EngineError if there is no voice for `language`."""

    def synthesize(self, text: str, language: str) -> Iterator[bytes]:
        """Yield `text` spoken in `language` as s16le mono PCM; closing the iterator stops the work.

        Raises:
            EngineError: The synthesis failed or took too long.
        """


class LocalEngine:
    """Recognises each utterance, translates it, and speaks it in the target language.

    Without a target language, or with the source language as target, the words are spoken again as they are. A request
    without a source language is taken for English. `voice_id` is ignored: each language has one voice.

    Args:
        recognizer: PocketSphinx unless given.
        translator: Apertium unless given.
        synthesizer: eSpeak NG unless given.
    """

    def __init__(
        self,
        recognizer: Recognizer | None = None,
        translator: Translator | None = None,
        synthesizer: Synthesizer | None = None,
    ) -> None:
        self._recognizer: Recognizer = recognizer or PocketSphinxRecognizer()
        self._translator: Translator = translator or ApertiumTranslator()
        self._synthesizer: Synthesizer = synthesizer or EspeakSynthesizer()

    @property
    def blocking(self) -> bool:
        """Always True: a sentence takes a few hundred milliseconds."""
        return True

    def check(self) -> None:
        """Verify all three parts; raises EngineError with the line that installs what is missing."""
        self._recognizer.check()
        self._translator.check()
        self._synthesizer.check()

    def open(self, start: Start, output_sample_rate: int) -> LocalSession:
        """Begin a request; the session answers at the synthesiser's rate, whatever `output_sample_rate` says.

        Raises:
            EngineError: A language is unknown, the pair cannot be translated, or its package is not installed.
        """
        source = start.source_language or _DEFAULT_LANGUAGE
        target = start.target_language or source
        self._recognizer.check_language(source)
        if target != source:
            self._translator.check_pair(source, target)
        self._synthesizer.check_language(target)
        return LocalSession(self._recognizer, self._translator, self._synthesizer, source, target)


class LocalSession:
    """One stream being translated, an utterance at a time; utterances follow each other on the output clock."""

    def __init__(
        self, recognizer: Recognizer, translator: Translator, synthesizer: Synthesizer, source: str, target: str
    ) -> None:
        self._input_sample_rate = recognizer.sample_rate
        self._output_sample_rate = synthesizer.sample_rate
        self._translator = translator
        self._synthesizer = synthesizer
        self._source = source
        self._target = target
        self._num_samples = 0
        self._recognition = recognizer.open(source)

    @property
    def input_sample_rate(self) -> int:
        """The recogniser's rate."""
        return self._input_sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The synthesiser's rate."""
        return self._output_sample_rate

    def feed(self, pcm: bytes) -> Iterator[Audio | Transcript]:
        """Take PCM of any length; for each utterance that ends in it yield a Transcript, then its audio in pieces.

        What the caller does not pull stays to be recognised by the next call.
        """
        return self._speak(self._recognition.feed(pcm))

    def flush(self) -> Iterator[Audio | Transcript]:
        """The input has ended: yield the utterance that was still being spoken."""
        return self._speak(self._recognition.flush())

    def close(self) -> None:
        """Release the recogniser; no process outlives the `feed` or `flush` that started it."""
        self._recognition.close()

    def _speak(self, sentences: Iterator[str]) -> Iterator[Audio | Transcript]:
        piece_bytes = 2 * int(self._output_sample_rate / _PIECES_PER_SECOND)
        for sentence in sentences:
            text = sentence
            if self._target != self._source:
                text = self._translator.translate(sentence, self._source, self._target)
            # A Transcript tells when its audio stops, so all of it must be there first.
            pcm = b"".join(self._synthesizer.synthesize(text, self._target)) if text else b""
            if not pcm:
                continue
            start = self._num_samples
            stop = start + len(pcm) // 2
            yield Transcript(text, start / self._output_sample_rate, stop / self._output_sample_rate)
            # Whole frames and one of silence: otherwise the slicer and the resampler behind this engine would hold the
            # end of the last word until the next sentence.
            num_pieces = -(-len(pcm) // piece_bytes) + 1
            pcm = pcm.ljust(num_pieces * piece_bytes, b"\0")
            self._num_samples += len(pcm) // 2
            for offset in range(0, len(pcm), piece_bytes):
                yield Audio(pcm[offset : offset + piece_bytes])
