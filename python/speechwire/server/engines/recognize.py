"""Speech recognition with PocketSphinx and the English model that its wheel carries.

PocketSphinx holds the interpreter's lock while it decodes. So it is given small slices and the other threads get a turn
after each; the slow passes at the end of an utterance are off.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from speechwire.events import Flush, Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.program import in_thread
from speechwire.server.engines.stages import Activity, Heard, Utterance

__all__ = ["PocketSphinxRecognizer", "build_sentence"]

_SAMPLE_RATE = 16000
_FRAME_S = 0.02
_DECODER_FRAME_S = 0.01  # in which a decoder counts
# The window that decides between speech and silence: also the pause, in seconds, that ends an utterance.
_WINDOW_S = 0.3
_WINDOW_RATIO = 0.9
# WebRTC's voice activity detector goes from 0 (keeps most) to 3 (drops most); 0 and 1 miss the pauses of fluent speech.
_VAD_MODE = 2
# Speech without a pause is cut here, which bounds the decoder's memory and the delay.
_MAX_UTTERANCE_FRAMES = int(15 / _FRAME_S)
_FLUSH_SILENCE = bytes(_SAMPLE_RATE)
# Long enough for a waiting thread to take the interpreter's lock, short beside the 20 ms of speech in a slice.
_TURN_S = 0.0001

_DECODER_OPTIONS = {
    "samprate": _SAMPLE_RATE,
    "loglevel": "FATAL",
    # The second pass takes up to 100 ms at the end of an utterance and did not lower the number of wrong words.
    "fwdflat": False,
    # Bounds the longest slice; the default of 30000 allows calls of 10 ms and more.
    "maxhmmpf": 5000,
    # Weight of the language model. With the default of 6.5 the first words of a stream are often replaced by likelier
    # ones.
    "lw": 5.5,
}
# Cepstral mean that a stream starts from. The first value is the loudness: what three voices of usual level adapted to.
# The default of 40 fits a quieter voice and costs the first words of a stream.
_CEPSTRAL_MEAN = "52.5,3,-1,0,0,0,0,0,0,0,0,0,0"

_QUESTION_WORDS = frozenset({"who", "what", "where", "why", "which", "whose", "how"})
_AUXILIARIES = frozenset({"are", "can", "could", "did", "do", "does", "is", "should", "was", "were", "will", "would"})
_SUBJECTS = frozenset({"i", "you", "he", "she", "it", "we", "they", "the", "this", "that", "there", "my", "your"})
# What a decoder lists besides words: silence and noises, and the number of a word's pronunciation.
_NO_WORD = ("<", "[", "+")
_PRONUNCIATION = re.compile(r"\(\d+\)$")


def build_sentence(words: str) -> str:
    """Return the recogniser's lower-case words as a sentence: capitals, and a full stop or a question mark.

    A translator needs them to see where a sentence ends. Whether it is a question is guessed from its first two words.
    """
    tokens = words.lower().split()
    if not tokens:
        return ""
    is_question = tokens[0] in _QUESTION_WORDS or (
        tokens[0] in _AUXILIARIES and len(tokens) > 1 and tokens[1] in _SUBJECTS
    )
    text = re.sub(r"\bi\b", "I", " ".join(tokens))
    return text[0].upper() + text[1:] + ("?" if is_question else ".")


class PocketSphinxRecognizer:
    """Recognises English.

    A decoder serves one stream at a time and keeps its own copy of the model, so decoders are pooled: a stream takes
    one when it first hears speech and gives it back when it closes. Loading one takes about 0.2 s, in which no other
    thread runs, and 90 MB.

    Args:
        num_decoders: Decoders that `check` loads; more are loaded when more streams speak.
        max_decoders: Streams that may have spoken and still be open; the next one fails.
    """

    def __init__(self, num_decoders: int = 1, max_decoders: int = 8) -> None:
        if not 0 <= num_decoders <= max_decoders:
            raise ValueError(f"expected num_decoders from 0 to {max_decoders}, got {num_decoders}")
        self._num_decoders = num_decoders
        self._max_decoders = max_decoders
        self._lock = threading.Lock()
        self._idle_decoders: list[Any] = []
        self._num_taken = 0

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that a recognition expects."""
        return _SAMPLE_RATE

    @property
    def max_streams(self) -> int | None:
        """Decoders that there may be."""
        return self._max_decoders

    async def start(self) -> None:
        """Verify that PocketSphinx is installed, and load the first decoders."""
        await asyncio.to_thread(self._load)

    async def stop(self) -> None:
        """Nothing to release but memory."""

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        """Recognise a stream in threads."""
        recognition = self.open(language)
        step_bytes = 2 * _SAMPLE_RATE * 80 // 1000
        pending = bytearray()

        async def hear(utterances: Iterator[list[Transcript]]) -> None:
            known: list[list[Transcript]] = await in_thread(list, utterances)
            for words in known:
                await report(Utterance(tuple(words), is_final=True))

        try:
            async for item in audio:
                if isinstance(item, Flush):
                    await hear(recognition.flush())
                    await report(item)
                    continue
                pending += item
                while len(pending) >= step_bytes:
                    step = bytes(pending[:step_bytes])
                    del pending[:step_bytes]
                    await hear(recognition.feed(step))
                    await report(Activity(recognition.silence_s, 0.0))
            await hear(recognition.feed(bytes(pending)))
            await hear(recognition.flush())
        finally:
            recognition.close()

    def _load(self) -> None:
        _import_pocketsphinx()
        with self._lock:
            while len(self._idle_decoders) + self._num_taken < self._num_decoders:
                self._idle_decoders.append(_load_decoder())

    def check_language(self, language: str) -> None:
        """Raise EngineError unless `language` is English."""
        if language != "en":
            raise EngineError(f"expected source language en, got {language}: the recogniser's model is English")

    def open(self, language: str) -> PocketSphinxRecognition:
        """Begin to recognise a stream."""
        self.check_language(language)
        return PocketSphinxRecognition(self)

    def _take(self) -> Any:
        with self._lock:
            if self._num_taken == self._max_decoders:
                raise EngineError(f"all {self._max_decoders} decoders are in use; try again later")
            decoder = self._idle_decoders.pop() if self._idle_decoders else _load_decoder()
            self._num_taken += 1
        # What the last stream sounded like must not change this one.
        decoder.set_cmn(_CEPSTRAL_MEAN)
        return decoder

    def _give_back(self, decoder: Any) -> None:
        with self._lock:
            self._idle_decoders.append(decoder)
            self._num_taken -= 1


class PocketSphinxRecognition:
    """One stream being recognised. The text does not depend on how the stream was cut into chunks."""

    def __init__(self, recognizer: PocketSphinxRecognizer) -> None:
        self._recognizer = recognizer
        self._activity = _import_pocketsphinx().Vad(_VAD_MODE, _SAMPLE_RATE, _FRAME_S)
        self._pending = bytearray()
        self._decoder: Any = None
        self._utterance_frames = 0
        self._silent_frames = 0
        self._num_samples = 0
        self._begin(0.0)

    @property
    def silence_s(self) -> float:
        """Silence at the end of what has been pulled, to the frame of 20 ms; 0.0 in speech."""
        return self._silent_frames * _FRAME_S

    def feed(self, pcm: bytes) -> Iterator[list[Transcript]]:
        """Take PCM and yield the utterances that ended in it; what is not pulled waits for the next call."""
        self._num_samples += len(pcm) // 2
        self._pending += pcm
        return self._utterances()

    def flush(self) -> Iterator[list[Transcript]]:
        """Yield the utterance that was still being spoken; what is fed after this begins another."""
        heard_s = self._num_samples / _SAMPLE_RATE
        silent_frames = self._silent_frames
        # Silence lets the endpointer end the utterance as it would in a longer stream, with its last word whole.
        self._pending += _FLUSH_SILENCE
        yield from self._utterances()
        if self._utterance_frames:
            yield from self._end_utterance()
        self._pending.clear()
        self._silent_frames = silent_frames
        # The silence was not in the stream, so the endpointer's clock is wrong from now on.
        self._begin(heard_s)

    def close(self) -> None:
        """Give the decoder back."""
        decoder, self._decoder = self._decoder, None
        self._pending.clear()
        if decoder is None:
            return
        if self._utterance_frames:
            self._utterance_frames = 0
            decoder.end_utt()
        self._recognizer._give_back(decoder)

    def _begin(self, origin_s: float) -> None:
        """Listen for speech afresh, in a stream of which `origin_s` have been heard."""
        self._endpointer = _import_pocketsphinx().Endpointer(
            _WINDOW_S, _WINDOW_RATIO, _VAD_MODE, _SAMPLE_RATE, _FRAME_S
        )
        self._frame_bytes: int = self._endpointer.frame_bytes
        self._origin_s = origin_s
        self._in_speech = False
        self._speech_s = 0.0  # where the next speech frame from the endpointer begins
        self._utterance_s = 0.0  # where the utterance began

    def _utterances(self) -> Iterator[list[Transcript]]:
        while len(self._pending) >= self._frame_bytes:
            frame = bytes(self._pending[: self._frame_bytes])
            del self._pending[: self._frame_bytes]
            self._silent_frames = 0 if self._activity.is_speech(frame) else self._silent_frames + 1
            speech: bytes | None = self._endpointer.process(frame)
            if speech is None:
                continue
            if not self._in_speech:
                self._speech_s = self._origin_s + self._endpointer.speech_start
            self._decode(speech)
            self._in_speech = self._endpointer.in_speech
            if not self._in_speech or self._utterance_frames >= _MAX_UTTERANCE_FRAMES:
                yield from self._end_utterance()

    def _decode(self, speech: bytes) -> None:
        if self._decoder is None:
            self._decoder = self._recognizer._take()
        if not self._utterance_frames:
            self._decoder.start_utt()
            self._utterance_s = self._speech_s
        self._utterance_frames += 1
        self._speech_s += _FRAME_S
        self._decoder.process_raw(speech)
        time.sleep(_TURN_S)

    def _end_utterance(self) -> Iterator[list[Transcript]]:
        """Yield the words of the utterance, if it has any; silence that was put behind the stream has no time."""
        self._utterance_frames = 0
        self._decoder.end_utt()
        spans = [
            (_PRONUNCIATION.sub("", segment.word), segment.start_frame, segment.end_frame + 1)
            for segment in self._decoder.seg() or ()
            if not segment.word.startswith(_NO_WORD)
        ]
        # A sentence has as many words as were recognised.
        words = build_sentence(" ".join(word for word, _, _ in spans)).split()
        heard_s = self._num_samples / _SAMPLE_RATE
        if words:
            yield [
                Transcript(word, *(min(heard_s, round(self._utterance_s + n * _DECODER_FRAME_S, 6)) for n in span))
                for word, (_, *span) in zip(words, spans, strict=True)
            ]


def _import_pocketsphinx() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise EngineError(
            "python package pocketsphinx is not installed; run pip install 'speechwire[local]'"
        ) from error
    return pocketsphinx


def _load_decoder() -> Any:
    return _import_pocketsphinx().Decoder(**_DECODER_OPTIONS)
