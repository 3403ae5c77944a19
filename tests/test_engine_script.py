from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import run
from speechwire.codec import WavWriter, resample
from speechwire.events import Audio, FailureKind, Flush, Pause, Start, Text, Transcript, VadStep
from speechwire.server.engines import Answer, Engine, EngineError, EngineSession, Input
from speechwire.server.engines.script import ScriptEngine
from speechwire.server.engines.tones import tone

RATE = 24000
S2S = Start("pcm_24000", "pcm_24000", "en", "es")
STT = Start("pcm_24000", None, "en")
TTS = Start(None, "pcm_24000", None, "en")


def engine(folder: Path, sessions: str, name: str = "talk.yaml") -> ScriptEngine:
    path = folder / name
    path.write_text(f"sessions:\n{sessions}", "utf-8")
    return ScriptEngine(path)


def open_session(scripted: ScriptEngine, start: Start) -> EngineSession:
    return scripted.speak(start, RATE) if start.source_format is None else scripted.listen(start, RATE)


def answers(session: EngineSession, *inputs: Input) -> list[Answer]:
    return [answer for answer, _ in timed_answers(session, *inputs)]


def timed_answers(session: EngineSession, *inputs: Input) -> list[tuple[Answer, float]]:
    """Return what is said, and when on the loop's clock."""
    said = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def feed() -> AsyncIterator[Input]:
            for item in inputs:
                yield item

        async def say(answer: Answer) -> None:
            said.append((answer, round(loop.time(), 3)))

        await session.run(feed(), say)

    run(main(), timeout_s=1000, held_clock=True)
    return said


def silence(seconds: float) -> Audio:
    return Audio(bytes(2 * round(seconds * RATE)))


def speech(seconds: float) -> Audio:
    return Audio(tone(RATE, 440, round(seconds * RATE)))


def texts(said: Sequence[Answer]) -> list[Transcript]:
    return [answer for answer in said if isinstance(answer, Transcript)]


def pcm(said: Sequence[Answer]) -> bytes:
    return b"".join(answer.audio for answer in said if isinstance(answer, Audio))


def steps(said: Sequence[Answer]) -> list[VadStep]:
    return [answer for answer in said if isinstance(answer, VadStep)]


def cut(audio: bytes, places: list[int]) -> list[Audio]:
    edges = sorted({0, len(audio), *(2 * (place % (len(audio) // 2 + 1)) for place in places)})
    return [Audio(audio[start:stop]) for start, stop in pairwise(edges)]


def test_scripted_engine_needs_nothing(tmp_path: Path) -> None:
    scripted: Engine = engine(tmp_path, "  []")

    async def main() -> None:
        await scripted.start()
        await scripted.stop()

    run(main())
    assert scripted.max_recognitions is None


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
def test_both_sample_rates_are_the_one_asked_for(tmp_path: Path, sample_rate: int) -> None:
    scripted = engine(tmp_path, "  [{product: s2s, turns: []}, {product: tts, turns: []}]")
    listening = scripted.listen(S2S, sample_rate)
    assert (listening.input_sample_rate, listening.output_sample_rate) == (sample_rate, sample_rate)
    assert scripted.speak(TTS, sample_rate).output_sample_rate == sample_rate


def test_turn_is_answered_when_its_place_has_been_heard(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: s2s, turns: [{at_s: 1, text: Hola., audio: {duration_s: 0.2}}]}]")
    assert answers(scripted.listen(S2S, RATE), silence(0.9999)) == []
    said = answers(scripted.listen(S2S, RATE), silence(0.9999), silence(0.0001), Flush("f"), silence(1))
    assert texts(said) == [Transcript("Hola.", 0.0, 0.2)]
    assert said.index(Flush("f")) == len(said) - 1
    # To the end of a frame of 80 ms.
    assert pcm(said) == tone(RATE, 440, 4800).ljust(2 * 5760, b"\0")
    assert {len(answer.audio) for answer in said if isinstance(answer, Audio)} == {3840}


def test_turn_at_the_beginning_needs_no_audio(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{at_s: 0, error: {message: gone}}]}]")
    with pytest.raises(EngineError, match="gone"):
        answers(scripted.listen(STT, RATE))


def test_audio_is_on_a_clock_of_its_own(tmp_path: Path) -> None:
    scripted = engine(
        tmp_path,
        "  [{product: s2s, turns: [{at_s: 1, text: a, audio: {duration_s: 0.1}}, {at_s: 5, text: b}, {at_s: 6}]}]",
    )
    said = answers(scripted.listen(S2S, RATE), silence(7))
    assert texts(said) == [Transcript("a", 0.0, 0.1), Transcript("b", 0.16, 0.22)]


def test_each_utterance_is_answered_where_turns_have_no_place(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{text: one}, {}, {text: three}]}]")
    utterance = [silence(0.5), speech(0.8), silence(0.7)]
    said = answers(scripted.listen(STT, RATE), *utterance * 4)
    assert texts(said) == [Transcript("one", 0.5, 1.3), Transcript("three", 4.5, 5.3)]


def test_flush_and_end_close_the_utterance(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{text: one}, {text: two}]}]")
    said = answers(scripted.listen(STT, RATE), speech(0.8), Flush(1), silence(0.4), speech(0.4))
    assert texts(said) == [Transcript("one", 0.0, 0.8), Transcript("two", 1.2, 1.6)]
    assert said.index(Flush(1)) == said.index(texts(said)[0]) + 1


def test_flush_does_not_bring_a_place_nearer(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{at_s: 1, text: one}]}]")
    assert texts(answers(scripted.listen(STT, RATE), silence(0.9), Flush())) == []


def test_steps_say_where_the_script_has_speech(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{speech_s: [0.16, 0.32], text: one}, {at_s: 0.48}]}]")
    said = answers(scripted.listen(STT, RATE), silence(0.72))
    assert [step.step_idx for step in steps(said)] == list(range(9))
    silent = [step.vad[0].probability > 0 for step in steps(said)]
    assert silent == [True, True, False, False, True, True, True, True, True]
    after = [step.vad[2].probability for step in steps(said)[4:]]
    assert after == sorted(after)
    # The text is there before the step that ends where it does.
    assert said.index(Transcript("one", 0.16, 0.32)) == said.index(steps(said)[3]) - 1


def test_interpreting_has_no_steps(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: s2s, turns: []}]")
    assert answers(scripted.listen(S2S, RATE), silence(1), Flush(1)) == [Flush(1)]


def test_recognised_text_without_speech_stands_at_its_place(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{at_s: 0.5, text: one}]}]")
    assert texts(answers(scripted.listen(STT, RATE), silence(1))) == [Transcript("one", 0.5, 0.5)]


def test_delay_is_waited_and_holds_up_what_is_said_after_it(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{at_s: 0.1, delay_ms: 60000, text: one}]}]")
    said = timed_answers(scripted.listen(STT, RATE), silence(0.2), Flush(1))
    assert [when for _, when in said] == [0.0, 60.0, 60.0, 60.0]
    assert [type(answer) for answer, _ in said] == [VadStep, Transcript, VadStep, Flush]


def test_audio_is_taken_while_an_answer_waits(tmp_path: Path) -> None:
    scripted = engine(
        tmp_path, "  [{product: s2s, turns: [{at_s: 0, delay_ms: 60000, text: a}, {at_s: 100, text: b}]}]"
    )
    taken, said = [], []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def feed() -> AsyncIterator[Input]:
            for _ in range(200):
                yield silence(1)
                taken.append(round(loop.time(), 3))

        async def say(answer: Answer) -> None:
            if isinstance(answer, Transcript):
                said.append((answer.text, round(loop.time(), 3)))

        await scripted.listen(S2S, RATE).run(feed(), say)

    run(main(), timeout_s=100, held_clock=True)
    assert taken == [0.0] * 200
    assert said == [("a", 60.0), ("b", 60.0)]


def test_what_is_heard_ahead_of_its_answers_is_bounded(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: stt, turns: [{at_s: 0, delay_ms: 60000}]}]")
    taken: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def feed() -> AsyncIterator[Input]:
            for _ in range(400):
                yield silence(1)
                taken.append(loop.time())

        async def say(_: Answer) -> None:
            pass

        await scripted.listen(STT, RATE).run(feed(), say)

    run(main(), timeout_s=100, held_clock=True)
    num_at_once = sum(when < 59 for when in taken)
    assert 320 <= num_at_once < 340  # 4096 steps of 80 ms
    assert len(taken) == 400


def test_cancelling_ends_a_delay(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: s2s, turns: [{at_s: 0, delay_ms: 60000}]}]")

    async def main() -> None:
        async def feed() -> AsyncIterator[Input]:
            yield silence(1)

        async def say(_: Answer) -> None:
            pytest.fail("nothing is said")

        task = asyncio.create_task(scripted.listen(S2S, RATE).run(feed(), say))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), held_clock=True)


@pytest.mark.parametrize("kind", list(FailureKind))
def test_error_comes_after_what_its_turn_says(tmp_path: Path, kind: FailureKind) -> None:
    turns = f"{{at_s: 1, text: Hola., error: {{message: gone, kind: {kind.value}}}}}"
    scripted = engine(tmp_path, f"  [{{product: s2s, turns: [{turns}]}}]")
    said: list[Answer] = []

    async def main() -> None:
        async def feed() -> AsyncIterator[Input]:
            yield silence(2)

        async def say(answer: Answer) -> None:
            said.append(answer)

        with pytest.raises(EngineError, match="gone") as raised:
            await scripted.listen(S2S, RATE).run(feed(), say)
        assert raised.value.kind is kind

    run(main())
    assert texts(said) == [Transcript("Hola.", 0.0, 0.3)]
    assert len(pcm(said)) == 2 * 0.32 * RATE


def test_recording_is_played_bit_for_bit_at_its_rate_and_resampled_at_others(tmp_path: Path) -> None:
    recorded = array("h", (round(8000 * math.sin(n / 9)) for n in range(16000))).tobytes()
    (tmp_path / "hello.wav").write_bytes(WavWriter(16000, data_bytes=32000).feed(recorded))
    scripted = engine(tmp_path, "  [{product: s2s, turns: [{at_s: 0, audio: {file: hello.wav}}]}]")
    assert pcm(answers(scripted.listen(S2S, 16000)))[:32000] == recorded
    assert pcm(answers(scripted.listen(S2S, 48000)))[:96000] == resample(recorded, 16000, 48000)


def test_sentences_are_spoken_word_by_word(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: tts, turns: [{audio: {duration_s: 0.32}}]}]")
    said = answers(scripted.speak(TTS, RATE), Text("One two."), Text("Three"), Flush(1), Pause(0.1), Text("Four."))
    assert texts(said) == [
        Transcript("One", 0.0, 0.16),
        Transcript("two.", 0.16, 0.32),
        Transcript("Three", 0.32, 0.62),
        Transcript("Four.", 0.74, 1.04),
    ]
    first = [type(answer) for answer in said[:6]]
    assert first == [Transcript, Audio, Audio, Transcript, Audio, Audio]
    # 0.32 s, 0.3 s to the end of a frame at 0.64 s, the pause, and 0.3 s that end with a frame at 1.04 s.
    assert len(pcm(said)) == 2 * round(1.04 * RATE)
    assert isinstance(said[said.index(Flush(1)) - 1], Audio)


def test_sentence_is_answered_by_the_first_turn_left_that_it_contains(tmp_path: Path) -> None:
    turns = (
        "{sentence: price, audio: {duration_s: 1}}, {audio: {duration_s: 2}}, {sentence: Hello, audio: {duration_s: 3}}"
    )
    scripted = engine(tmp_path, f"  [{{product: tts, turns: [{turns}]}}]")
    said = answers(scripted.speak(TTS, RATE), Text("Hello. The price. Hello. Hi."))
    durations = {text.text: round(text.stop_s - text.start_s, 3) for text in texts(said) if text.stop_s is not None}
    assert [text.text for text in texts(said)] == ["Hello.", "The", "price.", "Hello.", "Hi."]
    assert [text.start_s for text in texts(said)] == [0.0, 2.0, 2.375, 3.04, 6.08]
    assert durations["Hi."] == 0.18


def test_error_in_synthesis_stands_in_the_place_of_the_sentence(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: tts, turns: [{sentence: Two, error: {message: gone}}]}]")
    said: list[Answer] = []

    async def main() -> None:
        async def feed() -> AsyncIterator[Input]:
            yield Text("One. Two. Three.")

        async def say(answer: Answer) -> None:
            said.append(answer)

        with pytest.raises(EngineError, match="gone"):
            await scripted.speak(TTS, RATE).run(feed(), say)

    run(main())
    assert [text.text for text in texts(said)] == ["One."]


def test_first_session_that_fits_serves_the_request(tmp_path: Path) -> None:
    scripted = engine(
        tmp_path,
        """
  - {product: stt, language: de, turns: [{at_s: 0, text: de}]}
  - {product: s2s, turns: [{at_s: 0, text: s2s}]}
  - {product: stt, language: en, target_language: fr, turns: [{at_s: 0, text: en-fr}]}
  - {product: stt, nth: 2, turns: [{at_s: 0, text: third}]}
  - {product: stt, language: en, nth: 2, turns: [{at_s: 0, text: second}]}
  - {product: stt, turns: [{at_s: 0, text: any}]}
""",
    )

    def ask(source: str | None, target: str | None = None) -> str:
        return texts(answers(scripted.listen(Start("pcm", None, source, target), RATE)))[0].text

    assert ask("de") == "de"
    # The one before counts too.
    assert ask(None) == "third"
    assert ask("en", "fr") == "en-fr"
    assert ask("en") == "second"
    assert ask("en", "es") == "any"


def test_voice_and_language_of_synthesis_are_looked_at(tmp_path: Path) -> None:
    scripted = engine(
        tmp_path,
        "  [{product: tts, voice: v1, language: de, turns: [{error: {message: mine}}]}, {product: tts, turns: []}]",
    )
    with pytest.raises(EngineError, match="mine"):
        answers(scripted.speak(Start(None, "pcm", None, "de", "v1"), RATE), Text("Hi."))
    assert texts(answers(scripted.speak(Start(None, "pcm", None, "de", "v2"), RATE), Text("Hi.")))


def test_request_that_no_session_fits_is_refused_with_what_it_asked_for(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: s2s, target_language: fr, turns: []}]")
    with pytest.raises(
        EngineError,
        match=r"no session of talk\.yaml is for this request: product 's2s', language 'en', target_language 'es', "
        "voice None",
    ):
        scripted.listen(S2S, RATE)
    with pytest.raises(EngineError, match="product 'tts', language 'en', voice None"):
        scripted.speak(TTS, RATE)


PLACED = """
  - product: s2s
    turns:
      - {at_s: 0, text: start}
      - {speech_s: [0.1, 0.25], delay_ms: 200, text: one}
      - {at_s: 0.25, audio: {tone_hz: 300, duration_s: 0.1}}
      - {at_s: 0.8, text: last}
  - product: stt
    turns:
      - {speech_s: [0.1, 0.25], delay_ms: 200, text: one}
      - {speech_s: [0.3, 0.7], at_s: 0.75, text: two}
"""
UNPLACED = "  [{product: s2s, turns: [{text: one}, {text: two}]}, {product: stt, turns: [{text: one}, {text: two}]}]"


@pytest.mark.parametrize("start", [S2S, STT], ids=["s2s", "stt"])
@pytest.mark.parametrize("sessions", [PLACED, UNPLACED], ids=["placed", "unplaced"])
def test_answers_do_not_depend_on_how_the_audio_was_cut(
    tmp_path_factory: pytest.TempPathFactory, start: Start, sessions: str
) -> None:
    scripted = engine(tmp_path_factory.mktemp("script"), sessions)
    audio = speech(0.35).audio + silence(0.45).audio + speech(0.3).audio
    whole = timed_answers(scripted.listen(start, RATE), Audio(audio))
    assert len(texts([answer for answer, _ in whole])) >= 2

    @given(st.lists(st.integers(0, len(audio)), max_size=12))
    def any_cut(places: list[int]) -> None:
        assert timed_answers(scripted.listen(start, RATE), *cut(audio, places)) == whole

    any_cut()


def test_answers_do_not_depend_on_how_the_text_was_cut(tmp_path: Path) -> None:
    scripted = engine(tmp_path, "  [{product: tts, turns: [{sentence: four, delay_ms: 50, audio: {duration_s: 2}}]}]")
    words = ["One", "two.", "Three", "four", "five!", "Six", "seven?", "Eight", "nine"]
    whole = timed_answers(scripted.speak(TTS, RATE), Text(" ".join(words)))
    assert [text.text for text in texts([answer for answer, _ in whole])] == words

    @given(st.lists(st.booleans(), min_size=len(words) - 1, max_size=len(words) - 1))
    def any_cut(joined: list[bool]) -> None:
        pieces = [words[0]]
        for word, is_joined in zip(words[1:], joined, strict=True):
            if is_joined:
                pieces[-1] += f" {word}"
            else:
                pieces.append(word)
        assert timed_answers(scripted.speak(TTS, RATE), *map(Text, pieces)) == whole

    any_cut()
