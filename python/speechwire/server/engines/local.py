"""The engine that translates speech on this machine: a recogniser, a translator and a synthesiser in a row.

The three parts are interfaces; `recognize`, `translate` and `synthesize` hold the ones that come with Speechwire. None
of them calls a service, and all of them are small: this engine makes a complete server for tests and demonstrations,
and shows where better models go.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from speechwire.events import Audio, Start, Transcript
from speechwire.server.engines import Answers
from speechwire.server.engines.activity import STEP_MS, StepCounter
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.sentences import SentenceSplitter, spread_words
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.translate import ApertiumTranslator
from speechwire.server.voices import Voice

__all__ = ["LocalEngine", "Recognition", "Recognizer", "Synthesizer", "Translator"]

_DEFAULT_LANGUAGE = "en"
_PIECES_PER_SECOND = 12.5
_SILENCE_LEVEL = 300  # a program's pause has less


class Recognition(Protocol):
    """One stream being recognised. Used by one thread at a time."""

    @property
    def silence_s(self) -> float:
        """Silence at the end of what has been heard; 0.0 in speech."""

    def feed(self, pcm: bytes) -> Iterator[list[Transcript]]:
        """Take s16le mono PCM of any length and yield the utterances that ended in it.

        An utterance is its words, capitalised and punctuated as in a sentence, with their times in the stream.
        """

    def flush(self) -> Iterator[list[Transcript]]:
        """Yield the utterance that was still being spoken; more may be fed."""

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

    def synthesize(
        self, text: str, language: str, voice: Voice | None = None, *, speed: float = 1.0
    ) -> Iterator[bytes]:
        """Yield `text` spoken in `language` as s16le mono PCM; closing the iterator stops the work.

        Without a voice it is that of the language; the accent of one from another language is not used. A `speed` of
        1.0 is usual; 0.5 to 2.0 may be asked for.

        Raises:
            EngineError: The synthesis failed or took too long.
        """


class LocalEngine:
    """Recognises, translates and speaks on this machine.

    Interpreting recognises each utterance, translates it, and speaks it in the target language. Without a target
    language, or with the source language as target, the words are spoken again as they are. Recognition gives the words
    of each utterance; with a target language those of its translation. Synthesis speaks a sentence at a time.

    A request without a language is taken for English; one for synthesis has that of its voice.

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

    def listen(
        self, start: Start, sample_rate: int, voice: Voice | None = None
    ) -> LocalInterpreting | LocalRecognition:
        """Begin to recognise or interpret; the session hears and answers at its parts' rates.

        Raises:
            EngineError: A language is unknown, the pair cannot be translated, or its package is not installed.
        """
        source = start.source_language or _DEFAULT_LANGUAGE
        target = start.target_language or source
        self._recognizer.check_language(source)
        if target != source:
            self._translator.check_pair(source, target)
        if start.target_format is None:
            return LocalRecognition(self._recognizer, self._translator, source, target)
        self._synthesizer.check_language(target)
        speech = _Speech(self._synthesizer, target, voice, start.speed)
        return LocalInterpreting(self._recognizer, self._translator, speech, source, target)

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> LocalSynthesis:
        """Begin to speak; the session answers at the synthesiser's rate.

        Raises:
            EngineError: There is no voice for the language.
        """
        language = start.target_language or (_DEFAULT_LANGUAGE if voice is None else voice.language)
        self._synthesizer.check_language(language)
        return LocalSynthesis(_Speech(self._synthesizer, language, voice, start.speed))


class LocalInterpreting:
    """One stream being translated, an utterance at a time; utterances follow each other on the output clock."""

    def __init__(
        self, recognizer: Recognizer, translator: Translator, speech: _Speech, source: str, target: str
    ) -> None:
        self._input_sample_rate = recognizer.sample_rate
        self._translator = translator
        self._speech = speech
        self._source = source
        self._target = target
        self._recognition = recognizer.open(source)

    @property
    def input_sample_rate(self) -> int:
        """The recogniser's rate."""
        return self._input_sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The synthesiser's rate."""
        return self._speech.sample_rate

    def feed(self, pcm: bytes) -> Answers:
        """Take PCM of any length; for each utterance that ends in it yield a Transcript, then its audio in pieces.

        What the caller does not pull stays to be recognised by the next call.
        """
        return self._speak(self._recognition.feed(pcm))

    def flush(self) -> Answers:
        """Yield the utterance that was still being spoken."""
        return self._speak(self._recognition.flush())

    def close(self) -> None:
        """Release the recogniser; no process outlives the `feed` or `flush` that started it."""
        self._recognition.close()

    def _speak(self, utterances: Iterator[list[Transcript]]) -> Answers:
        for words in utterances:
            text = _sentence(words)
            if self._target != self._source:
                text = self._translator.translate(text, self._source, self._target)
            yield from self._speech.say_sentence(text)


class LocalRecognition:
    """One stream being recognised: the words of its utterances, and a step for each 80 ms, in the stream's order."""

    def __init__(self, recognizer: Recognizer, translator: Translator, source: str, target: str) -> None:
        self._sample_rate = recognizer.sample_rate
        self._translator = translator
        self._source = source
        self._target = target
        self._recognition = recognizer.open(source)
        self._steps = StepCounter()
        self._step_bytes = 2 * (self._sample_rate * STEP_MS // 1000)
        self._step_fill = 0

    @property
    def input_sample_rate(self) -> int:
        """The recogniser's rate."""
        return self._sample_rate

    @property
    def output_sample_rate(self) -> int:
        """There is no audio; the recogniser's rate."""
        return self._sample_rate

    def feed(self, pcm: bytes) -> Answers:
        """Take PCM of any length and yield what ends in it, utterances and steps."""
        position = 0
        while position < len(pcm):
            taken = min(self._step_bytes - self._step_fill, len(pcm) - position)
            yield from self._words(self._recognition.feed(pcm[position : position + taken]))
            position += taken
            self._step_fill += taken
            if self._step_fill == self._step_bytes:
                self._step_fill = 0
                yield self._steps.step(self._recognition.silence_s)

    def flush(self) -> Answers:
        """Yield the utterance that was still being spoken."""
        return self._words(self._recognition.flush())

    def close(self) -> None:
        """Release the recogniser."""
        self._recognition.close()

    def _words(self, utterances: Iterator[list[Transcript]]) -> Answers:
        for words in utterances:
            if self._target == self._source:
                yield from words
                continue
            text = self._translator.translate(_sentence(words), self._source, self._target)
            stop_s = words[-1].stop_s
            assert stop_s is not None
            yield from spread_words(text, words[0].start_s, stop_s)


class LocalSynthesis:
    """One text being spoken, a sentence as soon as it is complete; sentences follow each other on the output clock."""

    def __init__(self, speech: _Speech) -> None:
        self._speech = speech
        self._sentences = SentenceSplitter()

    @property
    def output_sample_rate(self) -> int:
        """The synthesiser's rate."""
        return self._speech.sample_rate

    def speak(self, text: str) -> Answers:
        """Take more text; for each sentence that is complete now yield its words and its audio in pieces."""
        return self._say(self._sentences.feed(text))

    def pause(self, seconds: float) -> Answers:
        """Speak what is pending, and then be silent for a time."""
        yield from self.flush()
        yield from self._speech.be_silent(seconds)

    def flush(self) -> Answers:
        """Speak what waits for the end of its sentence."""
        return self._say(self._sentences.flush())

    def close(self) -> None:
        """Nothing to release; no process outlives the call that started it."""

    def _say(self, sentences: Iterator[str]) -> Answers:
        for sentence in sentences:
            yield from self._speech.say_words(sentence)


class _Speech:
    """What one request says, and when: its output clock."""

    def __init__(self, synthesizer: Synthesizer, language: str, voice: Voice | None, speed: float) -> None:
        self.sample_rate = synthesizer.sample_rate
        self._synthesizer = synthesizer
        self._language = language
        self._voice = voice
        self._speed = speed
        self._piece_samples = int(self.sample_rate / _PIECES_PER_SECOND)
        self._num_samples = 0

    def say_sentence(self, text: str) -> Answers:
        """Yield one Transcript for the text, and then its audio."""
        pcm = self._synthesize(text)
        if pcm:
            # A Transcript tells when its audio stops, so all of it must be there first.
            yield Transcript(text, self._time_s(0), self._time_s(len(pcm) // 2))
            yield from self._pieces(self._padded(pcm))

    def say_words(self, text: str) -> Answers:
        """Yield the audio of the text, and each word before the piece of it in which the word begins.

        The program does not tell when it speaks a word. The time from its first sound to the last is shared out by
        letters.
        """
        pcm = self._synthesize(text)
        if not pcm:
            return
        first, last = _sound(pcm)
        words = deque(spread_words(text, self._time_s(first), self._time_s(last)))
        for piece in self._pieces(self._padded(pcm)):
            while words and words[0].start_s < self._time_s(0):  # the clock stands behind the piece
                yield words.popleft()
            yield piece

    def be_silent(self, seconds: float) -> Iterator[Audio]:
        """Yield silence of exactly this length."""
        return self._pieces(bytes(2 * round(seconds * self.sample_rate)))

    def _synthesize(self, text: str) -> bytes:
        if not text:
            return b""
        return b"".join(self._synthesizer.synthesize(text, self._language, self._voice, speed=self._speed))

    def _padded(self, pcm: bytes) -> bytes:
        # To a whole frame of the output clock and one of silence: otherwise the slicer and the resampler behind this
        # engine would hold the end of the last word until the next sentence.
        end = self._num_samples + len(pcm) // 2
        num_pieces = -(-end // self._piece_samples) + 1
        return pcm.ljust(2 * (num_pieces * self._piece_samples - self._num_samples), b"\0")

    def _pieces(self, pcm: bytes) -> Iterator[Audio]:
        piece_bytes = 2 * self._piece_samples
        for offset in range(0, len(pcm), piece_bytes):
            piece = pcm[offset : offset + piece_bytes]
            self._num_samples += len(piece) // 2
            yield Audio(piece)

    def _time_s(self, num_samples: int) -> float:
        return round((self._num_samples + num_samples) / self.sample_rate, 6)


def _sentence(words: list[Transcript]) -> str:
    return " ".join(word.text for word in words)


def _sound(pcm: bytes) -> tuple[int, int]:
    """The sample at which a sentence begins to be heard, and the one behind its last sound."""
    samples = array("h", pcm)
    loud = [n for n, sample in enumerate(samples) if abs(sample) > _SILENCE_LEVEL]
    return (loud[0], loud[-1] + 1) if loud else (0, len(samples))
