"""Recognises streams of speech, one after the other, in a process of its own.

PocketSphinx holds the interpreter's lock while it decodes, so a server cannot do this in its own process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pocketsphinx

from speechwire.events import Transcript
from speechwire.server.engines.recognize import BEGIN, FRAME_BYTES, SAMPLE_RATE, SPEECH, STEP_BYTES, pack_heard
from speechwire.server.engines.stages import Activity, Utterance
from speechwire.server.engines.worker import read_messages, write_message

__all__ = ["Listener", "build_sentence"]

_FRAME_S = 0.02
_PARTIAL_FRAMES = 4  # between two looks at what is understood so far
_DECODER_FRAME_S = 0.01  # in which a decoder counts
# The window that decides between speech and silence, and the share of it that does: 0.24 s of silence end an utterance.
_WINDOW_S = 0.3
_WINDOW_RATIO = 0.8
# WebRTC's voice activity detector goes from 0 (keeps most) to 3 (drops most); 0 and 1 miss the pauses of fluent speech.
_VAD_MODE = 2
# Speech without a pause is cut here, which bounds the decoder's memory and the delay.
_MAX_UTTERANCE_FRAMES = int(15 / _FRAME_S)
_FLUSH_SILENCE = bytes(SAMPLE_RATE)

_DECODER_OPTIONS = {
    "samprate": SAMPLE_RATE,
    "loglevel": "FATAL",
    # The second pass took 50 ms more at the end of an utterance, and did not lower the number of wrong words.
    "fwdflat": False,
    # Did not raise it, and saves a fifth of the computing.
    "maxhmmpf": 5000,
    # Weight of the language model. With the default of 6.5 the first words of a stream are often replaced by likelier
    # ones.
    "lw": 5.5,
}
# What the cepstral mean is taken to be before any speech has been heard, and for how many of the decoder's frames that
# counts.
_FIRST_MEAN = (52.5, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_FIRST_MEAN_FRAMES = 100
# The same in PocketSphinx, for whatever mean it is given; it forgets this when it has heard 300 frames more.
_GIVEN_MEAN_FRAMES = 500
# Frames of the decoder after which a stream's mean is left to PocketSphinx.
_KNOWN_MEAN_FRAMES = 600
# After so many frames of speech the stream's first words are decoded again, with the mean that is known by then.
_AGAIN_FRAMES = (32, 64, 128)

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


class Listener:
    """Hears one stream at a time. What it says does not depend on how the stream was cut into pieces."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(**_DECODER_OPTIONS)
        # What a first utterance would have to wait for.
        self._decoder.start_utt()
        self._decoder.process_raw(bytes(range(256)) * 125)
        self._decoder.end_utt()
        self._utterance_frames = 0
        self.begin()

    def begin(self) -> None:
        """Begin a stream. Nothing of the last one shows in it; that has to have been flushed."""
        self._decoder.reinit_feat()  # forgets how the last stream's background sounded
        self._mean = _CepstralMean(self._decoder)
        self._detector = pocketsphinx.Vad(_VAD_MODE, SAMPLE_RATE, _FRAME_S)
        self._pending = bytearray()
        self._num_bytes = 0
        self._num_steps = 0
        self._silent_frames = 0
        self._busy_s = time.process_time()
        self._listen()

    def feed(self, pcm: bytes) -> Iterator[Utterance | Activity]:
        """Take PCM and yield what is heard in it; all of that is to be pulled before the next call."""
        self._pending += pcm
        while len(self._pending) >= FRAME_BYTES:
            frame = bytes(self._pending[:FRAME_BYTES])
            del self._pending[:FRAME_BYTES]
            self._num_bytes += FRAME_BYTES
            self._silent_frames = 0 if self._detector.is_speech(frame) else self._silent_frames + 1
            yield from self._hear(frame)
            yield from self._steps()

    def flush(self) -> Iterator[Utterance | Activity]:
        """Yield what is still owed for the stream so far; what is fed after this begins another utterance."""
        self._num_bytes += len(self._pending)
        # Silence lets the endpointer end the utterance as it would in a longer stream, with its last word whole.
        rest = bytes(self._pending) + _FLUSH_SILENCE
        self._pending.clear()
        for start in range(0, len(rest) - FRAME_BYTES + 1, FRAME_BYTES):
            yield from self._hear(rest[start : start + FRAME_BYTES])
        if self._utterance_frames:
            yield from self._end_utterance()
        yield from self._steps()
        # The silence was not in the stream, so the endpointer's clock is wrong from now on.
        self._listen()

    def _listen(self) -> None:
        """Wait for speech afresh."""
        self._endpointer = pocketsphinx.Endpointer(_WINDOW_S, _WINDOW_RATIO, _VAD_MODE, SAMPLE_RATE, _FRAME_S)
        self._origin_s = self._heard_s
        self._in_speech = False
        self._speech_s = 0.0  # where the next speech frame from the endpointer begins
        self._utterance_s = 0.0  # where the utterance began
        self._utterance = bytearray()  # its first speech
        self._looked: list[str] = []  # the words at the last look
        self._partial: tuple[Transcript, ...] = ()  # those reported

    @property
    def _heard_s(self) -> float:
        return self._num_bytes / (2 * SAMPLE_RATE)

    def _hear(self, frame: bytes) -> Iterator[Utterance]:
        speech: bytes | None = self._endpointer.process(frame)
        if speech is None:
            return
        if not self._in_speech:
            self._speech_s = self._origin_s + self._endpointer.speech_start
        if not self._utterance_frames:
            self._mean.apply()
            self._decoder.start_utt()
            self._utterance_s = self._speech_s
        self._utterance_frames += 1
        self._speech_s += _FRAME_S
        self._decode(speech)
        self._in_speech = self._endpointer.in_speech
        if not self._in_speech or self._utterance_frames >= _MAX_UTTERANCE_FRAMES:
            yield from self._end_utterance()
        elif not self._utterance_frames % _PARTIAL_FRAMES and not self._is_first_try:
            yield from self._look()

    @property
    def _is_first_try(self) -> bool:
        """True before a stream's first words have been decoded again: most of them are wrong."""
        return self._mean.is_new and self._utterance_frames < _AGAIN_FRAMES[0]

    def _decode(self, speech: bytes) -> None:
        self._decoder.process_raw(speech)
        if self._utterance_frames > _AGAIN_FRAMES[-1]:
            return
        self._utterance += speech
        if self._utterance_frames in _AGAIN_FRAMES:
            self._mean.measure()
            if self._mean.is_new:
                self._decoder.end_utt()
                self._mean.apply()
                self._decoder.start_utt()
                self._decoder.process_raw(bytes(self._utterance))
                self._mean.measure()

    def _look(self) -> Iterator[Utterance]:
        """Yield the words so far, if they are others than before; those on which two looks agree."""
        words = self._words(is_final=False)
        texts = [word.text for word in words]
        num_known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(texts, self._looked, strict=False)))
        self._looked = texts
        if words[:num_known] != self._partial:
            self._partial = words[:num_known]
            yield Utterance(self._partial, is_final=False)

    def _end_utterance(self) -> Iterator[Utterance]:
        if self._utterance_frames < _AGAIN_FRAMES[-1]:
            self._mean.measure()
        self._mean.keep()
        self._utterance_frames = 0
        self._utterance.clear()
        self._decoder.end_utt()
        words, partial = self._words(is_final=True), self._partial
        self._looked, self._partial = [], ()
        if words or partial:
            yield Utterance(words, is_final=True)

    def _steps(self) -> Iterator[Activity]:
        while self._num_steps < self._num_bytes // STEP_BYTES:
            self._num_steps += 1
            before_s, self._busy_s = self._busy_s, time.process_time()
            yield Activity(round(self._silent_frames * _FRAME_S, 6), self._busy_s - before_s)

    def _words(self, *, is_final: bool) -> tuple[Transcript, ...]:
        """The words of the utterance so far; silence that was put behind the stream has no time."""
        spans = [
            (_PRONUNCIATION.sub("", segment.word), segment.start_frame, segment.end_frame + 1)
            for segment in self._decoder.seg() or ()
            if not segment.word.startswith(_NO_WORD)
        ]
        sentence = build_sentence(" ".join(word for word, _, _ in spans))
        # A sentence has as many words as were recognised.
        words = (sentence if is_final else sentence[:-1]).split()
        return tuple(
            Transcript(word, *(min(self._heard_s, round(self._utterance_s + n * _DECODER_FRAME_S, 6)) for n in span))
            for word, (_, *span) in zip(words, spans, strict=True)
        )


class _CepstralMean:
    """What a decoder subtracts from the cepstra of a stream: how its speaker and its microphone sound on average.

    PocketSphinx learns it too, but holds on to what it began with for seconds, and a stream's first sentence is then
    recognised worst. Here the first guess counts for one second of speech.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._num_frames = _FIRST_MEAN_FRAMES
        self._sums = [_FIRST_MEAN_FRAMES * mean for mean in _FIRST_MEAN]
        self._num_new_frames = 0
        self._new_sums = [0.0] * len(_FIRST_MEAN)
        self._given: list[float] = []

    @property
    def is_new(self) -> bool:
        """True while the utterance that is being decoded is the first in which much was heard."""
        return self._num_frames < _FIRST_MEAN_FRAMES + 2 * _AGAIN_FRAMES[-1]

    def apply(self) -> None:
        """Give the decoder, between two utterances, what is known, until it knows better itself."""
        if self._num_frames < _KNOWN_MEAN_FRAMES:
            num_frames = self._num_frames + self._num_new_frames
            self._given = [(a + b) / num_frames for a, b in zip(self._sums, self._new_sums, strict=True)]
            self._decoder.set_cmn(",".join(map(str, self._given)))

    def measure(self) -> None:
        """Find out what the decoder has learnt from its utterance, of at most three seconds."""
        if self._num_frames < _KNOWN_MEAN_FRAMES:
            num_frames = self._decoder.n_frames()
            means = map(float, self._decoder.get_cmn(update=True).split(","))
            self._num_new_frames = num_frames
            self._new_sums = [
                (_GIVEN_MEAN_FRAMES + num_frames) * mean - _GIVEN_MEAN_FRAMES * given
                for mean, given in zip(means, self._given, strict=True)
            ]

    def keep(self) -> None:
        """Count what was measured last for good, as that of an utterance that has ended."""
        self._num_frames += self._num_new_frames
        self._sums = [a + b for a, b in zip(self._sums, self._new_sums, strict=True)]
        self._num_new_frames = 0
        self._new_sums = [0.0] * len(self._sums)


def main() -> None:
    """Serve one stream after the other until the input ends."""
    listener = Listener()
    for kind, payload in read_messages():
        if kind == BEGIN:
            listener.begin()
        else:
            for heard in listener.feed(payload) if kind == SPEECH else listener.flush():
                write_message(*pack_heard(heard))
        if kind != SPEECH:
            write_message(kind)


if __name__ == "__main__":
    main()
