from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from pathlib import Path

import pytest

from harness import run
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.ctranslate import (
    CTranslateTranslator,
    argos_folder,
    find_argos_packages,
    find_opus_models,
)
from tiny_models import make_argos_package, make_opus_model

pytest.importorskip("ctranslate2")
pytest.importorskip("sentencepiece")

SPANISH = {"the": "el", "train": "tren", "leaves.": "sale.", "hello": "hola"}
FRENCH = {"el": "le", "tren": "train", "sale.": "part.", "hola": "salut"}


def argos(folder: Path) -> CTranslateTranslator:
    return CTranslateTranslator("argos", lambda: find_argos_packages(folder))


def opus(folder: Path) -> CTranslateTranslator:
    return CTranslateTranslator("opus-mt", lambda: find_opus_models(folder))


async def translate(translator: CTranslateTranslator, *texts: str, source: str = "en", target: str = "es") -> list[str]:
    try:
        await translator.start()
        translator.check_pair(source, target)
        return await asyncio.gather(*(translator.translate(text, source, target) for text in texts))
    finally:
        await translator.stop()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("adds_source_eos", [False, True])
def test_an_opus_model_translates(tmp_path: Path, *, adds_source_eos: bool) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH, adds_source_eos=adds_source_eos)
    assert run(translate(opus(tmp_path), "the train leaves.", "hello")) == ["el tren sale.", "hola"]


@pytest.mark.usefixtures("offline")
def test_an_argos_package_translates(tmp_path: Path) -> None:
    make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    assert run(translate(argos(tmp_path), "hello the train")) == ["hola el tren"]


def test_the_folder_may_be_the_model_itself(tmp_path: Path) -> None:
    model = make_opus_model(tmp_path / "opus-mt-tc-big-en-es", SPANISH)
    package = make_argos_package(tmp_path / "package", "en", "es", SPANISH)
    assert run(translate(opus(model), "hello")) == run(translate(argos(package), "hello")) == ["hola"]


def test_sentences_are_translated_one_by_one(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    # Together they would be longer than the 16 words that the model can place.
    sentence = "the train leaves."
    assert run(translate(opus(tmp_path), " ".join([sentence] * 7))) == [" ".join(["el tren sale."] * 7)]


def test_unknown_words_stay_as_they_are(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    assert run(translate(opus(tmp_path), "hello Zaphod")) == ["hola Zaphod"]


def test_no_text_is_no_text(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    assert run(translate(opus(tmp_path), "", " ")) == ["", ""]


def test_a_third_language_leads_from_one_to_another(tmp_path: Path) -> None:
    make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    make_argos_package(tmp_path / "es_fr", "es", "fr", FRENCH)
    assert run(translate(argos(tmp_path), "the train leaves.", target="fr")) == ["le train part."]


def test_a_pair_that_is_not_there_is_refused(tmp_path: Path) -> None:
    make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    make_argos_package(tmp_path / "es_fr", "es", "fr", FRENCH)
    with pytest.raises(EngineError, match=r"^expected a pair that en-es, es-fr lead to, got fr-en$"):
        run(translate(argos(tmp_path), "tren", source="fr", target="en"))


def test_cancelling_leaves_the_translator_to_the_next(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)

    async def main() -> str:
        translator = opus(tmp_path)
        await translator.start()
        try:
            tasks = [asyncio.create_task(translator.translate("hello", "en", "es")) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            return await translator.translate("hello", "en", "es")
        finally:
            await translator.stop()

    assert run(main()) == "hola"


def test_no_thread_is_left(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    before = set(threading.enumerate())
    run(translate(opus(tmp_path), "hello"))
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("file", ["model/model.bin", "sentencepiece.model"])
def test_a_missing_file_of_a_package_is_named(tmp_path: Path, file: str) -> None:
    package = make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    (package / file).unlink()
    with pytest.raises(EngineError, match=rf"^file {re.escape(str(package / file))} of the Argos package is missing; "):
        run(translate(argos(tmp_path)))


@pytest.mark.parametrize("file", ["source.spm", "target.spm"])
def test_a_missing_file_of_an_opus_model_is_named(tmp_path: Path, file: str) -> None:
    model = make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    (model / file).unlink()
    with pytest.raises(EngineError, match=rf"^file {re.escape(str(model / file))} of .*--copy_files source.spm target"):
        run(translate(opus(tmp_path)))


def test_packages_of_another_tokenizer_are_left_out(tmp_path: Path) -> None:
    make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    other = make_argos_package(tmp_path / "es_fr", "es", "fr", FRENCH)
    (other / "sentencepiece.model").rename(other / "bpe.model")
    assert set(find_argos_packages(tmp_path)) == {("en", "es")}


@pytest.mark.usefixtures("offline")
def test_an_empty_folder_says_what_fills_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=rf"^no Argos package is in {re.escape(str(tmp_path))}; download .* unzip "):
        run(translate(argos(tmp_path)))
    with pytest.raises(EngineError, match=rf"^no OPUS-MT model is in {re.escape(str(tmp_path))}; run ct2-transformers"):
        run(translate(opus(tmp_path)))
    with pytest.raises(EngineError, match=r"^no OPUS-MT model is in .*nowhere; run "):
        run(translate(opus(tmp_path / "nowhere")))


def test_a_folder_without_languages_in_its_name_is_refused(tmp_path: Path) -> None:
    make_opus_model(tmp_path / "spanish", SPANISH)
    with pytest.raises(EngineError, match=r"^expected a folder with a name such as opus-mt-en-es, got spanish$"):
        run(translate(opus(tmp_path / "spanish")))
    make_opus_model(tmp_path / "opus-mt-es-fr", FRENCH)
    assert set(find_opus_models(tmp_path)) == {("es", "fr")}


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_description_is_named(tmp_path: Path, text: str) -> None:
    package = make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    (package / "metadata.json").write_text(text)
    with pytest.raises(EngineError, match=re.escape(str(package / "metadata.json"))):
        run(translate(argos(tmp_path)))


@pytest.mark.parametrize("file", ["model.bin", "source.spm", "target.spm"])
def test_a_damaged_file_is_named(tmp_path: Path, file: str) -> None:
    model = make_opus_model(tmp_path / "opus-mt-en-es", SPANISH)
    (model / file).write_bytes(b"nothing")
    named = model if file == "model.bin" else model / file
    with pytest.raises(EngineError, match=rf"^{re.escape(str(named))} cannot be loaded: "):
        run(translate(opus(tmp_path)))


@pytest.mark.parametrize("metadata", [{}, {"from_code": "en"}, {"from_code": "en", "to_code": 5}])
def test_a_package_that_names_no_languages_is_an_error(tmp_path: Path, metadata: dict[str, object]) -> None:
    file = make_argos_package(tmp_path / "en_es", "en", "es", SPANISH) / "metadata.json"
    file.write_text(json.dumps(metadata))
    with pytest.raises(EngineError, match=rf"^expected from_code and to_code in {re.escape(str(file))}, got "):
        run(translate(argos(tmp_path)))


def test_a_prefix_is_given_and_not_said(tmp_path: Path) -> None:
    package = make_argos_package(tmp_path / "en_es", "en", "es", SPANISH)
    metadata = json.loads((package / "metadata.json").read_text())
    # A word of the target language in the place of a language's mark: what follows is the second word.
    (package / "metadata.json").write_text(json.dumps(metadata | {"target_prefix": "\u2581hola"}))
    assert run(translate(argos(tmp_path), "the train leaves.")) == ["tren sale."]


def test_packages_are_looked_for_where_argos_translate_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARGOS_PACKAGES_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert argos_folder() == Path("/home/somebody/.local/share/argos-translate/packages")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert argos_folder() == Path("/data/argos-translate/packages")
    monkeypatch.setenv("ARGOS_PACKAGES_DIR", "/packages")
    assert argos_folder() == Path("/packages")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(EngineError, match=r"ctranslate2.*pip install 'speechwire\[argos\]'$"):
        run(translate(argos(tmp_path)))
