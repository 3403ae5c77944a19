"""The way of one request: wire format to the engine's PCM or text, and what the engine says back to the wire format."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, cast

from speechwire.codec import Transcoder
from speechwire.events import (
    Audio,
    Flush,
    Flushed,
    OutputEvent,
    Pause,
    Start,
    Text,
    Transcript,
    VadStep,
)
from speechwire.formats import FRAME_MS, bytes_per_sample, sample_rate
from speechwire.server.engines import Answers, Engine, ListeningSession, SpeakingSession
from speechwire.server.voices import Voice

__all__ = ["Request"]

CONTAINER_SAMPLE_RATE: Final = 48000  # of output in a container, whose name tells no rate
RECOGNITION_SAMPLE_RATE: Final = 24000  # to be heard at where neither side's format tells a rate
_FRAME_S: Final = FRAME_MS / 1000
# Formats whose bytes do not tell how long they play.
_COMPRESSED: Final = frozenset({"opus"})
# Sums of 80 ms are not exact.
_TOLERANCE_S: Final = 1e-6


class Request:
    """One request being answered, whichever way it goes: audio or text in, audio or text out. Does not wait.

    Call `open` first, and `close` once at the end, whatever happened. Each iterator has to be pulled to its end before
    the next method is called.
    """

    def __init__(self, start: Start, voice: Voice | None = None) -> None:
        self.output_sample_rate = 0
        if start.target_format is not None:
            self.output_sample_rate = sample_rate(start.target_format) or CONTAINER_SAMPLE_RATE
        self.heard_s = 0.0  # audio that has reached the engine
        self._start = start
        self._voice = voice
        self._session: ListeningSession | SpeakingSession | None = None
        self._decoder: Transcoder | None = None
        self._encoder: Transcoder | None = None
        self._has_input = False
        self._engine_samples = 0
        self._sent_samples = 0
        self._held: deque[Transcript] = deque()

    def open(self, engine: Engine) -> None:
        """Begin; raises EngineError if the engine cannot serve the request."""
        start = self._start
        if start.source_format is None:
            self._session = engine.speak(start, self.output_sample_rate, self._voice)
        else:
            hint = self.output_sample_rate or sample_rate(start.source_format) or RECOGNITION_SAMPLE_RATE
            listening = self._session = engine.listen(start, hint, self._voice)
            self._decoder = Transcoder(start.source_format, f"pcm_{listening.input_sample_rate}")
        if start.target_format is not None:
            self._encoder = Transcoder(f"pcm_{self._session.output_sample_rate}", start.target_format, FRAME_MS)

    def header(self) -> Iterator[OutputEvent]:
        """Yield what stands before the first audio: the header of a container."""
        return iter(()) if self._encoder is None else map(Audio, self._encoder.feed(b""))

    def answer(self, event: Audio | Text | Pause | Flush) -> Iterator[OutputEvent]:
        """Yield the answers to more input."""
        match event:
            case Audio(audio):
                self._has_input = True
                assert self._decoder is not None
                for pcm in self._decoder.feed(audio):
                    yield from self._hear(pcm)
            case Text(text):
                yield from self._translate(self._speaking.speak(text))
            case Pause(seconds):
                yield from self._translate(self._speaking.pause(seconds))
            case Flush(flush_id, answered):
                # The decoder keeps what it holds, for the stream goes on.
                yield from self._flush_engine()
                if answered:
                    yield Flushed(flush_id)

    def end(self) -> Iterator[OutputEvent]:
        """The input has ended: yield what is still owed."""
        # No input is no error, not even where a header would have been expected.
        if self._decoder is not None and self._has_input:
            for pcm in self._decoder.flush():
                yield from self._hear(pcm)
        yield from self._flush_engine()
        if self._encoder is not None:
            yield from map(self._with_span, self._encoder.flush())

    def close(self) -> None:
        """Release the engine, if the request got as far as that."""
        if self._session is not None:
            self._session.close()

    @property
    def _listening(self) -> ListeningSession:
        return cast(ListeningSession, self._session)

    @property
    def _speaking(self) -> SpeakingSession:
        return cast(SpeakingSession, self._session)

    def _hear(self, pcm: bytes) -> Iterator[OutputEvent]:
        self.heard_s += len(pcm) / 2 / self._listening.input_sample_rate
        return self._translate(self._listening.feed(pcm))

    def _flush_engine(self) -> Iterator[OutputEvent]:
        assert self._session is not None
        yield from self._translate(self._session.flush())
        yield from self._held
        self._held.clear()

    def _translate(self, answers: Answers) -> Iterator[OutputEvent]:
        encoder = self._encoder
        if encoder is None:
            return self._hold_back(answers)
        return self._encode(answers, encoder)

    def _encode(self, answers: Answers, encoder: Transcoder) -> Iterator[OutputEvent]:
        for event in answers:
            if isinstance(event, Audio):
                self._engine_samples += len(event.audio) // 2
                yield from map(self._with_span, encoder.feed(event.audio))
            else:
                yield event

    def _hold_back(self, answers: Answers) -> Iterator[OutputEvent]:
        """Give out each text when the audio heard has gone `delay_s` beyond it: at the step that says so."""
        for event in answers:
            if isinstance(event, VadStep):
                due_s = event.total_duration_s - self._start.delay_s + _TOLERANCE_S
                while self._held and cast(float, self._held[0].stop_s) <= due_s:
                    yield self._held.popleft()
                yield event
            elif isinstance(event, Transcript):
                self._held.append(event)

    def _with_span(self, audio: bytes) -> Audio:
        start = self._sent_samples
        if self._start.target_format in _COMPRESSED:
            assert self._session is not None
            # One item is one frame; the last may hold less, and ends with what the engine gave.
            given_s = self._engine_samples / self._session.output_sample_rate
            self._sent_samples += round(_FRAME_S * self.output_sample_rate)
            stop_s = max(start / self.output_sample_rate, min(self._sent_samples / self.output_sample_rate, given_s))
            return Audio(audio, start / self.output_sample_rate, stop_s)
        self._sent_samples += len(audio) // bytes_per_sample(cast(str, self._start.target_format))
        return Audio(audio, start / self.output_sample_rate, self._sent_samples / self.output_sample_rate)
