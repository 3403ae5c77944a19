"""The engine that hears and says what a file tells it: for tests of applications, always the same, without programs.

Its places are in the stream's own time, seconds of the audio that has been heard, and its waits are timers of the event
loop. So its answers depend neither on how the input was cut nor on how fast the machine is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from speechwire.codec import resample
from speechwire.events import Audio, Flush, Pause, Start, Text, Transcript, VadStep
from speechwire.formats import FRAME_MS
from speechwire.server.engines import EngineError, Input, Say
from speechwire.server.engines.activity import STEP_MS, StepCounter
from speechwire.server.engines.loopback import LoopbackSession
from speechwire.server.engines.scenario import Recording, Script, Tone, Turn, load_scripts
from speechwire.server.engines.sentences import SentenceSplitter, spread_words
from speechwire.server.engines.together import together
from speechwire.server.engines.tones import tone
from speechwire.server.voices import Voice

__all__ = ["ScriptEngine"]

_CHARACTER_S: Final = 0.06  # of spoken text
# Of what was heard and is not answered yet: steps of more than five minutes, or turns.
_MAX_WAITING: Final = 4096


class ScriptEngine:
    """Serves each request by the first session of a scenario that fits it.

    Args:
        path: The scenario, a file in JSON (`.json`) or YAML (`.yaml`, `.yml`); docs/script.md has the keys.

    Raises:
        ValueError: Something in the scenario is not what it should be; the message names the file and the place.
        EngineError: YAML cannot be read here; the message has the line that installs it.
        OSError: The file cannot be read.
    """

    max_recognitions: int | None = None

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._scripts = load_scripts(self._path)
        self._num_requests = [0] * len(self._scripts)

    async def start(self) -> None:
        """Nothing to load: the scenario was read at once, so that its errors come before anything runs."""

    async def stop(self) -> None:
        """Nothing to release."""

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ScriptedListening:
        """Begin a request that hears, and answers, at `sample_rate` Hz.

        Raises:
            EngineError: No session of the scenario fits the request.
        """
        is_spoken = start.target_format is not None
        asked = {"language": start.source_language, "target_language": start.target_language}
        script = self._find("s2s" if is_spoken else "stt", asked, start.voice_id)
        return ScriptedListening(script, sample_rate, returns_audio=is_spoken)

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ScriptedSpeaking:
        """Begin a request that speaks at `sample_rate` Hz.

        Raises:
            EngineError: No session of the scenario fits the request.
        """
        return ScriptedSpeaking(self._find("tts", {"language": start.target_language}, start.voice_id), sample_rate)

    def _find(self, product: str, asked: dict[str, str | None], voice_id: str | None) -> Script:
        asked["voice"] = voice_id
        found = None
        # Every session counts its requests, also those that an earlier one serves.
        for number, script in enumerate(self._scripts):
            if script.product == product and all(asked[key] == value for key, value in script.wants.items()):
                self._num_requests[number] += 1
                if found is None and script.nth in {None, self._num_requests[number]}:
                    found = script
        if found is None:
            wanted = ", ".join(f"{key} {value!r}" for key, value in asked.items())
            raise EngineError(f"no session of {self._path.name} is for this request: product {product!r}, {wanted}")
        return found


class ScriptedListening:
    """One stream that is answered turn by turn, at places of its own or at the end of each utterance.

    Args:
        script: What is answered.
        sample_rate: Of input and output, in Hz.
        returns_audio: The stream is interpreted. Otherwise it is recognised, with steps.
    """

    def __init__(self, script: Script, sample_rate: int, *, returns_audio: bool) -> None:
        self.busy_s = 0.0  # there is nothing to compute
        self._sample_rate = sample_rate
        self._returns_audio = returns_audio
        self._turns = deque(script.turns)
        self._heard: asyncio.Queue[Transcript | VadStep | Flush | None] = asyncio.Queue(_MAX_WAITING)
        self._ears: _PlacedEars | LoopbackSession
        if script.has_places:
            self._ears = _PlacedEars(script.turns, sample_rate)
        else:
            self._ears = LoopbackSession(sample_rate, returns_audio=False)

    @property
    def input_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Answer what the script answers, until the input ends; it is heard also while an answer waits.

        Raises:
            EngineError: The script says so.
        """
        await together(self._hear(inputs), self._answer(say))

    async def _hear(self, inputs: AsyncIterator[Input]) -> None:
        # Before any input, for a turn may stand there.
        await self._take(self._ears.feed(b""))
        async for item in inputs:
            if isinstance(item, Audio):
                await self._take(self._ears.feed(item.audio))
            elif isinstance(item, Flush):
                await self._take(self._ears.flush())
                await self._heard.put(item)
        await self._take(self._ears.flush())
        await self._heard.put(None)

    async def _take(self, heard: Iterator[Audio | Transcript | VadStep]) -> None:
        for item in heard:
            if isinstance(item, Transcript) or (isinstance(item, VadStep) and not self._returns_audio):
                await self._heard.put(item)

    async def _answer(self, say: Say) -> None:
        speech = _Speech(self._sample_rate, say)
        while (item := await self._heard.get()) is not None:
            if not isinstance(item, Transcript):
                await say(item)
            elif self._turns:
                turn = self._turns.popleft()
                await asyncio.sleep(turn.delay_s)
                if self._returns_audio:
                    await speech.say_turn(turn, turn.text)
                elif turn.text is not None:
                    await say(Transcript(turn.text, item.start_s, item.stop_s))
                if turn.failure is not None:
                    await say(Flush(answered=False))  # brings out the texts that wait for more audio
                _fail(turn)


class ScriptedSpeaking:
    """One text that is answered sentence by sentence: as the script says, or in a tone of usual length.

    Args:
        script: What is answered.
        sample_rate: Of the output, in Hz.
    """

    def __init__(self, script: Script, sample_rate: int) -> None:
        self.busy_s = 0.0  # there is nothing to compute
        self._sample_rate = sample_rate
        self._turns = list(script.turns)

    @property
    def output_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Answer each sentence as soon as it is complete, until the input ends.

        Raises:
            EngineError: The script says so.
        """
        speech = _Speech(self._sample_rate, say)
        sentences = SentenceSplitter()
        async for item in inputs:
            match item:
                case Text(text):
                    await self._answer(sentences.feed(text), speech)
                case Pause(seconds):
                    await self._answer(sentences.flush(), speech)
                    await speech.say_pcm(bytes(2 * round(seconds * self._sample_rate)))
                case Flush():
                    await self._answer(sentences.flush(), speech)
                    await say(item)
        await self._answer(sentences.flush(), speech)

    async def _answer(self, sentences: Iterator[str], speech: _Speech) -> None:
        for sentence in sentences:
            turn = self._take_turn(sentence)
            await asyncio.sleep(turn.delay_s)
            if turn.audio is not None:
                await speech.say_turn(turn, sentence, by_word=True)
            _fail(turn)

    def _take_turn(self, sentence: str) -> Turn:
        for turn in self._turns:
            if turn.sentence in sentence:
                self._turns.remove(turn)
                return turn
        return Turn(audio=Tone())


class _PlacedEars:
    """Hears what the turns say that it hears, whatever comes in: utterances, and steps of 80 ms."""

    def __init__(self, turns: tuple[Turn, ...], sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._waiting = deque(turns)
        self._speech_s = deque(turn.speech_s for turn in turns if turn.speech_s is not None)
        self._silent_since_s = 0.0
        self._steps = StepCounter()
        self._step_size = sample_rate * STEP_MS // 1000
        self._num_samples = 0

    def feed(self, pcm: bytes) -> Iterator[Transcript | VadStep]:
        """Yield what ends in `pcm`: an utterance without words for each turn, and then a step that ends there too."""
        yield from self._reach()
        stop = self._num_samples + len(pcm) // 2
        while self._num_samples < stop:
            step_end = (self._num_samples // self._step_size + 1) * self._step_size
            self._num_samples = min(stop, step_end)
            yield from self._reach()
            if self._num_samples == step_end:
                yield self._steps.step(self._silence_s(step_end / self._sample_rate))

    def flush(self) -> Iterator[Transcript | VadStep]:
        """Nothing is owed: the place of every other turn has yet to come."""
        return iter(())

    def _reach(self) -> Iterator[Transcript]:
        while self._waiting:
            at_s = self._waiting[0].at_s
            assert at_s is not None
            if round(at_s * self._sample_rate) > self._num_samples:
                return
            yield Transcript("", *(self._waiting.popleft().speech_s or (at_s, at_s)))

    def _silence_s(self, now_s: float) -> float:
        while self._speech_s and self._speech_s[0][1] < now_s:
            self._silent_since_s = self._speech_s.popleft()[1]
        if self._speech_s and self._speech_s[0][0] < now_s:
            return 0.0
        return now_s - self._silent_since_s


class _Speech:
    """What one request says, and when: its output clock."""

    def __init__(self, sample_rate: int, say: Say) -> None:
        self._sample_rate = sample_rate
        self._say = say
        self._frame_bytes = 2 * (sample_rate * FRAME_MS // 1000)
        self._num_samples = 0

    async def say_turn(self, turn: Turn, text: str | None, *, by_word: bool = False) -> None:
        """Say the audio of a turn, and the text or each word of it before the audio in which it begins."""
        pcm = self._pcm(turn.audio, text)
        start_s, stop_s = self._time_s(0), self._time_s(len(pcm) // 2)
        texts: deque[Transcript] = deque()
        if text is not None:
            texts.extend(spread_words(text, start_s, stop_s) if by_word else [Transcript(text, start_s, stop_s)])
        # To a whole frame of the output clock; otherwise the slicer behind this engine would hold the end of the
        # audio until the next.
        end = 2 * self._num_samples + len(pcm)
        pcm = pcm.ljust(len(pcm) + -end % self._frame_bytes, b"\0")
        await self.say_pcm(pcm, texts)

    async def say_pcm(self, pcm: bytes, texts: deque[Transcript] | None = None) -> None:
        """Say PCM in pieces of a frame, and each text before the piece in which it begins."""
        texts = deque() if texts is None else texts
        for offset in range(0, len(pcm), self._frame_bytes):
            piece = pcm[offset : offset + self._frame_bytes]
            stop_s = self._time_s(len(piece) // 2)
            while texts and texts[0].start_s < stop_s:
                await self._say(texts.popleft())
            self._num_samples += len(piece) // 2
            await self._say(Audio(piece))
        for text in texts:
            await self._say(text)

    def _pcm(self, audio: Tone | Recording | None, text: str | None) -> bytes:
        match audio:
            case None:
                return b""
            case Recording():
                return _recorded(audio, self._sample_rate)
            case Tone(hz, duration_s):
                length_s = _CHARACTER_S * len(text or "") if duration_s is None else duration_s
                return tone(self._sample_rate, hz, round(length_s * self._sample_rate))

    def _time_s(self, num_samples: int) -> float:
        return round((self._num_samples + num_samples) / self._sample_rate, 6)


def _fail(turn: Turn) -> None:
    if turn.failure is not None:
        raise EngineError(turn.failure.message, turn.failure.kind)


@lru_cache(maxsize=32)
def _recorded(recording: Recording, sample_rate: int) -> bytes:
    return resample(recording.pcm, recording.sample_rate, sample_rate)
