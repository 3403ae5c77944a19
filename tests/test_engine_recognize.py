"""The recogniser with its real processes: PocketSphinx and flite must be installed, nothing is skipped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from array import array
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import run
from processes import Processes
from speechwire.events import Flush, Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.recognize import PocketSphinxRecognizer, _Stream, pack_heard, unpack_heard
from speechwire.server.engines.recognize_worker import Listener, build_sentence
from speechwire.server.engines.stages import Activity, Heard, Utterance
from spoken_sentences import HELD_OUT, VOICES, normalize, speak, word_errors

SENTENCES = [
    "Good morning.",
    "Where is the train station?",
    "I want to buy a ticket for tomorrow.",
    "The weather is very nice today.",
]
SECOND = 32000  # bytes


@pytest.fixture(scope="module")
def heard(listener: Listener, speech: bytes) -> list[Heard]:
    return listen(listener, speech)


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def sentence(speech: bytes) -> bytes:
    return speech[: int(1.5 * SECOND)]


@pytest.fixture(scope="module")
def heard_sentence(listener: Listener, sentence: bytes) -> list[Heard]:
    heard = without_cost(listen(listener, sentence))
    assert sentences(heard) == SENTENCES[:1]
    return heard


async def stream(*items: bytes | Flush) -> AsyncIterator[bytes | Flush]:
    for item in items:
        yield item


async def recognize(recognizer: PocketSphinxRecognizer, *items: bytes | Flush) -> list[Heard]:
    heard: list[Heard] = []

    async def report(one: Heard) -> None:
        heard.append(one)

    await recognizer.recognize("en", stream(*items), report)
    return heard


def recognize_alone(*items: bytes | Flush) -> list[Heard]:
    async def main() -> list[Heard]:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        try:
            await recognizer.start()
            return await recognize(recognizer, *items)
        finally:
            await recognizer.stop()

    return run(main())


def listen(listener: Listener, *pieces: bytes) -> list[Heard]:
    listener.begin()
    heard: list[Heard] = [one for piece in pieces for one in listener.feed(piece)]
    return [*heard, *listener.flush()]


def without_cost(heard: Sequence[Heard]) -> list[Heard]:
    return [Activity(one.silence_s, 0.0) if isinstance(one, Activity) else one for one in heard]


def finals(heard: Sequence[Heard]) -> list[tuple[Transcript, ...]]:
    return [one.words for one in heard if isinstance(one, Utterance) and one.is_final]


def sentences(heard: Sequence[Heard]) -> list[str]:
    return [" ".join(word.text for word in words) for words in finals(heard)]


def cut(pcm: bytes, *places: int) -> list[bytes]:
    edges = [0, *sorted(places), len(pcm)]
    return [pcm[start:stop] for start, stop in pairwise(edges)]


def pid_of(recognizer: PocketSphinxRecognizer) -> int:
    """Return the process that the next stream gets."""
    return recognizer._pool[-1].result()._process.pid


# --- what is understood


def test_sample_is_recognised(heard: list[Heard]) -> None:
    # Another build of the recogniser may round differently, so one wrong word in a sentence is not a failure.
    assert len(sentences(heard)) == len(SENTENCES)
    for sentence, expected in zip(sentences(heard), SENTENCES, strict=True):
        assert word_errors(sentence, expected) <= 1, sentence
        assert sentence[-1] == expected[-1]


@pytest.mark.parametrize("voice", VOICES)
def test_sentences_of_other_voices_are_recognised(voice: str) -> None:
    texts = HELD_OUT[:2]
    spoken = b"".join(sentence.pcm + bytes(SECOND) for sentence in speak(texts, [voice]))
    found = sentences(recognize_alone(spoken))
    assert len(found) == len(texts)
    # A third: these are few words. The figure of the whole set is that of the bench.
    assert word_errors(" ".join(found), " ".join(texts)) < len(normalize(" ".join(texts))) / 3, found


def test_words_have_their_times_in_the_stream(heard: list[Heard]) -> None:
    words = [word for words in finals(heard) for word in words]
    spans = [(word.start_s, word.stop_s or 0.0) for word in words]
    assert all(start < stop for start, stop in spans)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    # Where the sample has sound.
    starts = [utterance[0].start_s for utterance in finals(heard)]
    assert starts == pytest.approx([0.22, 1.93, 4.42, 7.5], abs=0.15)
    stops = [utterance[-1].stop_s for utterance in finals(heard)]
    assert stops == pytest.approx([1.0, 3.5, 6.3, 9.4], abs=0.2)


def test_words_are_told_while_they_are_spoken(heard: list[Heard]) -> None:
    third = heard.index(Utterance(finals(heard)[1], is_final=True)) + 1
    fourth = heard.index(Utterance(finals(heard)[2], is_final=True))
    partials = [one for one in heard[third:fourth] if isinstance(one, Utterance)]
    assert not any(one.is_final for one in partials)
    texts = [" ".join(word.text for word in one.words) for one in partials]
    assert all(a != b for a, b in pairwise(partials))
    assert texts[-1].startswith("I want to buy")
    assert not any(text.endswith((".", "?")) for text in texts)
    # They come while the sentence, which ends 6.3 s into the sample, is heard.
    num_steps = sum(isinstance(one, Activity) for one in heard[: heard.index(partials[-1])])
    assert num_steps * 0.08 < 6.8
    num_steps = sum(isinstance(one, Activity) for one in heard[: heard.index(partials[0])])
    assert num_steps * 0.08 < 5.5


def test_a_step_of_80_ms_tells_speech_from_silence(speech: bytes) -> None:
    speech = speech[: 7 * SECOND] + bytes(3 * SECOND)
    heard = recognize_alone(speech[:1001], speech[1001:])
    steps = [one for one in heard if isinstance(one, Activity)]
    assert len(steps) == len(speech) // 2560
    silence = [step.silence_s for step in steps]
    assert max(silence[int(5.0 / 0.08) : int(6.0 / 0.08)]) < 0.3  # in the middle of the third sentence
    assert silence[int(4.2 / 0.08)] > 0.3  # before it
    assert silence[-1] > 3.0
    assert all(step.busy_s >= 0.0 for step in steps)
    assert sum(step.busy_s for step in steps) > 0.0


@pytest.mark.parametrize("silence", [b"", bytes(1), bytes(2 * SECOND)])
def test_silence_has_steps_and_no_words(silence: bytes) -> None:
    assert [type(one) for one in recognize_alone(silence)] == [Activity] * (len(silence) // 2560)


def test_words_that_turn_out_to_be_none_are_taken_back(
    listener: Listener, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.begin()
    heard = list(listener.feed(speech[: int(5.8 * SECOND)]))
    assert any(isinstance(one, Utterance) and one.words for one in heard)
    monkeypatch.setattr(listener, "_words", lambda *, is_final: ())
    assert [one for one in listener.flush() if isinstance(one, Utterance)][-1].words == ()


def test_sentence_gets_capitals_and_its_last_mark() -> None:
    assert build_sentence("i think i'm late") == "I think I'm late."
    assert build_sentence("is this it") == "Is this it?"
    assert build_sentence("do not run") == "Do not run."
    assert build_sentence("") == ""


# --- streams


@settings(max_examples=6)
@given(data=st.data())
def test_any_cut_of_the_speech_gives_the_same(
    listener: Listener, sentence: bytes, heard_sentence: list[Heard], data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(0, len(sentence)), max_size=40))
    assert without_cost(listen(listener, *cut(sentence, *places))) == heard_sentence


@pytest.mark.parametrize("piece_bytes", [1, 1_000_000])
def test_any_cut_gives_the_same_through_a_process(
    piece_bytes: int, sentence: bytes, heard_sentence: list[Heard]
) -> None:
    pieces = cut(sentence, *range(piece_bytes, len(sentence), piece_bytes))
    assert without_cost(recognize_alone(*pieces)) == heard_sentence


def test_a_stream_shows_nothing_of_the_last_in_its_process(sentence: bytes, heard_sentence: list[Heard]) -> None:
    quiet = array("h", (sample // 8 for sample in array("h", sentence))).tobytes()
    loud = speak(HELD_OUT[:1], ["awb"])[0].pcm

    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        pid = pid_of(recognizer)
        for before in (quiet, loud):
            await recognize(recognizer, before)
            assert pid_of(recognizer) == pid
            assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        await recognizer.stop()

    run(main())


def test_a_flush_in_mid_stream_brings_the_words_and_keeps_the_times(speech: bytes, heard: list[Heard]) -> None:
    # Right behind the first sentence, 7 ms and half a sample into a frame of the detector.
    place = 2 * int(1.107 * 16000) + 1
    found = recognize_alone(speech[:place], Flush("x"), Flush("y"), speech[place:], Flush("z"))
    flushes = [found.index(Flush(name)) for name in "xyz"]
    assert flushes == [flushes[0], flushes[0] + 1, len(found) - 1]
    assert sentences(found[: flushes[0]]) == ["Good morning."]
    assert sentences(found) == sentences(heard)
    starts = [[word.start_s for word in words] for words in (*finals(found), *finals(heard))]
    for a, b in zip(starts[:4], starts[4:], strict=True):
        assert a == pytest.approx(b, abs=0.05)
    assert sum(isinstance(one, Activity) for one in found) == len(speech) // 2560


def test_no_word_goes_beyond_what_was_heard(speech: bytes) -> None:
    found = recognize_alone(speech[: 2 * int(0.9 * 16000)], Flush())
    (words,) = finals(found)
    assert words[-1].stop_s is not None
    assert words[-1].stop_s <= 0.9


def test_last_word_survives_an_abrupt_end(speech: bytes, heard: list[Heard]) -> None:
    # The third sentence ends about 6.3 s into the sample.
    assert sentences(recognize_alone(speech[: int(6.45 * SECOND)])) == sentences(heard)[:3]


def test_speech_without_a_pause_is_cut_in_the_end(speech: bytes) -> None:
    sentence = speech[int(4.5 * SECOND) : int(6.2 * SECOND)]
    found = recognize_alone(sentence * 9)
    first = found.index(Utterance(finals(found)[0], is_final=True))
    assert sum(isinstance(one, Activity) for one in found[:first]) == pytest.approx(15 / 0.08, abs=5)
    assert len(finals(found)) == 2


def test_messages_say_what_was_heard() -> None:
    words = (Transcript("Ça", 0.1, 0.25), Transcript("va", 0.3, 0.4))
    for one in (Utterance(words, True), Utterance(words, False), Utterance((), True), Activity(0.02, 0.001)):
        assert unpack_heard(*pack_heard(one)) == one


# --- processes


def test_eight_streams_at_once_are_each_as_alone_and_a_ninth_is_refused(processes: Processes) -> None:
    spoken = [spoken.pcm for spoken in speak([HELD_OUT[27]], VOICES[:2])]

    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=8)
        assert recognizer.max_streams == 8
        await recognizer.start()
        alone = [without_cost(await recognize(recognizer, pcm)) for pcm in spoken]
        assert all(finals(heard) for heard in alone)
        gate = asyncio.Event()

        async def gated(pcm: bytes) -> AsyncIterator[bytes | Flush]:
            yield pcm[:SECOND]
            await gate.wait()
            yield pcm[SECOND:]

        async def recognize_gated(pcm: bytes) -> list[Heard]:
            heard: list[Heard] = []

            async def report(one: Heard) -> None:
                heard.append(one)

            await recognizer.recognize("en", gated(pcm), report)
            return without_cost(heard)

        tasks = [asyncio.create_task(recognize_gated(pcm)) for pcm in spoken * 4]
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match=r"^expected at most 8 streams at once, got one more$"):
            await recognize(recognizer, b"")
        gate.set()
        assert await asyncio.gather(*tasks) == alone * 4
        assert len(processes.find()) == 8
        assert without_cost(await recognize(recognizer, spoken[0])) == alone[0]
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_stream_that_begins_finds_a_process_and_another_is_loaded() -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=2)
        await recognizer.start()
        (first,) = recognizer._pool
        ended = asyncio.Event()

        async def audio() -> AsyncIterator[bytes | Flush]:
            yield bytes(2560)
            await ended.wait()

        reported = asyncio.Event()

        async def report(one: Heard) -> None:
            reported.set()

        tasks = [asyncio.create_task(recognizer.recognize("en", audio(), report))]
        await reported.wait()
        (second,) = recognizer._pool
        assert second is not first
        tasks.append(asyncio.create_task(recognizer.recognize("en", audio(), report)))
        await asyncio.sleep(0)
        assert recognizer._pool == []  # there may be no third
        ended.set()
        await asyncio.gather(*tasks)
        assert {*recognizer._pool} == {first, second}
        await recognizer.stop()

    run(main())


@pytest.mark.parametrize("how", ["while audio waits", "while audio comes"])
def test_a_process_that_is_killed_in_mid_stream_fails_it_and_the_next_works(
    how: str, sentence: bytes, heard_sentence: list[Heard], processes: Processes
) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        pid = pid_of(recognizer)

        async def audio() -> AsyncIterator[bytes | Flush]:
            yield sentence[:SECOND]
            while how == "while audio comes":
                yield bytes(2560)
            await asyncio.Event().wait()

        num_heard = 0

        async def report(one: Heard) -> None:
            nonlocal num_heard
            num_heard += 1
            if num_heard == 10:
                os.kill(pid, signal.SIGKILL)

        with pytest.raises(EngineError, match=r"^process recognize_worker ended with status -9$"):
            await recognizer.recognize("en", audio(), report)
        assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        assert pid_of(recognizer) != pid
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_process_that_is_killed_while_idle_is_replaced(sentence: bytes, heard_sentence: list[Heard]) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        (process,) = recognizer._pool
        os.kill(pid_of(recognizer), signal.SIGKILL)
        await process.result()._process.wait()
        assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        await recognizer.stop()

    run(main())


def test_a_process_that_hangs_fails_its_stream_and_the_next_works(
    sentence: bytes, heard_sentence: list[Heard], processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        pid = pid_of(recognizer)
        hears = asyncio.Event()

        async def audio() -> AsyncIterator[bytes | Flush]:
            yield sentence[: SECOND // 2]
            await hears.wait()
            await asyncio.sleep(1.2)  # a pause of the speaker may be longer than two of the process
            os.kill(pid, signal.SIGSTOP)
            while True:
                yield bytes(2560)

        async def report(_: Heard) -> None:
            hears.set()

        with monkeypatch.context() as patch:
            # To load a process may take longer than that.
            patch.setattr(
                "speechwire.server.engines.recognize._Stream", lambda worker, report, _: _Stream(worker, report, 0.5)
            )
            with pytest.raises(EngineError, match=r"^pocketsphinx took more than 0\.5 s$"):
                await recognizer.recognize("en", audio(), report)
        assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_process_that_hangs_while_it_loads_fails_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Processes
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))

    async def main() -> None:
        recognizer = PocketSphinxRecognizer(timeout_s=0.2)
        with pytest.raises(EngineError, match=r"^pocketsphinx took more than 0\.2 s to begin$"):
            await recognizer.start()
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_stream_that_is_cancelled_in_mid_utterance_leaves_nothing(
    sentence: bytes, heard_sentence: list[Heard], processes: Processes
) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        pid = pid_of(recognizer)
        num_heard = 0
        in_speech = asyncio.Event()

        async def audio() -> AsyncIterator[bytes | Flush]:
            yield sentence[:SECOND]
            await asyncio.Event().wait()

        async def report(one: Heard) -> None:
            nonlocal num_heard
            num_heard += 1
            if num_heard == 10:
                in_speech.set()

        task = asyncio.create_task(recognizer.recognize("en", audio(), report))
        await in_speech.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert pid not in {process.result()._process.pid for process in recognizer._pool if process.done()}
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


@pytest.mark.parametrize("num_turns", [0, 5, 50])
def test_a_stream_that_is_cancelled_before_its_process_is_loaded_leaves_nothing(
    num_turns: int, processes: Processes
) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=2)
        await recognizer.start()
        tasks = [asyncio.create_task(recognize(recognizer, bytes(2560))) for _ in range(2)]
        for _ in range(num_turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await recognize(recognizer, bytes(2560)) != []
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_what_the_audio_or_its_listener_fails_with_comes_through(sentence: bytes, heard_sentence: list[Heard]) -> None:
    class Gone(Exception):
        pass

    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()

        async def broken() -> AsyncIterator[bytes | Flush]:
            yield sentence[:SECOND]
            raise Gone

        async def take(one: Heard) -> None:
            pass

        async def refuse(one: Heard) -> None:
            raise Gone

        with pytest.raises(Gone):
            await recognizer.recognize("en", broken(), take)
        with pytest.raises(Gone):
            await recognizer.recognize("en", stream(sentence), refuse)
        assert without_cost(await recognize(recognizer, sentence)) == heard_sentence
        await recognizer.stop()

    run(main())


def test_who_does_not_take_what_is_heard_stops_the_audio() -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=1)
        await recognizer.start()
        num_taken = 0
        gate = asyncio.Event()
        stopped = asyncio.Event()

        async def audio() -> AsyncIterator[bytes | Flush]:
            nonlocal num_taken
            for _ in range(100):
                num_taken += 1
                if num_taken == 10:
                    stopped.set()
                yield bytes(2560)

        async def report(one: Heard) -> None:
            await gate.wait()

        task = asyncio.create_task(recognizer.recognize("en", audio(), report))
        await stopped.wait()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert num_taken < 20
        gate.set()
        await task
        assert num_taken == 100
        await recognizer.stop()

    run(main())


def test_stop_ends_what_is_idle_loading_and_at_work(processes: Processes) -> None:
    async def main() -> None:
        recognizer = PocketSphinxRecognizer(max_streams=4)
        await recognizer.start()
        reported, ended = asyncio.Event(), asyncio.Event()

        async def audio() -> AsyncIterator[bytes | Flush]:
            yield bytes(2560)
            await ended.wait()

        async def report(one: Heard) -> None:
            reported.set()

        task = asyncio.create_task(recognizer.recognize("en", audio(), report))
        await reported.wait()
        await recognizer.stop()
        ended.set()
        await task
        assert processes.find() == []

    run(main())
    processes.assert_none_left()


def test_what_cannot_be_recognised_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^expected source language en, got es: the recogniser's model is English$"):
        PocketSphinxRecognizer().check_language("es")
    with pytest.raises(ValueError, match=r"^expected max_streams of at least 1, got 0$"):
        PocketSphinxRecognizer(max_streams=0)
    assert PocketSphinxRecognizer().max_streams == 4 * len(os.sched_getaffinity(0))


def test_missing_wheel_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, processes: Processes) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)

    async def main() -> None:
        recognizer = PocketSphinxRecognizer()
        with pytest.raises(EngineError, match=r"^python package pocketsphinx is not installed; run pip install 'speec"):
            await recognizer.start()
        await recognizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_process_that_cannot_load_fails_the_start(monkeypatch: pytest.MonkeyPatch, processes: Processes) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def main() -> None:
        recognizer = PocketSphinxRecognizer()
        with pytest.raises(EngineError, match=r"^process recognize_worker ended with status 1$"):
            await recognizer.start()
        await recognizer.stop()

    run(main())
    processes.assert_none_left()
