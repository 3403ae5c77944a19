"""The engine that translates speech on this machine: a recogniser, a translator and a synthesiser in a row.

The three are `stages`; `recognize`, `translate` and `synthesize` hold the ones that come with Speechwire. None of them
calls a service, and all of them are small: this engine makes a complete server for tests and demonstrations, and better
models take their places.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from time import perf_counter
from typing import Final

from speechwire.events import Audio, Flush, Pause, Start, Text, Transcript
from speechwire.server.engines import Input, Say
from speechwire.server.engines.activity import StepCounter
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.sentences import SentenceSplitter, spread_words
from speechwire.server.engines.stages import Activity, Heard, Recognizer, Spoken, Synthesizer, Translator, Utterance
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.together import finish, together
from speechwire.server.engines.translate import ApertiumTranslator
from speechwire.server.voices import Voice

__all__ = ["LocalEngine"]

_DEFAULT_LANGUAGE: Final = "en"
_FRAMES_PER_SECOND: Final = 12.5
# Of utterances that wait between two stages. A stage that falls behind by more stops the one before it.
_MAX_WAITING: Final = 4
# What a word has to lie back before it is said, if the client would take it sooner.
_MIN_DELAY_S: Final = 0.4


class LocalEngine:
    """Recognises, translates and speaks on this machine.

    Interpreting recognises each utterance, translates it, and speaks it in the target language; while one is spoken the
    next is translated and the one after it heard. Without a target language, or with the source language as target, the
    words are spoken again as they are. Recognition gives the words of each utterance; with a target language those of
    its translation. Synthesis speaks a sentence at a time.

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
    def max_recognitions(self) -> int | None:
        """The recogniser's streams."""
        return self._recognizer.max_streams

    async def start(self) -> None:
        """Load all three stages; raises EngineError with the line that installs what is missing."""
        # Each to its end, also where another fails: `stop` finds none of them half started.
        results = await asyncio.gather(*(stage.start() for stage in self._stages), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def stop(self) -> None:
        """Release all three stages; returns when that is done, however often the caller is cancelled meanwhile."""
        await finish(asyncio.gather(*(stage.stop() for stage in self._stages)))

    def listen(
        self, start: Start, sample_rate: int, voice: Voice | None = None
    ) -> LocalInterpreting | LocalRecognition:
        """Open a session that recognises or interprets; it hears and answers at its stages' rates.

        Raises:
            EngineError: A language is unknown, the pair cannot be translated, or its package is not installed.
        """
        source = start.source_language or _DEFAULT_LANGUAGE
        target = start.target_language or source
        self._recognizer.check_language(source)
        if target != source:
            self._translator.check_pair(source, target)
        translation = _Translation(self._translator, source, target)
        if start.target_format is None:
            return LocalRecognition(self._recognizer, translation, start.delay_s)
        self._synthesizer.check_language(target)
        return LocalInterpreting(self._recognizer, translation, _Speech(self._synthesizer, target, voice, start.speed))

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> LocalSynthesis:
        """Open a session that speaks; it answers at the synthesiser's rate.

        Raises:
            EngineError: There is no voice for the language.
        """
        language = start.target_language or (_DEFAULT_LANGUAGE if voice is None else voice.language)
        self._synthesizer.check_language(language)
        return LocalSynthesis(_Speech(self._synthesizer, language, voice, start.speed))

    @property
    def _stages(self) -> tuple[Recognizer, Translator, Synthesizer]:
        return self._recognizer, self._translator, self._synthesizer


class LocalInterpreting:
    """One stream being translated, an utterance at a time; utterances follow each other on the output clock."""

    def __init__(self, recognizer: Recognizer, translation: _Translation, speech: _Speech) -> None:
        self._recognizer = recognizer
        self._translation = translation
        self._speech = speech
        self._recognised_s = 0.0
        self._heard: asyncio.Queue[Utterance | Flush | None] = asyncio.Queue(_MAX_WAITING)
        self._translated: asyncio.Queue[str | Flush | None] = asyncio.Queue(_MAX_WAITING)

    @property
    def input_sample_rate(self) -> int:
        """The recogniser's rate."""
        return self._recognizer.sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The synthesiser's rate."""
        return self._speech.sample_rate

    @property
    def busy_s(self) -> float:
        """What the three stages have taken."""
        return self._recognised_s + self._translation.busy_s + self._speech.busy_s

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Say for each utterance its words, each before its audio."""
        await together(self._recognise(inputs), self._translate(), self._speak(say))

    async def _recognise(self, inputs: AsyncIterator[Input]) -> None:
        async with aclosing(_audio(inputs)) as audio:
            await self._recognizer.recognize(self._translation.source, audio, self._take)
        await self._heard.put(None)

    async def _take(self, heard: Heard) -> None:
        if isinstance(heard, Activity):
            self._recognised_s += heard.busy_s
        elif isinstance(heard, Flush) or heard.is_final:
            await self._heard.put(heard)

    async def _translate(self) -> None:
        while (heard := await self._heard.get()) is not None:
            await self._translated.put(heard if isinstance(heard, Flush) else await self._translation.of(heard))
        await self._translated.put(None)

    async def _speak(self, say: Say) -> None:
        while (text := await self._translated.get()) is not None:
            if isinstance(text, Flush):
                await say(text)
            else:
                await self._speech.say_sentence(text, say)


class LocalRecognition:
    """One stream being recognised: the words of its utterances, and a step for each 80 ms.

    A word is said before its utterance is over when the recogniser has heard `delay_s` more and knows a word behind it,
    for what it thinks of the latest words still changes. With a translation the words come when their utterance is
    over; the steps do not wait for it.
    """

    def __init__(self, recognizer: Recognizer, translation: _Translation, delay_s: float) -> None:
        self._recognizer = recognizer
        self._translation = translation
        self._delay_s = max(delay_s, _MIN_DELAY_S)
        self._recognised_s = 0.0
        self._heard_s = 0.0
        self._said_s = 0.0  # of the utterance that goes on, up to here in the stream
        self._steps = StepCounter()
        self._heard: asyncio.Queue[Utterance | Flush | None] = asyncio.Queue(_MAX_WAITING)
        self._saying = asyncio.Lock()

    @property
    def input_sample_rate(self) -> int:
        """The recogniser's rate."""
        return self._recognizer.sample_rate

    @property
    def output_sample_rate(self) -> int:
        """There is no audio; the recogniser's rate."""
        return self._recognizer.sample_rate

    @property
    def busy_s(self) -> float:
        """What recognition and translation have taken."""
        return self._recognised_s + self._translation.busy_s

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Say words and steps in the stream's order, translations when they are ready."""
        if self._translation.is_needed:
            await together(self._recognise(inputs, say), self._translate(say))
        else:
            await self._recognise(inputs, say)

    async def _recognise(self, inputs: AsyncIterator[Input], say: Say) -> None:
        async def take(heard: Heard) -> None:
            if isinstance(heard, Activity):
                self._recognised_s += heard.busy_s
                async with self._saying:
                    step = self._steps.step(heard.silence_s)
                    self._heard_s = step.total_duration_s
                    await say(step)
            elif self._translation.is_needed:
                if isinstance(heard, Flush) or heard.is_final:
                    await self._heard.put(heard)
            elif isinstance(heard, Flush):
                await say(heard)
            else:
                for word in self._new_words(heard):
                    await say(word)

        async with aclosing(_audio(inputs)) as audio:
            await self._recognizer.recognize(self._translation.source, audio, take)
        await self._heard.put(None)

    def _new_words(self, utterance: Utterance) -> Iterator[Transcript]:
        known = utterance.words if utterance.is_final else utterance.words[:-1]
        for word in known:
            assert word.stop_s is not None
            if word.start_s + word.stop_s < 2 * self._said_s:
                continue
            # What was said before it may have moved since, and keeps its time.
            start_s = max(word.start_s, self._said_s)
            if not utterance.is_final:
                if word.stop_s + self._delay_s > self._heard_s:
                    break
                self._said_s = word.stop_s
            yield Transcript(word.text, start_s, word.stop_s)
        if utterance.is_final:
            self._said_s = 0.0

    async def _translate(self, say: Say) -> None:
        while (heard := await self._heard.get()) is not None:
            answers: list[Transcript | Flush] = [heard] if isinstance(heard, Flush) else []
            if isinstance(heard, Utterance) and heard.words:
                stop_s = heard.words[-1].stop_s
                assert stop_s is not None
                answers += spread_words(await self._translation.of(heard), heard.words[0].start_s, stop_s)
            async with self._saying:
                for answer in answers:
                    await say(answer)


class LocalSynthesis:
    """One text being spoken, a sentence as soon as it is complete; sentences follow each other on the output clock."""

    def __init__(self, speech: _Speech) -> None:
        self._speech = speech
        self._sentences = SentenceSplitter()

    @property
    def output_sample_rate(self) -> int:
        """The synthesiser's rate."""
        return self._speech.sample_rate

    @property
    def busy_s(self) -> float:
        """What synthesis has taken."""
        return self._speech.busy_s

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Say the words of each sentence that is complete, each before its audio."""
        async for event in inputs:
            if isinstance(event, Text):
                for sentence in self._sentences.feed(event.text):
                    await self._speech.say_sentence(sentence, say)
                continue
            await self._say_rest(say)
            if isinstance(event, Pause):
                await self._speech.be_silent(event.seconds, say)
            elif isinstance(event, Flush):
                await say(event)
        await self._say_rest(say)

    async def _say_rest(self, say: Say) -> None:
        for sentence in self._sentences.flush():
            await self._speech.say_sentence(sentence, say)


class _Translation:
    """What one request needs of the translator."""

    def __init__(self, translator: Translator, source: str, target: str) -> None:
        self.source = source
        self.busy_s = 0.0
        self._translator = translator
        self._target = target

    @property
    def is_needed(self) -> bool:
        """False where the words stay as they are."""
        return self._target != self.source

    async def of(self, utterance: Utterance) -> str:
        """Return the text of an utterance in the target language."""
        text = " ".join(word.text for word in utterance.words)
        if not self.is_needed or not text:
            return text
        began = perf_counter()
        try:
            return await self._translator.translate(text, self.source, self._target)
        finally:
            self.busy_s += perf_counter() - began


class _Speech:
    """What one request says, and when: its output clock."""

    def __init__(self, synthesizer: Synthesizer, language: str, voice: Voice | None, speed: float) -> None:
        self.sample_rate = synthesizer.sample_rate
        self.busy_s = 0.0
        self._synthesizer = synthesizer
        self._language = language
        self._voice = voice
        self._speed = speed
        self._frame_samples = int(self.sample_rate / _FRAMES_PER_SECOND)
        self._num_samples = 0

    async def say_sentence(self, text: str, say: Say) -> None:
        """Say the words of a text, each before the audio in which it begins."""
        if not text:
            return
        origin_s = self._num_samples / self.sample_rate
        said_nothing = True
        began = perf_counter()

        async def take(spoken: Spoken) -> None:
            nonlocal said_nothing, began
            self.busy_s += perf_counter() - began
            if isinstance(spoken, bytes):
                said_nothing = said_nothing and not spoken
                await self._say_audio(spoken, say)
            else:
                await say(
                    Transcript(
                        spoken.text, round(origin_s + spoken.start_s, 6), round(origin_s + (spoken.stop_s or 0.0), 6)
                    )
                )
            began = perf_counter()

        await self._synthesizer.synthesize(text, self._language, self._voice, self._speed, take)
        self.busy_s += perf_counter() - began
        if said_nothing:
            return
        # To a whole frame of the output clock and one of silence: otherwise the slicer and the resampler behind this
        # engine would hold the end of the last word until the next sentence.
        num_frames = -(-self._num_samples // self._frame_samples) + 1
        await self._say_audio(bytes(2 * (num_frames * self._frame_samples - self._num_samples)), say)

    async def be_silent(self, seconds: float, say: Say) -> None:
        """Say silence of exactly this length."""
        num_samples = round(seconds * self.sample_rate)
        for start in range(0, num_samples, self.sample_rate):
            await self._say_audio(bytes(2 * min(self.sample_rate, num_samples - start)), say)

    async def _say_audio(self, pcm: bytes, say: Say) -> None:
        self._num_samples += len(pcm) // 2
        await say(Audio(pcm))


async def _audio(inputs: AsyncIterator[Input]) -> AsyncGenerator[bytes | Flush, None]:
    async for event in inputs:
        if isinstance(event, Audio):
            yield event.audio
        elif isinstance(event, Flush):
            yield event
