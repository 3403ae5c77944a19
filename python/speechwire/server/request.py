"""The way of one request: wire format to the engine's PCM, and what the engine says back to the wire format."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, cast

from speechwire.codec import Transcoder
from speechwire.events import Audio, Flush, Flushed, OutputEvent, Start, Transcript, VadStep
from speechwire.formats import FRAME_MS, bytes_per_sample, sample_rate
from speechwire.server.engines import Answer, Engine, EngineSession
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

    It opens the engine's session, whose `run` is for the caller to await between `header` and
    `encode_end`.

    Args:
        start: What the client wants.
        voice: To speak with, if it is known.
        engine: Answers.
        frame_ms: Length of the pieces in which audio goes to the client; None for pieces as the engine says them.

    Raises:
        EngineError: The engine cannot serve the request.
    """

    def __init__(self, start: Start, voice: Voice | None, engine: Engine, *, frame_ms: float | None = FRAME_MS) -> None:
        self.output_sample_rate = 0
        if start.target_format is not None:
            self.output_sample_rate = sample_rate(start.target_format) or CONTAINER_SAMPLE_RATE
        self.heard_s = 0.0  # audio that was given to the engine
        self.session: EngineSession
        self._start = start
        self._decoder: Transcoder | None = None
        self._encoder: Transcoder | None = None
        self._has_input = False
        self._engine_samples = 0
        self._sent_samples = 0
        self._held: deque[Transcript] = deque()
        if start.source_format is None:
            self.session = engine.speak(start, self.output_sample_rate, voice)
        else:
            hint = self.output_sample_rate or sample_rate(start.source_format) or RECOGNITION_SAMPLE_RATE
            listening = self.session = engine.listen(start, hint, voice)
            self._input_sample_rate = listening.input_sample_rate
            self._decoder = Transcoder(start.source_format, f"pcm_{self._input_sample_rate}")
        if start.target_format is not None:
            self._encoder = Transcoder(f"pcm_{self.session.output_sample_rate}", start.target_format, frame_ms)

    @property
    def spoken_s(self) -> float:
        """Audio that the engine gave."""
        return self._engine_samples / self.session.output_sample_rate

    def header(self) -> Iterator[Audio]:
        """Yield what stands before the first audio: the header of a container."""
        return iter(()) if self._encoder is None else map(Audio, self._encoder.feed(b""))

    def decode(self, audio: bytes) -> Iterator[Audio]:
        """Yield a piece of the client's audio as the engine wants it."""
        self._has_input = True
        assert self._decoder is not None
        return map(self._heard, self._decoder.feed(audio))

    def decode_end(self) -> Iterator[Audio]:
        """The client's input has ended: yield what the engine has not had of it."""
        # No input is no error, not even where a header would have been expected.
        if self._decoder is None or not self._has_input:
            return iter(())
        return map(self._heard, self._decoder.flush())

    def encode(self, answer: Answer) -> Iterator[OutputEvent]:
        """Yield what an answer of the engine brings to the client."""
        match answer:
            case Audio(pcm):
                assert self._encoder is not None
                self._engine_samples += len(pcm) // 2
                yield from map(self._with_span, self._encoder.feed(pcm))
            case Flush(flush_id, answered):
                yield from self._give_out_held()
                if answered:
                    yield Flushed(flush_id)
            case Transcript() if self._encoder is None:
                self._held.append(answer)
            case VadStep(total_duration_s=heard_s) if self._encoder is None:
                # A text comes when the audio heard has gone `delay_s` beyond it: at the step that says so.
                due_s = heard_s - self._start.delay_s + _TOLERANCE_S
                while self._held and cast(float, self._held[0].stop_s) <= due_s:
                    yield self._held.popleft()
                yield answer
            case _:
                yield answer

    def encode_end(self) -> Iterator[OutputEvent]:
        """The engine has said all: yield what the client has not had of it."""
        yield from self._give_out_held()
        if self._encoder is not None:
            yield from map(self._with_span, self._encoder.flush())

    def _heard(self, pcm: bytes) -> Audio:
        self.heard_s += len(pcm) / 2 / self._input_sample_rate
        return Audio(pcm)

    def _give_out_held(self) -> Iterator[Transcript]:
        while self._held:
            yield self._held.popleft()

    def _with_span(self, audio: bytes) -> Audio:
        start = self._sent_samples
        if self._start.target_format in _COMPRESSED:
            # One item is one frame; the last may hold less, and ends with what the engine gave.
            self._sent_samples += round(_FRAME_S * self.output_sample_rate)
            stop_s = max(
                start / self.output_sample_rate, min(self._sent_samples / self.output_sample_rate, self.spoken_s)
            )
            return Audio(audio, start / self.output_sample_rate, stop_s)
        self._sent_samples += len(audio) // bytes_per_sample(cast(str, self._start.target_format))
        return Audio(audio, start / self.output_sample_rate, self._sent_samples / self.output_sample_rate)
