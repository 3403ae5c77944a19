from __future__ import annotations

import math
from array import array
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechwire.codec import Transcoder, WavReader, WavWriter
from speechwire.events import Audio, Flush, Flushed, OutputEvent, Pause, Start, Text, Transcript, VadStep
from speechwire.server.engines import Answer, Input, Say
from speechwire.server.engines.activity import StepCounter
from speechwire.server.engines.loopback import Answers, LoopbackEngine, LoopbackSession, ToneSession
from speechwire.server.request import Request
from speechwire.server.voices import Voice


class Hearing:
    """A recogniser that hears nothing but what the test says: steps for 80 ms at 8 kHz, and these transcripts."""

    input_sample_rate = output_sample_rate = 8000

    def __init__(self, known_at: dict[int, Transcript], at_flush: list[Transcript]) -> None:
        self._known_at = known_at
        self._at_flush = at_flush
        self._steps = StepCounter()
        self._num_steps = 0
        self.busy_s = 0.0

    def feed(self, pcm: bytes) -> Answers:
        for _ in range(len(pcm) // 1280):
            if self._num_steps in self._known_at:
                yield self._known_at[self._num_steps]
            yield self._steps.step(0.0)
            self._num_steps += 1

    def flush(self) -> Answers:
        yield from self._at_flush

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        raise AssertionError  # these tests pull its answers themselves


class HearingEngine(LoopbackEngine):
    def __init__(self, session: Hearing) -> None:
        self._session = session

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> Hearing:  # type: ignore[override]
        assert sample_rate == 8000
        return self._session


def hear(session: Hearing, delay_s: float) -> Request:
    request = Request(Start("pcm_8000", None, delay_s=delay_s), None, HearingEngine(session))
    assert list(request.header()) == []
    return request


def answer(request: Request, event: Input) -> list[OutputEvent]:
    """Return what the engine's session and the way back make of an input, as a server would send it."""
    session = request.session
    assert isinstance(session, Hearing | LoopbackSession | ToneSession)
    answers: list[Answer] = []
    match event:
        case Audio(audio):
            assert not isinstance(session, ToneSession)
            answers = [item for piece in request.decode(audio) for item in session.feed(piece.audio)]
        case Text(text):
            assert isinstance(session, ToneSession)
            answers = list(session.speak(text))
        case Pause(seconds):
            assert isinstance(session, ToneSession)
            answers = list(session.pause(seconds))
        case Flush():
            answers = [*session.flush(), event]
    return [item for answer in answers for item in request.encode(answer)]


def end(request: Request) -> list[OutputEvent]:
    session = request.session
    assert isinstance(session, Hearing | LoopbackSession | ToneSession)
    answers: list[Answer] = []
    for piece in request.decode_end():
        assert not isinstance(session, ToneSession)
        answers += session.feed(piece.audio)
    answers += session.flush()
    return [*(item for answer in answers for item in request.encode(answer)), *request.encode_end()]


def shorten(events: Iterable[OutputEvent]) -> list[object]:
    return [event.step_idx if isinstance(event, VadStep) else event for event in events]


EARLY = Transcript("early", 0.0, 0.16)
LATE = Transcript("late", 0.3, 0.5)


@pytest.mark.parametrize(
    ("delay_s", "expected"),
    [
        (0.0, [0, EARLY, 1, 2, 3, 4, 5, LATE, 6, 7]),
        (0.16, [0, 1, 2, EARLY, 3, 4, 5, 6, 7]),
    ],
)
def test_a_text_comes_when_the_audio_has_gone_on_for_the_delay(delay_s: float, expected: list[object]) -> None:
    request = hear(Hearing({1: EARLY, 6: LATE}, []), delay_s)
    assert shorten(answer(request, Audio(bytes(8 * 1280)))) == expected
    assert end(request) == ([] if delay_s == 0.0 else [LATE])


def test_a_flush_brings_what_is_held_before_its_answer() -> None:
    more = Transcript("more", 0.5, 0.6)
    request = hear(Hearing({1: EARLY}, [more]), 10.0)
    assert shorten(answer(request, Audio(bytes(2 * 1280)))) == [0, 1]
    assert answer(request, Flush({"any": "id"})) == [EARLY, more, Flushed({"any": "id"})]
    assert answer(request, Flush(answered=False)) == [more]


PCM = b"".join(
    array("h", (round(amplitude * math.sin(n / 6)) for n in range(160 * 10 * tens))).tobytes()
    for amplitude, tens in ((0, 3), (9000, 5), (0, 7), (9000, 2), (0, 4))
)


@settings(max_examples=40)
@given(
    st.sampled_from([("pcm_8000", None), ("wav", None), ("pcm_8000", "pcm_16000"), ("pcm_16000", "wav")]),
    st.lists(st.integers(0, len(PCM)), max_size=20),
    st.sampled_from([0.0, 0.8, 4.0]),
)
def test_any_cut_of_the_input_gives_the_same_answer(
    formats: tuple[str, str | None], cuts: list[int], delay_s: float
) -> None:
    source_format, target_format = formats
    sent = WavWriter(16000).feed(PCM) if source_format == "wav" else PCM

    def answers(pieces: list[bytes]) -> list[object]:
        request = Request(Start(source_format, target_format, delay_s=delay_s), None, LoopbackEngine())
        items = [*request.header(), *(item for piece in pieces for item in answer(request, Audio(piece)))]
        items += end(request)
        # Interpreting gives texts at once, with the frame that its piece of input completed: only their order is kept.
        if target_format is not None:
            items.sort(key=lambda item: isinstance(item, Transcript))
        return list(items)

    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    assert answers([sent[start:stop] for start, stop in pairwise(edges)]) == answers([sent])


def speak(target_format: str, *events: Text | Pause | Flush) -> list[OutputEvent]:
    request = Request(Start(None, target_format), None, LoopbackEngine())
    items: list[OutputEvent] = list(request.header())
    for event in events:
        items += answer(request, event)
    return items + end(request)


@pytest.mark.parametrize(("target_format", "frame_bytes"), [("pcm_16000", 2560), ("ulaw_8000", 640), ("wav", 7680)])
def test_audio_has_frames_and_spans(target_format: str, frame_bytes: int) -> None:
    items = speak(target_format, Text("One two."), Pause(0.1), Text("six"))
    audio = [item for item in items if isinstance(item, Audio)]
    if target_format == "wav":
        header = audio.pop(0)
        assert (len(header.audio), header.start_s, header.stop_s) == (44, 0.0, 0.0)
        assert items[0] == header
    assert {len(item.audio) for item in audio} == {frame_bytes}
    assert [item.start_s for item in audio] == pytest.approx([0.08 * n for n in range(len(audio))])
    assert all(item.stop_s == pytest.approx(item.start_s + 0.08) for item in audio)
    # 120 ms fill two frames. The last word begins after the pause, and ends on a frame again.
    words = [item for item in items if isinstance(item, Transcript)]
    assert words == [Transcript("One", 0.0, 0.12), Transcript("two.", 0.16, 0.28), Transcript("six", 0.42, 0.54)]
    assert len(audio) == 7
    # Each word comes before its audio.
    position = 0.0
    for item in items:
        if isinstance(item, Audio):
            position = item.stop_s
        elif isinstance(item, Transcript):
            assert position <= item.start_s


def test_the_spans_of_opus_end_with_what_was_spoken() -> None:
    items = speak("opus", Text("One two."), Pause(0.1), Text("six"))
    header, *audio = [item for item in items if isinstance(item, Audio)]
    assert header.audio.startswith(b"OggS")
    assert (header.start_s, header.stop_s) == (0.0, 0.0)
    assert all(item.audio.startswith(b"OggS") for item in audio)
    # 160 ms each for the first two words, 100 ms of silence, and to the end of the frame that the last one fills.
    assert audio[-1].stop_s == pytest.approx(0.56)
    assert [item.stop_s for item in audio[:6]] == pytest.approx([0.08 * n for n in range(1, 7)])
    assert all(a.stop_s == b.start_s or b.start_s == b.stop_s for a, b in pairwise(audio))


def test_opus_in_is_heard() -> None:
    transcoder = Transcoder("pcm_48000", "opus", 80)
    pcm = bytes(9600)
    sent = b"".join([*transcoder.feed(pcm), *transcoder.flush()])
    request = Request(Start("opus", "pcm_48000"), None, LoopbackEngine())
    pieces = [Audio(sent[offset : offset + 100]) for offset in range(0, len(sent), 100)]
    items = [item for piece in pieces for item in answer(request, piece)]
    items += end(request)
    assert sum(len(item.audio) for item in items if isinstance(item, Audio)) == len(pcm)
    assert request.heard_s == pytest.approx(0.1)


def test_wav_in_and_out_needs_no_rate() -> None:
    request = Request(Start("wav", "wav"), None, LoopbackEngine())
    assert request.output_sample_rate == 48000
    header = next(request.header())
    assert isinstance(header, Audio)
    wav = header.audio + bytes(9600)
    answers = [*answer(request, Audio(wav[:30])), *answer(request, Audio(wav[30:])), *end(request)]
    pcm = b"".join(item.audio for item in answers if isinstance(item, Audio))
    assert WavReader().feed(header.audio + pcm) == bytes(9600)
