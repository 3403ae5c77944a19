"""A stream of speech cut into utterances at its pauses, for models that hear nothing but whole utterances."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["SAMPLE_RATE", "Speech", "UtteranceCutter"]

SAMPLE_RATE: Final = 16000
_FRAME_S: Final = 0.02
_FRAME_BYTES: Final = 2 * int(SAMPLE_RATE * _FRAME_S)
_FRAMES_PER_STEP: Final = 4  # an Activity each 80 ms
# An utterance begins where five of six frames are speech: a click is shorter, the shortest "yes" longer.
_ONSET_FRAMES: Final = 6
_ONSET_SPEECH: Final = 5
# It is heard from a little before that, for a detector takes soft consonants for silence.
_LEAD_FRAMES: Final = 16
# It ends in a pause of 0.4 s, in which the detector may be wrong twice.
_PAUSE_FRAMES: Final = 20
_PAUSE_SILENCE: Final = 18
# Speech without a pause is cut here, which bounds memory and delay. Whisper hears 30 s at most.
_MAX_FRAMES: Final = int(20 / _FRAME_S)


@dataclass(frozen=True, slots=True)
class Speech:
    """One utterance, with the pause behind it.

    Args:
        pcm: s16le mono at SAMPLE_RATE.
        start_s: Where it begins in the stream.
    """

    pcm: bytes
    start_s: float


class UtteranceCutter:
    """Cuts one stream; where it cuts does not depend on the pieces in which the stream comes.

    Args:
        is_speech: Says of a frame of 20 ms whether it is speech.
    """

    def __init__(self, is_speech: Callable[[bytes], bool]) -> None:
        self._is_speech = is_speech
        self._pending = bytearray()  # of a frame that is not whole yet
        self._num_frames = 0
        self._silent_frames = 0
        self._recent: deque[bool] = deque(maxlen=_PAUSE_FRAMES)
        self._kept: deque[bytes] = deque()  # the utterance, or what may turn out to be its lead
        self._in_speech = False

    def feed(self, pcm: bytes) -> Iterator[Speech | float]:
        """Yield each utterance that ends in this, and at the end of each whole 80 ms the silence so far in seconds.

        To be pulled to the end before the next.
        """
        self._pending += pcm
        while len(self._pending) >= _FRAME_BYTES:
            frame = bytes(self._pending[:_FRAME_BYTES])
            del self._pending[:_FRAME_BYTES]
            yield from self._hear(frame)
            if self._num_frames % _FRAMES_PER_STEP == 0:
                yield self._silent_frames * _FRAME_S

    def flush(self) -> Iterator[Speech]:
        """Yield the utterance that is still being spoken, but for a frame that is not whole; another may follow."""
        if self._in_speech:
            yield self._cut()
        self._in_speech = False
        self._recent.clear()
        self._kept.clear()

    def _hear(self, frame: bytes) -> Iterator[Speech]:
        speaks = self._is_speech(frame)
        self._num_frames += 1
        self._silent_frames = 0 if speaks else self._silent_frames + 1
        self._recent.append(speaks)
        self._kept.append(frame)
        if not self._in_speech:
            if len(self._kept) > _LEAD_FRAMES:
                self._kept.popleft()
            self._in_speech = sum(list(self._recent)[-_ONSET_FRAMES:]) >= _ONSET_SPEECH
        elif self._recent.count(False) >= _PAUSE_SILENCE:
            self._in_speech = False
            yield self._cut()
        elif len(self._kept) >= _MAX_FRAMES:
            yield self._cut()

    def _cut(self) -> Speech:
        speech = Speech(b"".join(self._kept), round((self._num_frames - len(self._kept)) * _FRAME_S, 6))
        self._kept.clear()
        return speech
