"""The local engine with stages of the test's own for its logic, and with its real ones from speech to speech."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise

import pytest

from harness import converse, run
from processes import Processes
from speechwire.errors import ServerError, SessionError
from speechwire.events import Audio, Flush, Pause, Start, Text, Transcript, VadStep
from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines import Answer, Engine, EngineError, Input, ListeningSession
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.stages import Activity, Heard, Spoken, Utterance
from speechwire.server.voices import Voice


def start(source: str | None = "en", target: str | None = "es") -> Start:
    return Start("pcm_24000", "pcm_24000", source, target)


class FakePart:
    def __init__(self, name: str, log: list[str], error: str | None = None) -> None:
        self.name = name
        self.log = log
        self.error = error

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.log.append(f"{self.name} started")
        if self.error is not None:
            raise EngineError(self.error)

    async def stop(self) -> None:
        self.log.append(f"{self.name} stopped")


class FakeRecognizer(FakePart):
    """Hears one letter per byte, words between spaces, and an utterance wherever the byte is a full stop.

    Every word begins after 1 s and ends after 2. A step is four bytes long.
    """

    sample_rate = 16000
    max_streams = 3

    def check_language(self, language: str) -> None:
        self.log.append(f"hear {language}?")
        if language == "xx":
            raise EngineError("cannot hear xx")

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        self.log.append(f"hear {language}")
        heard, num_letters = "", 0

        async def say(*, is_final: bool) -> None:
            await report(Utterance(tuple(Transcript(word, 1.0, 2.0) for word in heard.split()), is_final=is_final))

        try:
            async for item in audio:
                if isinstance(item, Flush):
                    await say(is_final=True)
                    heard = ""
                    await report(item)
                    continue
                for letter in item.decode():
                    if letter == "!":
                        raise EngineError("heard too much")
                    heard += letter
                    await say(is_final=letter == ".")
                    if letter == ".":
                        heard = ""
                    num_letters += 1
                    if num_letters % 4 == 0:
                        await report(Activity(0.0, 0.5))
            if heard:
                await say(is_final=True)
        finally:
            self.log.append("recognition over")


class FakeTranslator(FakePart):
    def check_pair(self, source: str, target: str) -> None:
        self.log.append(f"translate {source}-{target}?")

    async def translate(self, text: str, source: str, target: str) -> str:
        self.log.append(f"translate {text}")
        return text.upper()


class FakeSynthesizer(FakePart):
    """Speaks each letter for one sample; says nothing for a question mark."""

    sample_rate = 1000

    def check_language(self, language: str) -> None:
        self.log.append(f"speak {language}?")

    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        how = "".join(["" if voice is None else f" as {voice.timbre}", f" at {speed:g}" * (speed != 1.0)])
        self.log.append(f"speak {text}{how}")
        position = 0
        for word in text.replace("?", "").split():
            await say(Transcript(word, position / 1000, (position + len(word)) / 1000))
            await say(word.encode() * 2)
            position += len(word)


class Fakes:
    def __init__(self, **errors: str) -> None:
        self.log: list[str] = []
        self.recognizer = FakeRecognizer("recognizer", self.log, errors.get("recognizer"))
        self.translator = FakeTranslator("translator", self.log, errors.get("translator"))
        self.synthesizer = FakeSynthesizer("synthesizer", self.log, errors.get("synthesizer"))
        self.engine = LocalEngine(self.recognizer, self.translator, self.synthesizer)


def interpret(fakes: Fakes, *pieces: bytes, how: Start | None = None, voice: Voice | None = None) -> list[Answer]:
    session = fakes.engine.listen(how or start(), 24000, voice)
    return run(converse(session, *map(Audio, pieces)))


def test_engine_starts_and_stops_all_stages() -> None:
    fakes = Fakes()

    async def main() -> None:
        engine: Engine = fakes.engine
        assert engine.max_recognitions == 3
        await engine.start()
        await engine.stop()

    run(main())
    assert fakes.log == [
        f"{n} {what}" for what in ("started", "stopped") for n in ("recognizer", "translator", "synthesizer")
    ]


def test_a_stage_that_cannot_start_says_why_when_all_have_tried() -> None:
    fakes = Fakes(translator="no dictionary")
    with pytest.raises(EngineError, match=r"^no dictionary$"):
        run(fakes.engine.start())
    assert len(fakes.log) == 3


class LingeringTranslator(FakeTranslator):
    def __init__(self, log: list[str]) -> None:
        super().__init__("translator", log)
        self.may_stop = asyncio.Event()

    async def stop(self) -> None:
        await self.may_stop.wait()
        await super().stop()


def test_stop_goes_to_its_end_however_often_it_is_cancelled() -> None:
    fakes = Fakes()

    async def main() -> None:
        translator = LingeringTranslator(fakes.log)
        engine = LocalEngine(fakes.recognizer, translator, fakes.synthesizer)
        await engine.start()
        stopping = asyncio.create_task(engine.stop())
        for _ in range(3):
            await asyncio.sleep(0)
            stopping.cancel()
        await asyncio.sleep(0.1)
        assert not stopping.done()
        translator.may_stop.set()
        await asyncio.wait([stopping])
        assert stopping.cancelled()

    run(main(), held_clock=True)
    assert fakes.log[-1] == "translator stopped"


def test_session_has_the_rates_of_its_stages() -> None:
    session: ListeningSession = Fakes().engine.listen(start(), 48000)
    assert (session.input_sample_rate, session.output_sample_rate) == (16000, 1000)


def test_listen_asks_every_stage_and_begins_nothing() -> None:
    fakes = Fakes()
    fakes.engine.listen(start(), 24000)
    assert fakes.log == ["hear en?", "translate en-es?", "speak es?"]
    with pytest.raises(EngineError, match="cannot hear xx"):
        fakes.engine.listen(start("xx"), 24000)


def audio_of(answers: Sequence[Answer]) -> bytes:
    return b"".join(answer.audio for answer in answers if isinstance(answer, Audio))


def words_of(answers: Sequence[Answer]) -> list[Transcript]:
    return [answer for answer in answers if isinstance(answer, Transcript)]


def test_each_utterance_gives_its_words_each_before_its_audio() -> None:
    answers = interpret(Fakes(), b"ab", b"c x.de.f")
    # Each utterance ends with a whole frame of 80 samples, and one of silence.
    assert answers == [
        Transcript("ABC", 0.0, 0.003), Audio(b"ABCABC"),
        Transcript("X.", 0.003, 0.005), Audio(b"X.X."), Audio(bytes(2 * 155)),
        Transcript("DE.", 0.16, 0.163), Audio(b"DE.DE."), Audio(bytes(2 * 157)),
        Transcript("F", 0.32, 0.321), Audio(b"FF"), Audio(bytes(2 * 159)),
    ]  # fmt: skip


def test_audio_ends_with_a_whole_frame_and_one_of_silence() -> None:
    answers = interpret(Fakes(), b"a" * 199 + b".")
    assert audio_of(answers) == (b"A" * 199 + b".") * 2 + bytes(2 * 120)


@pytest.mark.parametrize("target", [None, "en"])
def test_same_language_is_spoken_again_without_translation(target: str | None) -> None:
    fakes = Fakes()
    answers = interpret(fakes, b"ab.", how=start(None, target))
    assert words_of(answers) == [Transcript("ab.", 0.0, 0.003)]
    assert not any(line.startswith("translate") for line in fakes.log)


def test_utterance_without_words_or_sound_yields_nothing() -> None:
    assert interpret(Fakes(), b" ", b"?") == []


def test_a_flush_is_said_when_the_words_before_it_have_been() -> None:
    answers = run(converse(Fakes().engine.listen(start(), 24000), Audio(b"a.b"), Flush(1), Audio(b"c"), Flush(2)))
    kinds = [
        answer.text if isinstance(answer, Transcript) else answer for answer in answers if not isinstance(answer, Audio)
    ]
    assert kinds == ["A.", "B", Flush(1), "C", Flush(2)]


def test_the_next_utterance_is_heard_and_translated_while_one_is_spoken() -> None:
    fakes = Fakes()

    async def main() -> None:
        gate = asyncio.Event()

        async def inputs() -> AsyncIterator[Input]:
            yield Audio(b"a.b.c.")

        async def say(answer: Answer) -> None:
            await gate.wait()

        task = asyncio.create_task(fakes.engine.listen(start(), 24000).run(inputs(), say))
        for _ in range(50):
            await asyncio.sleep(0)
        assert {"translate a.", "translate b.", "translate c.", "recognition over", "speak A."} <= {*fakes.log}
        assert "speak B." not in fakes.log
        gate.set()
        await task
        assert fakes.log[-2:] == ["speak B.", "speak C."]

    run(main())


def test_a_client_that_does_not_listen_stops_the_hearing() -> None:
    fakes = Fakes()
    taken = 0

    async def main() -> None:
        async def inputs() -> AsyncIterator[Input]:
            nonlocal taken
            while True:
                taken += 1
                yield Audio(b"a.")

        async def say(answer: Answer) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(fakes.engine.listen(start(), 24000).run(inputs(), say))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert taken < 20
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert fakes.log[-1] == "recognition over"

    run(main())


@pytest.mark.parametrize("target", ["es", None])
def test_what_a_stage_fails_with_is_what_the_session_fails_with(target: str | None) -> None:
    fakes = Fakes()
    for how in (start("en", target), Start("pcm_16000", None, "en", target)):
        with pytest.raises(EngineError, match=r"^heard too much$"):
            interpret(fakes, b"a.!", how=how)
        assert "recognition over" in fakes.log


def test_what_the_client_cannot_take_ends_every_stage() -> None:
    class Gone(Exception):
        pass

    fakes = Fakes()

    async def main() -> None:
        async def inputs() -> AsyncIterator[Input]:
            yield Audio(b"a.")
            await asyncio.Event().wait()

        async def say(answer: Answer) -> None:
            raise Gone

        with pytest.raises(Gone):
            await fakes.engine.listen(start(), 24000).run(inputs(), say)
        assert fakes.log[-1] == "recognition over"

    run(main())


def test_recognition_gives_words_and_steps_in_the_order_of_the_stream() -> None:
    session = Fakes().engine.listen(Start("pcm_16000", None, "en"), 24000)
    answers = run(converse(session, Audio(b"ab cd."), Audio(b"ef"), Flush("f"), Audio(b"g")))
    steps = [answer for answer in answers if isinstance(answer, VadStep)]
    assert [(step.step_idx, step.total_duration_s) for step in steps] == [(0, 0.08), (1, 0.16)]
    assert answers == [
        steps[0], Transcript("ab", 1.0, 2.0), Transcript("cd.", 1.0, 2.0), steps[1], Transcript("ef", 1.0, 2.0),
        Flush("f"), Transcript("g", 1.0, 2.0),
    ]  # fmt: skip
    assert session.busy_s == 1.0


class Rethinking(FakeRecognizer):
    """Says what the test tells it to, a step of 80 ms at a time."""

    def __init__(self, by_step: dict[int, Utterance]) -> None:
        super().__init__("rethinking", [])
        self._by_step = by_step

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        for step in range(max(self._by_step) + 1):
            await report(Activity(0.0, 0.0))
            if step in self._by_step:
                await report(self._by_step[step])


def spans(text: str, *starts: float) -> tuple[Transcript, ...]:
    return tuple(Transcript(word, start, start + 0.2) for word, start in zip(text.split(), starts, strict=True))


def test_words_are_said_when_they_lie_back_far_enough_and_then_stay() -> None:
    utterances = {
        4: Utterance(spans("Where", 0.0), is_final=False),
        9: Utterance(spans("Where is the", 0.0, 0.3, 0.5), is_final=False),
        # What was said is not taken back; the last word may still change.
        14: Utterance(spans("Wear his the train.", 0.0, 0.3, 0.5, 0.8), is_final=False),
        19: Utterance(spans("Where is the tray?", 0.0, 0.3, 0.5, 0.9), is_final=True),
        30: Utterance(spans("Good morning.", 1.4, 1.8), is_final=True),
    }

    def said(delay_s: float) -> list[tuple[int, str]]:
        fakes = Fakes()
        engine = LocalEngine(Rethinking(utterances), fakes.translator, fakes.synthesizer)
        session = engine.listen(Start("pcm_16000", None, "en", delay_s=delay_s), 24000)
        steps, words = 0, []
        for answer in run(converse(session, Audio(b""))):
            if isinstance(answer, VadStep):
                steps += 1
            elif isinstance(answer, Transcript):
                words.append((steps - 1, answer.text))
        return words

    last = [(30, "Good"), (30, "morning.")]
    assert said(0.0) == [(9, "Where"), (14, "his"), (14, "the"), (19, "tray?"), *last]
    assert said(0.8) == [(14, "Wear"), (19, "is"), (19, "the"), (19, "tray?"), *last]


def test_a_word_behind_one_that_has_moved_does_not_begin_before_its_end() -> None:
    utterances = {
        9: Utterance((Transcript("Let", 0.0, 0.3), Transcript("us", 0.3, 0.4)), is_final=False),
        14: Utterance((Transcript("Lettuce.", 0.0, 0.7),), is_final=True),
    }
    fakes = Fakes()
    engine = LocalEngine(Rethinking(utterances), fakes.translator, fakes.synthesizer)
    session = engine.listen(Start("pcm_16000", None, "en"), 24000)
    words = [answer for answer in run(converse(session, Audio(b""))) if isinstance(answer, Transcript)]
    assert words == [Transcript("Let", 0.0, 0.3), Transcript("Lettuce.", 0.3, 0.7)]


def test_recognition_with_a_target_language_translates_and_its_steps_do_not_wait() -> None:
    fakes = Fakes()
    gate = asyncio.Event()
    translate = fakes.translator.translate

    async def translate_slowly(text: str, source: str, target: str) -> str:
        await gate.wait()
        return await translate(text, source, target)

    fakes.translator.translate = translate_slowly  # type: ignore[method-assign]
    session = fakes.engine.listen(Start("pcm_16000", None, "en", "es"), 24000)
    answers: list[Answer] = []

    async def main() -> None:
        async def inputs() -> AsyncIterator[Input]:
            yield Audio(b"ab cd." + b"e" * 6)
            yield Flush(7)

        async def say(answer: Answer) -> None:
            answers.append(answer)
            if len(answers) == 3:
                gate.set()

        await session.run(inputs(), say)

    run(main())
    assert [type(answer) for answer in answers[:3]] == [VadStep] * 3
    assert answers[3:] == [
        Transcript("AB", 1.0, 1.5), Transcript("CD.", 1.5, 2.0), Transcript("EEEEEE", 1.0, 2.0), Flush(7)
    ]  # fmt: skip
    assert "translate en-es?" in fakes.log
    assert "speak es?" not in fakes.log


def test_a_voice_speaks_its_language_unless_another_is_asked_for() -> None:
    fakes = Fakes()
    voice = Voice("fr-fr", "female1")
    run(converse(fakes.engine.speak(Start(None, "pcm_24000"), 24000, voice), Text("ab.")))
    run(converse(fakes.engine.speak(Start(None, "pcm_24000", target_language="de"), 24000, voice), Text("cd.")))
    run(converse(fakes.engine.speak(Start(None, "pcm_24000"), 24000), Text("ef.")))
    interpret(fakes, b"gh.", how=start(None, None), voice=voice)
    assert [line for line in fakes.log if line.startswith("speak")] == [
        "speak fr?", "speak ab. as female1", "speak de?", "speak cd. as female1", "speak en?", "speak ef.",
        "speak en?", "speak gh. as female1",
    ]  # fmt: skip


def test_synthesis_speaks_each_sentence_when_it_is_complete() -> None:
    fakes = Fakes()
    session = fakes.engine.speak(Start(None, "pcm_24000", target_language="es", speed=1.5), 24000)
    assert session.output_sample_rate == 1000
    letters = "b" * 90
    answers = run(
        converse(session, Text("aa"), Text(letters + ". c"), Pause(0.1), Text("d."), Flush("f"), Pause(2.5), Text("e"))
    )
    assert [line for line in fakes.log[1:] if line.startswith("speak")] == [
        f"speak aa {letters}. at 1.5", "speak c at 1.5", "speak d. at 1.5", "speak e at 1.5",
    ]  # fmt: skip
    # 93 samples to the end of the third frame; one sample to that of the fifth, and 100 of pause.
    starts = {word.text[0]: word.start_s for word in words_of(answers)}
    assert starts == {"a": 0.0, "b": 0.002, "c": 0.24, "d": 0.5, "e": 0.64 + 2.5}
    assert answers[answers.index(Flush("f")) - 1] == Audio(bytes(2 * (640 - 502)))
    assert max(len(answer.audio) for answer in answers if isinstance(answer, Audio)) == 2000
    assert session.busy_s >= 0.0


def test_what_a_session_has_cost_never_falls_while_its_client_is_slow() -> None:
    fakes = Fakes()
    session = fakes.engine.speak(Start(None, "pcm_24000"), 24000)
    costs = []

    async def inputs() -> AsyncIterator[Input]:
        yield Text("ab cd ef.")

    async def say(_: Answer) -> None:
        costs.append(session.busy_s)
        await asyncio.sleep(1)
        costs.append(session.busy_s)

    run(session.run(inputs(), say), held_clock=True)
    costs.append(session.busy_s)
    assert len(costs) > 6
    assert costs == sorted(costs)
    assert costs[0] >= 0.0


# --- with the real stages


def translate(pcm: bytes, target: str | None, chunk_bytes: int = 2560) -> tuple[str, bytes]:
    async def main() -> tuple[str, bytes]:
        engine = LocalEngine()
        try:
            await engine.start()
            session = engine.listen(start("en", target), 24000)
            pieces = [pcm[offset : offset + chunk_bytes] for offset in range(0, len(pcm), chunk_bytes)]
            answers = await converse(session, *map(Audio, pieces))
        finally:
            await engine.stop()
        num_samples = 0
        for answer in answers:
            if isinstance(answer, Transcript):
                assert num_samples <= round(answer.start_s * session.output_sample_rate)
            elif isinstance(answer, Audio):
                num_samples += len(answer.audio) // 2
        assert all(a.stop_s is not None and a.stop_s <= b.start_s for a, b in pairwise(words_of(answers)))
        return " ".join(word.text for word in words_of(answers)), audio_of(answers)

    return run(main())


def test_sample_is_translated_into_spanish_speech(speech: bytes, processes: Processes) -> None:
    num_threads = threading.active_count()
    text, pcm = translate(speech, "es")
    assert "quiero comprar" in text.lower()
    assert "mañana" in text
    assert not set(text) & set("*@#")
    samples = array("h", pcm)
    assert len(samples) > 2 * 22050
    assert max(samples) > 3000
    assert sum(abs(sample) > 300 for sample in samples) > len(samples) // 4
    processes.assert_none_left()
    assert threading.active_count() == num_threads


def test_cut_of_the_input_does_not_change_the_answer(speech: bytes) -> None:
    assert translate(speech, "es", 998) == translate(speech, "es", 1_000_000)


def test_an_engine_serves_one_server_after_the_other(speech: bytes, processes: Processes) -> None:
    async def main() -> list[str]:
        engine, heard = LocalEngine(), []
        for _ in range(2):
            async with serve(engine) as address:
                heard.append(await interpret_over_wire(address, speech))
        await engine.stop()  # once more than it was started
        return heard

    first, second = run(main())
    assert first == second != ""
    processes.assert_none_left()


def test_two_servers_that_share_an_engine_hang_neither_when_one_stops(processes: Processes) -> None:
    async def main() -> None:
        engine = LocalEngine()
        async with serve(engine) as address:
            async with serve(engine):
                pass
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            stream = await client.tts_stream({"output_format": "pcm", "json_config": {"language": "en"}}, "One.")
            with pytest.raises(SessionError, match="espeak-ng was stopped"):
                async for _ in stream.iter_events():
                    pass

    run(main())
    processes.assert_none_left()


@pytest.mark.parametrize(("target", "word"), [("fr", "acheter"), ("pt", "comprar")])
def test_other_languages_go_through_spanish(speech: bytes, target: str, word: str) -> None:
    text, pcm = translate(speech, target)
    assert word in text
    assert len(pcm) > 2 * 2 * 22050


def test_sample_is_spoken_again_in_english(speech: bytes) -> None:
    text, pcm = translate(speech, None)
    assert text.startswith("Good morning.")
    assert len(pcm) > 2 * 2 * 22050


@pytest.mark.parametrize("silence", [b"", bytes(2), bytes(5 * 32000)])
def test_silence_yields_nothing(silence: bytes) -> None:
    assert translate(silence, "es") == ("", b"")


def test_cancel_in_mid_sentence_leaves_nothing_and_the_next_is_served(speech: bytes, processes: Processes) -> None:
    async def main() -> None:
        engine = LocalEngine()
        await engine.start()
        for _ in range(3):
            spoken = asyncio.Event()

            async def say(answer: Answer, spoken: asyncio.Event = spoken) -> None:
                if isinstance(answer, Audio):
                    spoken.set()
                    await asyncio.Event().wait()

            async def inputs() -> AsyncIterator[Input]:
                yield Audio(speech)
                await asyncio.Event().wait()

            task = asyncio.create_task(engine.listen(start(), 24000).run(inputs(), say))
            await spoken.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        answers = await converse(engine.listen(start(), 24000), Audio(speech))
        assert "comprar" in " ".join(word.text for word in words_of(answers))
        await engine.stop()

    run(main())
    processes.assert_none_left()


async def interpret_over_wire(address: str, pcm: bytes) -> str:
    client = GradiumClient(base_url=f"{address}/api/", api_key="k")
    setup = {"input_format": "pcm_16000", "output_format": "pcm", "json_config": {"target_language": "es"}}
    result = await client.s2s(setup, pcm)
    return " ".join(text.text for text in result.text_with_timestamps)


def test_an_engine_serves_again_after_it_was_stopped(speech: bytes, processes: Processes) -> None:
    engine = LocalEngine()

    async def main() -> None:
        async with serve(engine) as address:
            assert "comprar" in await interpret_over_wire(address, speech)
        processes.assert_none_left()

    for _ in range(2):
        run(main())


def test_no_process_outlives_a_server_that_is_killed(speech: bytes, processes: Processes) -> None:
    command = [sys.executable, "-m", "speechwire.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]

        async def main() -> None:
            assert "comprar" in await interpret_over_wire(address, speech)
            task = asyncio.create_task(interpret_over_wire(address, speech * 20))
            await asyncio.sleep(0.5)
            assert len(processes.find()) > 10
            server.kill()
            with pytest.raises(SessionError):
                await task

        run(main())
    processes.assert_none_left()


@pytest.mark.parametrize("victim", ["recognize_worker", "lt-proc", "synthesize_worker"])
def test_a_process_that_is_killed_costs_one_request(victim: str, speech: bytes, processes: Processes) -> None:
    async def main() -> None:
        async with serve(LocalEngine()) as address:
            assert "comprar" in await interpret_over_wire(address, speech)
            task = asyncio.create_task(interpret_over_wire(address, speech * 5))
            await asyncio.sleep(0.3)
            killed = processes.kill(victim)
            assert killed
            # An idle process may have been the victim; then nobody has to know.
            with suppress(SessionError):
                await task
            assert "comprar" in await interpret_over_wire(address, speech)
        processes.assert_none_left()

    run(main())


def test_more_than_can_be_recognised_at_once_wait_or_are_refused(speech: bytes) -> None:
    recognizer = PocketSphinxRecognizer(max_streams=2)

    async def main() -> None:
        async with serve(LocalEngine(recognizer)) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            texts: list[str] = []

            async def talk(enough: asyncio.Event) -> None:
                async with client.stt_realtime(input_format="pcm_16000", wait_for_ready_on_start=True) as stt:
                    await stt.send_audio(speech[:32000])
                    running.release()
                    await enough.wait()
                    await stt.send_audio(speech[32000:])
                    await stt.send_eos()
                    texts.append(" ".join([message["text"] async for message in stt if message["type"] == "text"]))

            running = asyncio.Semaphore(0)
            enough = asyncio.Event()
            talks = [asyncio.create_task(talk(enough)) for _ in range(2)]
            for _ in range(2):
                await running.acquire()
            with pytest.raises(ServerError, match=r"Concurrency limit exceeded \(code 1008"):
                await interpret_over_wire(address, speech)
            # Who speaks for nobody to hear is not held up.
            assert (await client.tts({"output_format": "pcm"}, "Hello.")).raw_data
            waiting = asyncio.create_task(client.stt({"input_format": "pcm_16000", "retry_for_s": 60.0}, speech))
            enough.set()
            assert "ticket" in (await waiting).text
            await asyncio.gather(*talks)
            assert all("ticket" in text for text in texts)

    run(main())
