"""The translator that comes with Speechwire: which pairs there are, what a sentence keeps, what is missing."""

from __future__ import annotations

import asyncio
import os
from itertools import permutations
from pathlib import Path

import pytest

from harness import run
from processes import Processes
from speechwire.server.engines import EngineError
from speechwire.server.engines.stages import Translator
from speechwire.server.engines.translate import ApertiumTranslator

SENTENCES = {
    "en": "The house is big.",
    "es": "La casa es grande.",
    "fr": "La maison est grande.",
    "pt": "A casa é grande.",
}


def translate(*requests: tuple[str, str, str]) -> list[str]:
    async def main() -> list[str]:
        translator: Translator = ApertiumTranslator()
        try:
            for _, source, target in requests:
                translator.check_pair(source, target)
            return [await translator.translate(*request) for request in requests]
        finally:
            await translator.stop()

    return run(main())


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *modes: str) -> None:
    """Let these modes be the only ones."""
    (folder / "modes").mkdir()
    for mode in modes:
        (folder / "modes" / f"{mode}.mode").symlink_to(f"/usr/share/apertium/modes/{mode}.mode")
    monkeypatch.setenv("APERTIUM_DATADIR", str(folder))


def test_every_pair_has_a_way(processes: Processes) -> None:
    pairs = list(permutations(SENTENCES, 2))
    answers = translate(*((SENTENCES[source], source, target) for source, target in pairs))
    assert answers == [SENTENCES[target] for _, target in pairs]
    processes.assert_none_left()


@pytest.mark.parametrize(("text", "source", "target", "expected"), [
    ("Where is it?", "en", "es", "¿Dónde es?"),
    ("I want to go! Where is it? It is 3.5 metres.", "en", "es", "¡Quiero ir! ¿Dónde es? Es 3.5 metros."),
    ("Where is it?", "en", "pt", "Onde é?"),
    ("¡Quiero ir! ¿Dónde?", "es", "pt", "Quero ir! Onde?"),
    ("¿Dónde?", "es", "en", "Where?"),
    ("Quero ir!", "pt", "es", "¡Quiero ir!"),
    ("¿Zorblax?", "es", "en", "Zorblax?"),
    ("zorblax quux", "en", "es", "zorblax quux"),
    ("Zorblax quux!", "en", "fr", "Zorblax quux!"),
    ("", "en", "fr", ""),
    (" \n", "en", "es", ""),
])  # fmt: skip
def test_a_sentence_keeps_its_capital_and_its_mark(text: str, source: str, target: str, expected: str) -> None:
    assert translate((text, source, target)) == [expected]


@pytest.mark.parametrize("target", ["es", "fr", "pt"])
def test_what_looks_like_a_mark_for_an_unknown_word_stays(target: str) -> None:
    (translated,) = translate(("Radio #1, 5*3 = 15, john@example.com, @home, C#.", "en", target))
    assert all(part in translated for part in ("#1", "5*3 = 15", "john@example.com", "@", "C#"))
    # None comes from Apertium: not for a word that is in no dictionary either.
    assert translate(("Zorblax, frobnicates.", "en", target)) == ["Zorblax, frobnicates."]


def test_text_cannot_become_an_option() -> None:
    assert translate(("-l", "en", "es"), ("--version", "en", "es")) == ["-l", "--Versión"]


def test_start_has_the_first_pair_ready_and_no_other(processes: Processes) -> None:
    async def main() -> None:
        translator = ApertiumTranslator()
        await translator.start()
        started = processes.find()
        assert started
        assert all("eng-spa" in program or "pretransfer" in program for program in started)
        await translator.translate("Good morning.", "en", "es")
        assert sorted(processes.find()) == sorted(started)
        await translator.translate("Good morning.", "en", "pt")
        assert any("es-pt" in program for program in processes.find())
        await translator.stop()

    run(main())
    processes.assert_none_left()


def test_sessions_share_the_programs_and_a_cancelled_one_leaves_them_to_the_others(processes: Processes) -> None:
    async def main() -> None:
        translator = ApertiumTranslator()
        await translator.start()
        calls = [asyncio.create_task(translator.translate(f"Hello, {n}.", "en", "pt")) for n in range(20)]
        for _ in range(5):
            await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) if number % 3 == 0 else answer == f"Olá, {number}."
        await translator.stop()

    run(main())
    processes.assert_none_left()


def test_unknown_pairs_are_refused_and_the_installed_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = ApertiumTranslator()
    every = "en-es, en-fr, en-pt, es-en, es-fr, es-pt, fr-en, fr-es, fr-pt, pt-en, pt-es, pt-fr"
    for source, target in (("en", "de"), ("de", "en"), ("es", "sv")):
        with pytest.raises(
            EngineError, match=rf"^no offline translation for {source}-{target}; expected one of {every}$"
        ):
            translator.check_pair(source, target)
    install(tmp_path, monkeypatch, "eng-spa", "es-fr")
    with pytest.raises(EngineError, match=r"^no offline translation for en-de; expected one of en-es, en-fr, es-fr$"):
        run(translator.translate("Hello.", "en", "de"))


def test_missing_parts_are_named_with_what_installs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = ApertiumTranslator()
    install(tmp_path, monkeypatch, "eng-spa")
    translator.check_pair("en", "es")
    with pytest.raises(EngineError, match=r"^apertium has no es-fr; run apt-get install apertium-fr-es$"):
        translator.check_pair("en", "fr")
    with pytest.raises(EngineError, match=r"^apertium has no pt-es; run apt-get install apertium-es-pt$"):
        run(translator.translate("Olá.", "pt", "en"))
    (tmp_path / "modes" / "eng-spa.mode").unlink()
    with pytest.raises(EngineError, match=r"^apertium has no eng-spa; run apt-get install apertium-eng-spa$"):
        run(translator.start())
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(
        EngineError, match=r"^program apertium is not installed; run apt-get install apertium apertium-eng-spa$"
    ):
        run(translator.start())
    run(translator.stop())
