"""The engine that gives back what it hears: for tests, for load, and to hear what a client really sends.

The audio comes back bit for bit and at once. A voice-activity cut numbers the segments of speech in it, so that a
client sees transcripts too; it costs microseconds, because it runs on the event loop for every session. Text is spoken
in tones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from zlib import crc32

from speechwire.events import Audio, Flush, Pause, Start, Text, Transcript, VadStep
from speechwire.server.engines import Input, Say
from speechwire.server.engines.activity import STEP_MS, StepCounter
from speechwire.server.engines.sentences import SentenceSplitter
from speechwire.server.engines.tones import tone
from speechwire.server.voices import Voice

__all__ = ["Answers", "LoopbackEngine", "LoopbackSession", "ToneSession"]

Answers = Iterator[Audio | Transcript | VadStep]

_FRAMES_PER_SECOND = 50
_FRAMES_IN_STEP = STEP_MS * _FRAMES_PER_SECOND // 1000
# A segment opens after three frames that reach -30 dBFS and closes after 300 ms in which no frame reached -36 dBFS: a
# click is no speech, and the short silence inside a plosive does not end a word.
_OPEN_LEVEL = 4
_HOLD_LEVEL = 2
_ONSET_FRAMES = 3
_HANGOVER_FRAMES = 15
# Speech has its peaks well below 4 kHz, so about 8000 looks in a second find them at any sample rate.
_LOOKS_PER_SECOND = 8000


def _quieter_than(level: int) -> bytes:
    """The high bytes of all samples that stay below `level` * 256, positive and negative."""
    return bytes(byte for byte in range(256) if (byte if byte < 128 else 255 - byte) < level)


# The tones: of a length for each letter, and with a pause behind that ends a frame.
_FRAME_MS = 80
_LETTER_MS = 40
_MAX_LETTERS = 50
_LOWEST_HZ = 200
_NUM_PITCHES = 64
_PITCH_STEP_HZ = 25

_BELOW_OPEN = _quieter_than(_OPEN_LEVEL)
_BELOW_HOLD = _quieter_than(_HOLD_LEVEL)


class LoopbackEngine:
    """Interprets by returning what it hears, recognises segments of speech, and speaks in tones.

    Interpreting gives back the audio bit for bit, and a numbered transcript for each segment of speech in it. A
    transcript comes with the audio that ends its segment, not before the audio that speaks it: by then that audio has
    long been returned, for this engine holds nothing back. Recognition gives the transcripts without the audio.
    Synthesis gives a tone for each word: `ToneSession` says which.
    """

    max_recognitions: int | None = None

    async def start(self) -> None:
        """Nothing to load: this engine has no parts to install."""

    async def stop(self) -> None:
        """Nothing to release."""

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> LoopbackSession:
        """Begin a request that hears, and answers, at `sample_rate` Hz; languages and voice are ignored."""
        return LoopbackSession(sample_rate, returns_audio=start.target_format is not None)

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
        """Begin a request that speaks at `sample_rate` Hz; each voice id has its own tones, any language the same."""
        return ToneSession(sample_rate, start.voice_id, start.speed)


class _Session(ABC):
    """A session whose every answer takes microseconds, and is made when the one before has left."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        """Answer each input before the next is taken."""
        async for event in inputs:
            await self._say(self._answer(event), say)
            if isinstance(event, Flush):
                await say(event)
        await self._say(self._answer(Flush()), say)

    async def _say(self, answers: Answers, say: Say) -> None:
        while True:
            began = perf_counter()
            answer = next(answers, None)
            self.busy_s += perf_counter() - began
            if answer is None:
                return
            await say(answer)

    @abstractmethod
    def _answer(self, event: Input) -> Answers:
        """Return what there is to say to an input."""


class LoopbackSession(_Session):
    """One stream that is being heard. Segments and steps depend on the audio alone, not on how it was cut into chunks.

    Args:
        sample_rate: Of input and output, in Hz.
        returns_audio: The stream is interpreted: its audio goes back. Otherwise it is recognised, with steps.
    """

    def __init__(self, sample_rate: int, *, returns_audio: bool = True) -> None:
        super().__init__()
        self._sample_rate = sample_rate
        self._returns_audio = returns_audio
        self._steps = StepCounter()
        self._silent_frames = 0
        self._frame_size = max(1, sample_rate // _FRAMES_PER_SECOND)
        self._stride = max(1, sample_rate // _LOOKS_PER_SECOND)
        # The frame being filled: samples it has, and whether any of them reached the two levels.
        self._frame_fill = 0
        self._frame_opens = False
        self._frame_holds = False
        # Counts of whole frames since the start of the stream.
        self._num_frames = 0
        self._onset_frames = 0
        self._in_segment = False
        self._segment_start = 0
        self._segment_stop = 0
        self._num_segments = 0

    @property
    def input_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    @property
    def output_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    def feed(self, pcm: bytes) -> Answers:
        """Return what ends in `pcm`, segments and steps, and then `pcm` as it is if the stream is interpreted."""
        out: list[Audio | Transcript | VadStep] = []
        num_samples = len(pcm) // 2
        position = 0
        while position < num_samples:
            taken = min(self._frame_size - self._frame_fill, num_samples - position)
            # Only every stride-th sample of a frame is looked at, counted from the start of the frame; its high byte
            # tells the level. Dropping the quiet bytes and seeing what is left keeps the loop out of Python.
            first = position + -self._frame_fill % self._stride
            high_bytes = pcm[2 * first + 1 : 2 * (position + taken) : 2 * self._stride]
            if not self._frame_holds and high_bytes.translate(None, _BELOW_HOLD):
                self._frame_holds = True
            if self._frame_holds and not self._frame_opens and high_bytes.translate(None, _BELOW_OPEN):
                self._frame_opens = True
            position += taken
            self._frame_fill += taken
            if self._frame_fill == self._frame_size:
                self._end_frame(out)
        if pcm and self._returns_audio:
            out.append(Audio(pcm))
        return iter(out)

    def flush(self) -> Answers:
        """Close the segment that is still open; all audio has been returned already."""
        return iter([self._end_segment()] if self._in_segment else [])

    def _answer(self, event: Input) -> Answers:
        return self.feed(event.audio) if isinstance(event, Audio) else self.flush()

    def _end_frame(self, out: list[Audio | Transcript | VadStep]) -> None:
        opens, holds = self._frame_opens, self._frame_holds
        self._frame_fill = 0
        self._frame_opens = self._frame_holds = False
        self._num_frames += 1
        is_active = holds if self._in_segment else opens
        self._silent_frames = 0 if is_active else self._silent_frames + 1
        self._cut_segment(out, opens=opens, holds=holds)
        if not self._returns_audio and self._num_frames % _FRAMES_IN_STEP == 0:
            out.append(self._steps.step(self._silent_frames / _FRAMES_PER_SECOND))

    def _cut_segment(self, out: list[Audio | Transcript | VadStep], *, opens: bool, holds: bool) -> None:
        if self._in_segment:
            if holds:
                self._segment_stop = self._num_frames
            elif self._num_frames - self._segment_stop >= _HANGOVER_FRAMES:
                out.append(self._end_segment())
            return
        self._onset_frames = self._onset_frames + 1 if opens else 0
        if self._onset_frames == _ONSET_FRAMES:
            self._in_segment = True
            self._segment_start = self._num_frames - _ONSET_FRAMES
            self._segment_stop = self._num_frames

    def _end_segment(self) -> Transcript:
        self._in_segment = False
        self._onset_frames = 0
        self._num_segments += 1
        frame_s = self._frame_size / self._sample_rate
        return Transcript(
            f"segment {self._num_segments}",
            round(self._segment_start * frame_s, 6),
            round(self._segment_stop * frame_s, 6),
        )


class ToneSession(_Session):
    """Text that is being spoken in tones: every word of a sentence as soon as the sentence is complete.

    A word of n letters and digits (at least 1, at most 50) is a tone of n * 40 ms, divided by the speed, and then
    silence of at least one sample to the end of a frame of 80 ms. The tone is a sine; its pitch, one of 64 from 200 Hz
    up in steps of 25 Hz, is chosen by the CRC-32 of the voice's id, a space and the word. So the same text sounds the
    same, and another voice, word or speed sounds different.

    Args:
        sample_rate: Of the output, in Hz.
        voice_id: Any text, or None.
        speed: 1.0 is usual.
    """

    def __init__(self, sample_rate: int, voice_id: str | None, speed: float) -> None:
        super().__init__()
        self._sample_rate = sample_rate
        self._voice_id = voice_id
        self._speed = speed
        self._sentences = SentenceSplitter()
        self._num_samples = 0

    @property
    def output_sample_rate(self) -> int:
        """The rate that was asked for."""
        return self._sample_rate

    def speak(self, text: str) -> Answers:
        """Yield the words of the sentences that are complete now, each before its tone."""
        return self._sound(self._sentences.feed(text))

    def pause(self, seconds: float) -> Answers:
        """Yield the words that wait, and then silence of exactly this length."""
        yield from self.flush()
        yield self._next_audio(bytes(2 * round(seconds * self._sample_rate)))

    def flush(self) -> Answers:
        """Yield the words that wait for the end of their sentence."""
        return self._sound(self._sentences.flush())

    def _answer(self, event: Input) -> Answers:
        match event:
            case Text(text):
                return self.speak(text)
            case Pause(seconds):
                return self.pause(seconds)
        return self.flush()

    def _sound(self, sentences: Iterator[str]) -> Answers:
        for sentence in sentences:
            for word in sentence.split():
                num_letters = min(max(1, sum(map(str.isalnum, word))), _MAX_LETTERS)
                num_samples = round(num_letters * _LETTER_MS / 1000 * self._sample_rate / self._speed)
                start = self._num_samples
                yield Transcript(
                    word, round(start / self._sample_rate, 6), round((start + num_samples) / self._sample_rate, 6)
                )
                frame_size = self._sample_rate * _FRAME_MS // 1000
                num_frames = (start + num_samples) // frame_size + 1
                pitch = crc32(f"{self._voice_id} {word}".encode()) % _NUM_PITCHES
                pcm = tone(self._sample_rate, _LOWEST_HZ + pitch * _PITCH_STEP_HZ, num_samples)
                yield self._next_audio(pcm.ljust(2 * (num_frames * frame_size - start), b"\0"))

    def _next_audio(self, pcm: bytes) -> Audio:
        self._num_samples += len(pcm) // 2
        return Audio(pcm)
