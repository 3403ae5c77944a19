"""Modes of Apertium that stay loaded: the same words as from its own script, any text, failures of the programs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import run
from processes import Processes
from speechwire.server.engines import EngineError
from speechwire.server.engines.apertium import Mode

MODES = {"eng-spa": "en", "spa-eng": "es", "es-fr": "es", "fr-es": "fr", "es-pt": "es", "pt-es": "pt"}
SENTENCES = {
    "en": [
        "I want to buy a ticket for tomorrow.",
        "What's your name? Don't worry, it's John's car.",
        "WHERE IS THE TRAIN STATION?",
        "He said: “I'll be back” - and left...",
        "I gave up. I'm looking forward to it.",
        "Of course, at least, in front of the dog's owner's house.",
        "New York is big; I have been living there since 1999.",
        "It costs 3.50 dollars (or $4), 50% off!",
        "don't",
        "the station\tis\nhere",
    ],
    "es": [
        "Quiero comprar una entrada para mañana.",
        "¿Dónde está la estación de tren? ¡Hola!",
        "DÁMELO AHORA.",
        "Dímelo, por favor; se lo di a él del todo.",
        "Las niñas comían manzanas. Los niños, no.",
        "Cuesta 3,50 euros (50 %).",
        "«Hola», dijo el señor García.",
        "a lo mejor sin embargo",
        "A el de el",
        "1.º 2ª",
    ],
    "fr": [
        "Je veux acheter un billet pour demain.",
        "Où est la gare ? Est-ce qu\u2019il vient ? Non !",
        "L'homme qu'il a vu n'est pas là aujourd'hui.",
        "IL FAIT BEAU.",
        "J'ai 3,50 €.",
        "Du pain et de l'eau des enfants",
        "Qu'est-ce que c'est ?",
        "« Bonjour », dit-il.",
        "Donne-le-moi.",
        "au",
    ],
    "pt": [
        "Quero comprar um bilhete para amanhã.",
        "Onde fica a estação de trem?",
        "Dá-me isso, por favor. Vou falar-lhe amanhã; ele deu-mo.",
        "No dia da festa dos meninos, comi pão.",
        "EU NÃO SEI.",
        "Custa 3,50 euros (50 %).",
        "«Olá», disse o senhor.",
        "Há-de ser.",
        "à",
        "1.º 2ª",
    ],
}
TRICKY = [
    "zorblax frobnicated quux",
    "Write to john.smith@example.com or see http://www.example.org/a/b?c=d&e=f#g.",
    "a [b] {c} <d> ^e$ \\f/ @g *h #i +j ~k | l",
    "C++ and C# #1 @home *star* 5*3 a#b a+b =x %y",
    "x~y ~z ~ ~~ a~",
    "^ $ [ ] { } < > / \\ @ + * # ~",
    "[7] [] [[x]] \\[1\\] [<STREAMCMD:SETVAR:x>]",
    "^a/b<n>$ ^{$}$",
    "C:\\folder\\file.txt \\",
    '"',
    "'",
    ".",
    "... ?!?! . -",
    "<b>bold</b> &amp; _x_ `y`",
    "日本語 Привет мир",
    "emoji 😀 🇺🇦 𝜆",
    "e\u0301 zero\u200bwidth soft\u00adhyphen \ufeffmark",
    "non\u00a0breaking thin\u2009space line\u2028end",
    "control \x01 \x1f \x7f \x85 characters",
    "a\0b\0",
    " leading,  two  and trailing ",
    "1 1.000,50 1,000.50 2024-05-03 10:30 20°C ½ €5 5$",
    "e.g. Mr. Smith, U.S.A. Dr. No.",
    "(parenthesis) 'tis \u2018a\u2019 — dash … word-word and/or O'Neil",
    "UN DEUX three",
    "A",
    "a",
    "word.word",
    "very " * 499 + "good.",
    "",
    "   ",
    "#",
    "@",
    "*",
    "~",
]


async def ask_apertium(mode: str, text: str) -> str:
    process = await asyncio.create_subprocess_exec("apertium", "-u", mode, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    translated, _ = await process.communicate(text.encode())
    return " ".join(translated.decode().split())


def programs(mode: Mode) -> list[Process]:
    return [process for _, process in mode._processes]


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def running(name: str) -> AsyncIterator[Mode]:
    """Yield a mode whose programs have been started."""
    mode = Mode(name, "none", 100.0)
    try:
        await mode.translate("Radio.")
        yield mode
    finally:
        await mode.stop()


async def begin(mode: Mode, text: str) -> asyncio.Task[str]:
    """Return a call that has sent its text, if no other is before it."""
    task = asyncio.create_task(mode.translate(text))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("name", MODES)
def test_a_mode_says_what_apertium_says(name: str, processes: Processes) -> None:
    texts = SENTENCES[MODES[name]] + TRICKY
    assert len(texts) >= 40

    async def main() -> None:
        num_free = asyncio.Semaphore(2)

        async def expect(text: str) -> str:
            async with num_free:
                return await ask_apertium(name, text)

        expected = await asyncio.gather(*map(expect, texts))
        async with running(name) as mode:
            # Twice: what was said before changes nothing.
            for order in (1, -1):
                assert [await mode.translate(text) for text in texts[::order]] == expected[::order]

    run(main())
    processes.assert_none_left()


def test_where_a_mode_differs_from_apertium() -> None:
    async def main() -> None:
        async with running("eng-spa") as mode:
            # A paragraph does not end a sentence, as nobody says one.
            assert await mode.translate("the house\n\nthe dog") == await ask_apertium("eng-spa", "the house the dog")
            assert await ask_apertium("eng-spa", "the house\n\nthe dog") == "La casa El perro"
            # The end of the stream, to the programs.
            assert await ask_apertium("eng-spa", "the\uffff house") == "El\uffff"
            assert await mode.translate("the\uffff house") == await mode.translate("the house")
            # No character at all.
            assert await mode.translate("the\ud800 house") == await mode.translate("the house")

    run(main())


@settings(max_examples=5)
@given(texts=st.lists(st.text(st.sampled_from(" ^$[]{}<>/\\@*#+~=%&|_.,;:!?\"'()-\n\t"), max_size=30), max_size=200))
def test_characters_of_the_stream_format_pass_through(texts: list[str]) -> None:
    async def main() -> None:
        async with running("eng-spa") as mode:
            for text in texts:
                assert await mode.translate(text) == " ".join(text.split())

    run(main())


@settings(max_examples=8)
@given(
    name=st.sampled_from(list(MODES)),
    texts=st.lists(
        st.text(
            st.one_of(st.sampled_from("^$[]{}<>/\\@*#+~\0\n ."), st.characters(), st.characters(max_codepoint=255))
        ),
        max_size=200,
    ),
)
def test_any_text_leaves_the_next_one_its_answer(name: str, texts: list[str]) -> None:
    async def main() -> None:
        async with running(name) as mode:
            expected = await mode.translate("Radio 1.")
            first = programs(mode)
            for text in texts:
                try:
                    translated = await mode.translate(text)
                except EngineError as error:
                    assert str(error).startswith(f"expected a translation from apertium {name}, got none for ")  # noqa: PT017
                else:
                    assert not set(translated) & set("\0\n")
                assert await mode.translate("Radio 1.") == expected
            assert programs(mode) == first

    run(main())


def test_long_text_is_more_than_the_pipes_hold() -> None:
    async def main() -> None:
        async with running("es-pt") as mode:
            assert await mode.translate("casa 1, " * 60_000) == ("casa 1, " * 60_000).strip()

    run(main())


def test_callers_get_their_own_answers_in_the_order_of_their_texts() -> None:
    async def main() -> None:
        async with running("eng-spa") as mode:
            answered: list[int] = []

            async def ask(number: int) -> None:
                text = "I want to buy a ticket. " * (number * 7 % 40)
                assert (await mode.translate(f"{text}Good morning, {number}.")).endswith(f"Buenos días, {number}.")
                answered.append(number)

            await asyncio.gather(*map(ask, range(60)))
            assert answered == list(range(60))

    run(main())


def test_cancelled_callers_are_not_waited_for_and_get_no_answer_of_others() -> None:
    async def main() -> None:
        async with running("eng-spa") as mode:
            first = programs(mode)
            os.kill(first[4].pid, signal.SIGSTOP)
            tasks = [await begin(mode, f"Good morning, {number}.") for number in range(4)]
            # The first has been sent; the third waits for its turn.
            for number in (0, 2):
                tasks[number].cancel()
                await asyncio.wait([tasks[number]])
                assert tasks[number].cancelled()
            os.kill(first[4].pid, signal.SIGCONT)
            assert await tasks[1] == "Buenos días, 1."
            assert await tasks[3] == "Buenos días, 3."
            assert await mode.translate("Good morning, 4.") == "Buenos días, 4."
            assert programs(mode) == first
            assert mode._num_texts == 5  # the third was not translated

    run(main())


def test_a_text_that_takes_too_long_ends_the_programs_and_the_next_has_new_ones(processes: Processes) -> None:
    async def main() -> None:
        async with running("es-pt") as mode:
            first = programs(mode)
            os.kill(first[2].pid, signal.SIGSTOP)
            mode._timeout_s = 0.5
            late = await begin(mode, "Buenos días.")
            waiting = await begin(mode, "Buenos días.")
            with pytest.raises(EngineError, match=r"^apertium es-pt took more than 0\.5 s for 12 characters$"):
                await late
            mode._timeout_s = 100.0  # new programs have to load their dictionaries first
            assert await waiting == "Bons dias."
            assert first[2].returncode == -signal.SIGKILL
            # One whose neighbour is killed first may end by itself.
            assert all(process.returncode is not None for process in first)

    run(main())
    processes.assert_none_left()


@pytest.mark.parametrize("name", ["eng-spa", "es-pt"])
def test_the_end_of_any_program_in_mid_sentence_is_an_error_and_the_next_is_translated(
    name: str, processes: Processes
) -> None:
    async def main() -> None:
        async with running(name) as mode:
            expected = await mode.translate("Radio 1, no 2.")
            for number in range(len(programs(mode))):
                first = programs(mode)
                os.kill(first[number].pid, signal.SIGSTOP)
                broken = await begin(mode, "Radio 1, no 2.")
                waiting = await begin(mode, "Radio 1, no 2.")
                os.kill(first[number].pid, signal.SIGKILL)
                # The program is named where its status is known in time.
                end = r"in a text of 14 characters(; \S+ ended with status -9)?$"
                with pytest.raises(EngineError, match=rf"^apertium {name} broke off {end}"):
                    await broken
                assert await waiting == expected
                assert all(process.returncode is not None for process in first)

    run(main())
    processes.assert_none_left()


def test_the_end_of_any_program_between_two_sentences_is_not_noticed(processes: Processes) -> None:
    async def main() -> None:
        async with running("es-pt") as mode:
            for number in range(len(programs(mode))):
                process = programs(mode)[number]
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()
                assert await mode.translate("Buenos días.") == "Bons dias."

    run(main())
    processes.assert_none_left()


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, program: str = "") -> Mode:
    """Return a mode that is this command; `program` is what the shell does in place of `fake`."""
    (folder / "modes").mkdir()
    (folder / "modes" / "eng-spa.mode").write_text(command)
    (folder / "fake").write_text(f"#!/bin/sh\n{program}\n")
    (folder / "fake").chmod(0o755)
    monkeypatch.setenv("APERTIUM_DATADIR", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Mode("eng-spa", "none", 10.0)


def fail(mode: Mode) -> str:
    """Return why a text is not translated; the mode is stopped then."""

    async def main() -> str:
        with pytest.raises(EngineError) as failure:
            await mode.translate("Hello")
        await mode.stop()
        return str(failure.value)

    return run(main())


def test_an_answer_that_is_cut_short_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the programs behind one that ended say what has come, and the end of the text.
    mode = install(tmp_path, monkeypatch, "fake", "head -c 4; printf '\\0'; exec cat")
    assert fail(mode) == "apertium eng-spa broke off in a text of 5 characters"


def test_an_answer_of_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = install(tmp_path, monkeypatch, "fake", "printf '.[1]\\0'; exec cat >/dev/null")
    assert fail(mode) == "expected a translation from apertium eng-spa, got none for 5 characters"


@pytest.mark.parametrize(("command", "error"), [
    ("cat-1 '/none' | fake", "program cat-1 cannot be started: No such file or directory"),
    ("fake 'a b' $2 | cat-1", "program cat-1 cannot be started: No such file or directory"),
    ("lt-proc $1 'none.bin'", "apertium eng-spa broke off in a text of 5 characters; lt-proc ended with status 1"),
    ("fake | fake", "apertium eng-spa broke off in a text of 5 characters; fake ended with status 3; fake ended with "
        "status 3"),
])  # fmt: skip
def test_what_ended_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Processes, command: str, error: str
) -> None:
    assert fail(install(tmp_path, monkeypatch, command, "head -c 1 >/dev/null; exit 3")) == error
    processes.assert_none_left()


def test_a_file_that_is_no_pipeline_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = fail(install(tmp_path, monkeypatch, "lt-proc 'x"))
    assert error == f"mode {tmp_path}/modes/eng-spa.mode of apertium cannot be read: No closing quotation"


def test_the_locale_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")

    async def main() -> None:
        async with running("spa-eng") as mode:
            assert await mode.translate("Buenos días, señor Muñoz 日本.") == "Good morning, gentleman Muñoz 日本."

    run(main())


def test_stop_in_mid_sentence_fails_all_callers_and_leaves_nothing(processes: Processes) -> None:
    async def main() -> None:
        num_descriptors = count_descriptors()
        async with running("eng-spa") as mode:
            os.kill(programs(mode)[3].pid, signal.SIGSTOP)
            tasks = [await begin(mode, "Good morning.") for _ in range(3)]
            await mode.stop()
            for task in tasks:
                with pytest.raises(EngineError, match=r"^apertium eng-spa was stopped$"):
                    await task
            with pytest.raises(EngineError, match=r"^apertium eng-spa was stopped$"):
                await mode.translate("Good morning.")
        assert count_descriptors() == num_descriptors

    run(main())
    processes.assert_none_left()


def test_stop_while_the_programs_are_being_started_leaves_nothing(processes: Processes) -> None:
    async def main() -> None:
        for num_turns in range(12):
            mode = Mode("es-pt", "none", 10.0)
            task = asyncio.create_task(mode.translate("Buenos días."))
            for _ in range(num_turns):
                await asyncio.sleep(0)
            await mode.stop()
            with pytest.raises(EngineError, match=r"^apertium es-pt was stopped$"):
                await task

    run(main())
    processes.assert_none_left()


SERVER = """
import asyncio, sys
from speechwire.server.engines.apertium import Mode

async def main():
    modes = [Mode(name, "none", 60.0) for name in ("eng-spa", "es-pt")]
    for mode in modes:
        await mode.translate("Radio.")
    task = asyncio.create_task(modes[1].translate("casa " * 1_000_000))
    await asyncio.sleep(0.05)
    print(task.done(), flush=True)
    await task

asyncio.run(main())
"""


def test_the_programs_end_with_a_server_that_is_killed(processes: Processes) -> None:
    async def main() -> None:
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=PIPE)
        assert server.stdout is not None
        assert await server.stdout.readline() == b"False\n"  # one mode waits, the other is in mid-sentence
        assert len(processes.find()) > 10
        os.kill(server.pid, signal.SIGKILL)
        await server.communicate()

    run(main())
    processes.assert_none_left()
