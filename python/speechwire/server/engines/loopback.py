"""The engine that gives back what it hears: for tests, for load, and to hear what a client really sends.

The audio comes back bit for bit and at once. A voice-activity cut numbers the segments of speech in it, so that a
client sees transcripts too; it costs microseconds, because it runs on the event loop for every session.
"""

from __future__ import annotations

from collections.abc import Iterator

from speechwire.events import Audio, Start, Transcript

__all__ = ["LoopbackEngine"]

_FRAMES_PER_SECOND = 50
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


_BELOW_OPEN = _quieter_than(_OPEN_LEVEL)
_BELOW_HOLD = _quieter_than(_HOLD_LEVEL)


class LoopbackEngine:
    """Returns the audio it is given, and a numbered transcript for each segment of speech in it.

    A transcript comes with the audio that ends its segment, not before the audio that speaks it: by then that audio has
    long been returned, for this engine holds nothing back.
    """

    @property
    def blocking(self) -> bool:
        """Always False."""
        return False

    def check(self) -> None:
        """Nothing to verify: this engine has no parts to install."""

    def open(self, start: Start, output_sample_rate: int) -> LoopbackSession:
        """Begin a request that hears and answers at `output_sample_rate` Hz; languages and voice are ignored."""
        return LoopbackSession(output_sample_rate)


class LoopbackSession:
    """One request that is being echoed. Segments depend on the audio alone, not on how it was cut into chunks."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
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

    def feed(self, pcm: bytes) -> Iterator[Audio | Transcript]:
        """Return `pcm` as it is, after the transcripts of the segments that end in it."""
        out: list[Audio | Transcript] = []
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
        if pcm:
            out.append(Audio(pcm))
        return iter(out)

    def flush(self) -> Iterator[Audio | Transcript]:
        """Close the segment that is still open; all audio has been returned already."""
        return iter([self._end_segment()] if self._in_segment else [])

    def close(self) -> None:
        """Nothing to release."""

    def _end_frame(self, out: list[Audio | Transcript]) -> None:
        opens, holds = self._frame_opens, self._frame_holds
        self._frame_fill = 0
        self._frame_opens = self._frame_holds = False
        self._num_frames += 1
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
