"""Synthesis with eSpeak NG: the wheel's, which must be installed, and where it is there the system's."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import run
from processes import Processes
from speechwire.codec import WavReader
from speechwire.events import Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.sentences import spread_words
from speechwire.server.engines.stages import Spoken, Synthesizer
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.synthesize_worker import AUDIO, WORDS, WORDS_PAYLOAD, SpokenWords
from speechwire.server.voices import FEMALE, MALE, Voice

RATE = 22050
LOUD = 300
LANGUAGES = ("en", "es", "fr", "de", "pt")
LOCALES = ("en-us", "en-gb", "fr-fr", "de-de", "es-es", "es-mx", "pt-br")
SENTENCES = {
    "en": "Where is the train station? I do not know, my friend.",
    "es": "¿Dónde está la estación? No lo sé, amigo mío.",
    "fr": "L'été, aujourd'hui, il n'y a pas 92 œufs à Paris.",
    "de": "Das Donaudampfschiff kostet 21,50 € am 3. Mai.",
    "pt": "Não há água às 9h30, meu amigo.",
}
WITHOUT_THE_WHEEL = "import sys; sys.modules['espeakng_loader'] = None\n"
WITHOUT_THE_SYSTEM = """
import ctypes

class Library(ctypes.CDLL):
    def __init__(self, name, *rest, **options):
        if name == "libespeak-ng.so.1":
            raise OSError(name + ": cannot open shared object file")
        super().__init__(name, *rest, **options)

ctypes.CDLL = Library
"""
CRASHING = """
import os, signal
fork = os.fork

def fork_and_crash():
    child = fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return child

os.fork = fork_and_crash
"""
DYING = """
import os, signal
wait = os.waitpid

def wait_for_nothing(*arguments):
    wait(*arguments)
    os.write(1, b"a\\x02\\x00\\x00\\x00..")
    os.kill(os.getpid(), signal.SIGKILL)

fork = os.fork

def fork_and_say_nothing():
    child = fork()
    if child == 0:
        os._exit(0)
    return child

os.fork = fork_and_say_nothing
os.waitpid = wait_for_nothing
"""


def has_system_library() -> bool:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


Prepare = Callable[[str], None]


@pytest.fixture
def in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Has every worker run some code before it starts."""

    def prepare(code: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return prepare


@pytest.fixture(params=["wheel", "system"])
def library(request: pytest.FixtureRequest, in_workers: Prepare) -> str:
    name: str = request.param
    if name == "wheel":
        in_workers(WITHOUT_THE_SYSTEM)
    else:
        if not has_system_library():
            pytest.skip("no libespeak-ng.so.1; apt-get install libespeak-ng1 installs it")
        in_workers(WITHOUT_THE_WHEEL)
    return name


@asynccontextmanager
async def started(num_workers: int = 1) -> AsyncIterator[EspeakSynthesizer]:
    synthesizer = EspeakSynthesizer(num_workers=num_workers)
    try:
        await synthesizer.start()
        yield synthesizer
    finally:
        await synthesizer.stop()


async def speak(
    synthesizer: Synthesizer, text: str, language: str = "en", voice: Voice | None = None, speed: float = 1.0
) -> list[Spoken]:
    spoken: list[Spoken] = []

    async def say(item: Spoken) -> None:
        spoken.append(item)

    await synthesizer.synthesize(text, language, voice, speed, say)
    check_order(text, spoken)
    return spoken


def check_order(text: str, spoken: list[Spoken]) -> None:
    """Every word of the text once, in order, and before the PCM in which it begins."""
    assert [word.text for word in words_of(spoken)] == text.split()
    num_samples = 0
    last_s = 0.0
    for item in spoken:
        if isinstance(item, bytes):
            assert len(item) > 0
            assert len(item) % 2 == 0
            num_samples += len(item) // 2
            continue
        assert item.stop_s is not None
        assert last_s <= item.start_s <= item.stop_s
        assert num_samples <= item.start_s * RATE + 0.1
        last_s = item.stop_s
    assert last_s * RATE <= num_samples + 0.1


def words_of(spoken: list[Spoken]) -> list[Transcript]:
    return [item for item in spoken if isinstance(item, Transcript)]


def pcm_of(spoken: list[Spoken]) -> bytes:
    return b"".join(item for item in spoken if isinstance(item, bytes))


def speak_all(*calls: tuple[Any, ...]) -> list[list[Spoken]]:
    """Speak one after the other in one process."""

    async def main() -> list[list[Spoken]]:
        async with started() as synthesizer:
            return [await speak(synthesizer, *call) for call in calls]

    return run(main())


# --- what is spoken


def test_every_language_is_spoken_with_its_words(library: str) -> None:
    for spoken in speak_all(*((SENTENCES[language], language) for language in LANGUAGES)):
        samples = array("h", pcm_of(spoken))
        assert max(samples) > 3000
        assert len(samples) > RATE
        assert all(len(item) <= 2 * 0.08 * RATE for item in spoken if isinstance(item, bytes))


@pytest.mark.parametrize("locale", LOCALES)
def test_every_timbre_of_every_accent_sounds_different(locale: str) -> None:
    voices = [None, *(Voice(locale, timbre) for timbre in FEMALE + MALE)]
    speech = {pcm_of(spoken) for spoken in speak_all(*(("Radio 1.", locale[:2], voice) for voice in voices))}
    assert len(speech) == len(voices)


def test_accents_sound_different(library: str) -> None:
    calls = [("Radio 1, gracias.", locale[:2], Voice(locale, "male1")) for locale in LOCALES]
    assert len({pcm_of(spoken) for spoken in speak_all(*calls)}) == len(LOCALES)


def test_speed_changes_how_long_it_takes(library: str) -> None:
    slow, usual, fast = (
        len(pcm_of(spoken))
        for spoken in speak_all(*((SENTENCES["en"], "en", None, speed) for speed in (0.5, 1.0, 2.0)))
    )
    assert slow > 1.5 * usual > 2.0 * fast


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_are_spoken_where_they_are_said_to_be(language: str, library: str) -> None:
    (spoken,) = speak_all(("Radio; no; mañana! 7: euro... (mama)", language))
    words = words_of(spoken)
    heard = sounds(pcm_of(spoken))
    assert [start for start, _ in heard] == pytest.approx([word.start_s for word in words], abs=0.03)
    assert [stop for _, stop in heard] == pytest.approx([word.stop_s for word in words], abs=0.001)


def sounds(pcm: bytes) -> list[tuple[float, float]]:
    """From where to where something is to be heard, with at least 100 ms of silence between two."""
    loud = [number for number, sample in enumerate(array("h", pcm)) if abs(sample) > LOUD]
    edges = [(a, b) for a, b in pairwise(loud) if b - a > RATE // 10]
    starts = [loud[0], *(b for _, b in edges)]
    stops = [*(a + 1 for a, _ in edges), loud[-1] + 1]
    return [(start / RATE, stop / RATE) for start, stop in zip(starts, stops, strict=True)]


def test_words_within_a_clause_begin_where_the_ones_before_them_end() -> None:
    alone, together = speak_all(("the train",), ("the train to Paris",))
    assert words_of(together)[1].start_s == pytest.approx(words_of(alone)[1].start_s, abs=0.02)
    for a, b in pairwise(words_of(together)):
        assert a.stop_s == pytest.approx(b.start_s, abs=0.06)  # a stop's closure


@pytest.mark.parametrize("text", [
    "I have 21 apples, 3.5 pears and 1234567 e-mails; don't go to the U.S. at 9:30 — ok?",
    "— Hello (world) “quoted” ... yes",
    "😀😀 👩\u200d👩\u200d👧 x \U0001d518\U0001d52b z 😀",
    "http://example.com/a?b=c user@example.org C++ #tag 50% $5 a/b AT&T",
    "日本語 and Привет and مرحبا end",
    "\x10 a\x01b \0",
    "a\u00a0b c\u200bd \ue000x\ty\nz",
    "x" * 500,
    "1" * 100 + " " + "2" * 100,
    "- - - — — …",
    "!?",
    "a " * 250,
])  # fmt: skip
def test_words_that_are_joined_split_or_silent_are_told_once_and_in_order(text: str, library: str) -> None:
    assert speak_all((text,))


def test_marks_that_stand_alone_take_no_time() -> None:
    (spoken,) = speak_all(("— hello — world ...",))
    assert [word.text for word in words_of(spoken) if word.stop_s == word.start_s] == ["—", "—", "..."]


def test_what_is_not_to_be_heard_is_silence_of_its_length() -> None:
    pause, nothing = speak_all(("…",), ("",))
    assert words_of(pause) == [Transcript("…", 0.0, 0.0)]
    assert not pcm_of(pause).strip(b"\0")
    assert len(pcm_of(pause)) > RATE // 2
    assert not pcm_of(nothing).strip(b"\0")


def test_speech_begins_with_the_first_sample(library: str) -> None:
    texts = ["ticket", "fish", "apple", "zwei", "casa", "— Hello", "... 'Paper'", "2"]
    for spoken in speak_all(*((text, language) for text in texts for language in LANGUAGES)):
        samples = array("h", pcm_of(spoken))
        assert samples[0] != 0
        assert max(map(abs, samples[: RATE // 50])) > LOUD


def test_text_is_never_a_command(library: str) -> None:
    spoken = speak_all(
        ("hello",), ("<speak>hello</speak>",), ("[[h@l'oU]]",), ("--version",), ("a\0b \x0150P c",), ("a b  50P c",),
        ("hello \ud800 you",), ("hello ? you",),
    )  # fmt: skip
    plain, ssml, phonemes, option, controls, spaces, surrogate, mark = map(pcm_of, spoken)
    assert len(ssml) > 2 * len(plain)
    assert len(phonemes) > 1.5 * len(plain)
    assert len(option) > RATE
    assert controls == spaces
    assert surrogate == mark


@settings(max_examples=10)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=10), language=st.sampled_from(LANGUAGES))
def test_any_text_is_spoken_with_its_words(texts: list[str], language: str) -> None:
    speak_all(*((text, language) for text in texts))


def test_what_was_spoken_before_makes_no_difference(library: str) -> None:
    calls = [
        (text, language, voice, speed)
        for text in (SENTENCES["en"], "Radio 1, zoo, fish.")
        for language in ("en", "de")
        for voice in (None, Voice("en-gb", "female2"))
        for speed in (1.0, 1.7)
    ]
    forwards = speak_all(*calls, *calls)
    assert forwards[: len(calls)] == forwards[len(calls) :]
    assert speak_all(*reversed(calls)) == forwards[: len(calls)][::-1]


@pytest.mark.parametrize("library", ["system"], indirect=True)
@pytest.mark.parametrize("language", LANGUAGES)
def test_speech_is_that_of_the_program(language: str, library: str) -> None:
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("no program espeak-ng; apt-get install espeak-ng installs it")
    names = {"en": "en-us"}
    arguments = [program, "--stdin", "--stdout", "-b", "1", "-v", names.get(language, language), "-s", "175"]
    done = subprocess.run(arguments, input=SENTENCES[language].encode(), stdout=subprocess.PIPE, check=True)
    pcm = WavReader().feed(done.stdout)
    (spoken,) = speak_all((SENTENCES[language], language))
    assert pcm_of(spoken) == pcm[len(pcm) - len(pcm_of(spoken)) :]
    assert not pcm[: len(pcm) - len(pcm_of(spoken))].strip(b"\0")


# --- the order of words and PCM


def collect(text: str, pcm: bytes, begins: list[tuple[int, int]], cuts: list[int]) -> list[Spoken]:
    """Feed PCM in pieces, each with the words that begin in it."""
    words = SpokenWords(text)
    edges = [0, *sorted(min(2 * cut, len(pcm)) for cut in cuts), len(pcm)]
    messages: list[tuple[bytes, bytes]] = []
    for number, (a, b) in enumerate(pairwise(edges), 2):
        inside = [begin for begin in begins if a <= 2 * begin[1] < b or (number == len(edges) and 2 * begin[1] >= b)]
        messages += words.feed(pcm[a:b], inside)
    messages += words.flush()
    spoken: list[Spoken] = []
    names = text.split()
    for kind, payload in messages:
        if kind == AUDIO:
            spoken.append(payload)
        else:
            assert kind == WORDS
            count, start, stop = WORDS_PAYLOAD.unpack(payload)
            assert count > 0
            spoken += spread_words(" ".join(names[:count]), start / RATE, stop / RATE)
            del names[:count]
    return spoken


@given(data=st.data())
def test_any_cut_of_the_speech_gives_the_same_words_and_pcm(data: st.DataObject) -> None:
    text = data.draw(st.text("ab- \n", max_size=12))
    runs = data.draw(st.lists(st.tuples(st.sampled_from([0, 1, -400, 400]), st.integers(1, 3000)), max_size=6))
    samples = array("h", [level for level, length in runs for _ in range(length)])
    edges = st.integers(0, len(samples))
    # The library's order is that of the samples; the characters may be any.
    at = sorted(data.draw(st.lists(edges, max_size=6)))
    begins = [(data.draw(st.integers(0, 13)), sample) for sample in at] if text.split() else []
    whole = collect(text, samples.tobytes(), begins, [])
    cut = collect(text, samples.tobytes(), begins, data.draw(st.lists(edges, max_size=6)))
    assert words_of(cut) == words_of(whole)
    assert pcm_of(cut) == pcm_of(whole)
    sound = samples.tobytes().lstrip(b"\0")
    silence = (2 * len(samples) - len(sound)) // 2 * 2 if sound else 0
    assert pcm_of(whole) == samples.tobytes()[silence:]
    check_order(text, whole)
    check_order(text, cut)


# --- processes


def test_twenty_sentences_at_once_are_each_what_they_are_alone(library: str) -> None:
    texts = [f"Sentence {number}, spoken {'very ' * (number % 7)}fast." for number in range(20)]
    voices = [None, Voice("en-gb", "male2"), Voice("en-us", "female3")]
    calls = [(text, "en", voices[number % 3], 1.0 + number % 2) for number, text in enumerate(texts)]

    async def main() -> list[list[Spoken]]:
        async with started(num_workers=2) as synthesizer:
            return await asyncio.gather(*(speak(synthesizer, *call) for call in calls))

    assert run(main()) == speak_all(*calls)


def test_sentences_are_served_in_the_order_in_which_they_came() -> None:
    order: list[int] = []

    async def main() -> None:
        async with started() as synthesizer:

            async def speak_one(number: int) -> None:
                await speak(synthesizer, "Yes, " * (20 - number))
                order.append(number)

            await asyncio.gather(*map(speak_one, range(20)))

    run(main())
    assert order == list(range(20))


def test_a_client_that_does_not_listen_holds_nobody_up() -> None:
    async def main() -> None:
        async with started() as synthesizer:
            may_go_on = asyncio.Event()
            spoken: list[Spoken] = []

            async def wait(item: Spoken) -> None:
                await may_go_on.wait()
                spoken.append(item)

            text = "This is slow. " * 35
            slow = asyncio.create_task(synthesizer.synthesize(text, "en", None, 0.5, wait))
            expected = await speak(synthesizer, SENTENCES["en"])
            assert not slow.done()
            assert spoken == []
            may_go_on.set()
            await slow
            assert spoken == await speak(synthesizer, text, "en", None, 0.5)
            assert expected == await speak(synthesizer, SENTENCES["en"])

    run(main())


def pid_of(synthesizer: EspeakSynthesizer) -> int:
    (worker,) = synthesizer._idle
    return worker._process.pid


def test_a_cancelled_sentence_leaves_its_process_to_the_next(processes: Processes) -> None:
    async def main() -> None:
        async with started() as synthesizer:
            pid = pid_of(synthesizer)
            expected = await speak(synthesizer, "This is the next.")
            for num_turns in range(40):
                cancelled = asyncio.create_task(speak(synthesizer, "This will not be heard. " * 20))
                waiting = asyncio.create_task(speak(synthesizer, "Neither will this."))
                following = asyncio.create_task(speak(synthesizer, "This is the next."))
                for _ in range(num_turns):
                    await asyncio.sleep(0)
                for _ in range(1 + num_turns % 2):
                    cancelled.cancel()
                    waiting.cancel()
                    await asyncio.sleep(0)
                assert await following == expected
                for task in (cancelled, waiting):
                    with pytest.raises(asyncio.CancelledError):
                        await task
            assert pid_of(synthesizer) == pid

    run(main())
    processes.assert_none_left()


def test_a_sentence_whose_client_fails_is_over_when_that_is_told() -> None:
    async def main() -> None:
        async with started() as synthesizer:

            async def fail(item: Spoken) -> None:
                raise ConnectionError("gone")

            with pytest.raises(ConnectionError, match="gone"):
                await synthesizer.synthesize("This will not be heard. " * 20, "en", None, 1.0, fail)
            assert pid_of(synthesizer)
            assert await speak(synthesizer, "Next.")

    run(main())


def test_a_process_that_is_killed_costs_its_sentence_and_no_other(processes: Processes) -> None:
    async def main() -> None:
        async with started() as synthesizer:
            expected = await speak(synthesizer, SENTENCES["en"])
            pid = pid_of(synthesizer)
            os.kill(pid, signal.SIGSTOP)
            begun = asyncio.create_task(speak(synthesizer, SENTENCES["en"]))
            following = asyncio.create_task(speak(synthesizer, SENTENCES["en"]))
            for _ in range(10):
                await asyncio.sleep(0)
            os.killpg(pid, signal.SIGKILL)
            # It had said nothing yet, so another can begin anew.
            assert await begun == expected
            assert await following == expected
            assert pid_of(synthesizer) != pid
            # One that dies while it waits is not even noticed.
            os.killpg(pid_of(synthesizer), signal.SIGKILL)
            assert await speak(synthesizer, SENTENCES["en"]) == expected

    run(main())
    processes.assert_none_left()


def test_a_process_that_dies_in_mid_sentence_is_told(in_workers: Prepare, processes: Processes) -> None:
    in_workers(DYING)

    async def main() -> None:
        synthesizer = EspeakSynthesizer()
        for _ in range(2):
            with pytest.raises(EngineError, match=r"^process synthesize_worker ended with status -9$"):
                await speak(synthesizer, "One. Two. Three.")
        await synthesizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_crash_of_the_library_is_told(in_workers: Prepare, processes: Processes) -> None:
    in_workers(CRASHING)

    async def main() -> None:
        synthesizer = EspeakSynthesizer()
        for _ in range(2):
            with pytest.raises(EngineError, match=r"^espeak-ng ended with status -9$"):
                await speak(synthesizer, "Crash.")
        await synthesizer.stop()

    run(main())
    processes.assert_none_left()


def test_a_sentence_that_takes_too_long_is_given_up_with_its_process(processes: Processes) -> None:
    async def main() -> None:
        synthesizer = EspeakSynthesizer(timeout_s=0.001)  # less than a process takes to begin
        for _ in range(2):
            with pytest.raises(EngineError, match=r"^espeak-ng took more than 0\.001 s$"):
                await speak(synthesizer, "Too late.")
        processes.assert_none_left()
        await synthesizer.stop()

    run(main())


def test_stop_waits_for_the_sentence_that_is_being_spoken(processes: Processes) -> None:
    async def main() -> list[Spoken]:
        async with started() as synthesizer:
            speaking = asyncio.create_task(speak(synthesizer, SENTENCES["en"]))
            await asyncio.sleep(0)
        processes.assert_none_left()
        return await speaking

    assert run(main())


def test_a_library_that_is_missing_is_named_with_what_installs_it(in_workers: Prepare, processes: Processes) -> None:
    in_workers(WITHOUT_THE_WHEEL + WITHOUT_THE_SYSTEM)

    async def main() -> None:
        synthesizer = EspeakSynthesizer()
        with pytest.raises(
            EngineError, match=r"^library espeak-ng is not installed; run pip install 'speechwire\[local\]'$"
        ):
            await synthesizer.start()
        await synthesizer.stop()

    run(main())
    processes.assert_none_left()


def test_data_may_lie_deeper_than_the_library_has_room_for(in_workers: Prepare, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    import espeakng_loader

    package = Path(espeakng_loader.__file__).parent
    (deep / "espeakng_loader").symlink_to(package)
    in_workers(f"import sys; sys.path.insert(0, {str(deep)!r})\n" + WITHOUT_THE_SYSTEM)
    assert speak_all((SENTENCES["en"],))


def test_unknown_language_is_refused() -> None:
    synthesizer = EspeakSynthesizer()
    with pytest.raises(EngineError, match=r"^no voice for language sv; expected one of en, es, fr, de, pt$"):
        synthesizer.check_language("sv")

    async def main() -> None:
        with pytest.raises(EngineError, match="no voice for language sv"):
            await speak(synthesizer, "Hej.", "sv")

    run(main())
