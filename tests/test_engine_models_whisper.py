from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from harness import run
from speechwire.codec import WavReader, resample
from speechwire.events import Flush
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.whisper import WhisperRecognizer
from speechwire.server.engines.stages import Activity, Heard, Utterance
from tiny_models import WHISPER_TEXT, make_whisper_model

faster_whisper = pytest.importorskip("faster_whisper")

SAMPLE_RATE = 16000
STEP_BYTES = 2 * SAMPLE_RATE * 80 // 1000


@pytest.fixture(scope="module")
def english_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper_model(tmp_path_factory.mktemp("models") / "tiny.en", is_multilingual=False)


@cache
def speech() -> bytes:
    """Nine seconds, three sentences."""
    reader = WavReader()
    pcm = reader.feed((Path(__file__).parent.parent / "examples" / "train_station.wav").read_bytes())
    assert reader.sample_rate is not None
    return resample(pcm, reader.sample_rate, SAMPLE_RATE)


async def pieces(items: Sequence[bytes | Flush]) -> AsyncIterator[bytes | Flush]:
    for item in items:
        yield item


async def hear(recognizer: WhisperRecognizer, *items: bytes | Flush, language: str = "en") -> list[Heard]:
    heard: list[Heard] = []

    async def report(what: Heard) -> None:
        heard.append(what)

    await recognizer.recognize(language, pieces(items), report)
    return heard


async def recognise(model: Path | str, *items: bytes | Flush, language: str = "en") -> list[Heard]:
    recognizer = WhisperRecognizer(str(model))
    try:
        await recognizer.start()
        return await hear(recognizer, *items, language=language)
    finally:
        await recognizer.stop()


def utterances(heard: list[Heard]) -> list[Utterance]:
    return [item for item in heard if isinstance(item, Utterance)]


@pytest.mark.usefixtures("offline")
def test_utterances_come_with_their_words_in_the_time_of_the_stream(english_model: Path) -> None:
    found = utterances(run(recognise(english_model, speech())))
    assert len(found) >= 3
    assert all(utterance.is_final for utterance in found)
    last_s = 0.0
    for utterance in found:
        # Once: what is behind the last word is not heard again.
        assert tuple(word.text for word in utterance.words) == WHISPER_TEXT
        # Half a second each, by the model's attention.
        assert utterance.words[1].start_s == pytest.approx(utterance.words[0].start_s + 0.5, abs=0.03)
        for word in utterance.words:
            assert word.stop_s is not None
            assert last_s <= word.start_s <= word.stop_s <= len(speech()) / 2 / SAMPLE_RATE
            last_s = word.stop_s
    assert found[1].words[0].start_s > 1.5  # behind the first pause


@pytest.mark.usefixtures("offline")
def test_every_80_ms_are_reported_with_the_work_that_they_cost(english_model: Path) -> None:
    heard = run(recognise(english_model, speech()))
    steps = [item for item in heard if isinstance(item, Activity)]
    assert len(steps) == len(speech()) // STEP_BYTES
    assert {step.silence_s for step in steps} > {0.0}
    # The first step behind each utterance has its cost, the others none; the last utterance ends behind all steps.
    behind = [isinstance(last, Utterance) for last, item in pairwise([None, *heard]) if isinstance(item, Activity)]
    assert any(behind)
    assert [step.busy_s > 0.0 for step in steps] == behind


def test_the_texts_do_not_depend_on_how_the_stream_is_cut(english_model: Path) -> None:
    async def main() -> list[list[Heard]]:
        recognizer = WhisperRecognizer(str(english_model))
        await recognizer.start()
        try:
            cuts = (len(speech()), 640, 1001, 16384)
            return [
                await hear(recognizer, *(speech()[at : at + size] for at in range(0, len(speech()), size)))
                for size in cuts
            ]
        finally:
            await recognizer.stop()

    whole, *others = run(main())
    for other in others:
        assert utterances(other) == utterances(whole)
        assert [type(item) for item in other] == [type(item) for item in whole]


def test_a_flush_ends_the_utterance_and_is_reported_behind_it(english_model: Path) -> None:
    flush = Flush("f")
    middle = 2 * SAMPLE_RATE * 3  # in the second sentence
    heard = run(recognise(english_model, speech()[:middle], flush, speech()[middle:]))
    at = heard.index(flush)
    assert isinstance(heard[at - 1], Utterance)
    before, after = heard[at - 1], utterances(heard[at:])[0]
    assert isinstance(before, Utterance)
    assert before.words[-1].stop_s is not None
    assert before.words[-1].stop_s <= 3.0 <= after.words[0].start_s


def test_silence_is_no_utterance(english_model: Path) -> None:
    heard = run(recognise(english_model, bytes(4 * SAMPLE_RATE), Flush()))
    assert utterances(heard) == []
    assert [item.silence_s for item in heard if isinstance(item, Activity)][-1] == pytest.approx(2.0)


def test_an_english_model_knows_english(english_model: Path) -> None:
    with pytest.raises(EngineError, match=r"^expected as source language en, got es$"):
        run(recognise(english_model, language="es"))


@pytest.mark.usefixtures("offline")
def test_a_multilingual_model_knows_all_that_clients_ask_for(tmp_path: Path) -> None:
    model = make_whisper_model(tmp_path / "tiny", is_multilingual=True)

    async def main() -> list[list[Utterance]]:
        recognizer = WhisperRecognizer(str(model))
        await recognizer.start()
        try:
            with pytest.raises(EngineError, match=r"^expected as source language one of the \d+ of the model, got xx$"):
                recognizer.check_language("xx")
            return [
                utterances(await hear(recognizer, speech(), language=language))
                for language in ("en", "fr", "de", "es", "pt")
            ]
        finally:
            await recognizer.stop()

    first, *others = run(main())
    assert [word.text for word in first[0].words] == list(WHISPER_TEXT)
    assert all(other == first for other in others)


def test_two_streams_at_once_are_recognised_as_alone(english_model: Path) -> None:
    async def main() -> tuple[list[Heard], list[list[Heard]]]:
        recognizer = WhisperRecognizer(str(english_model))
        assert recognizer.max_streams == 2
        await recognizer.start()
        try:
            alone = await hear(recognizer, speech())
            return alone, await asyncio.gather(*(hear(recognizer, speech()) for _ in range(2)))
        finally:
            await recognizer.stop()

    alone, together = run(main())
    assert [utterances(heard) for heard in together] == [utterances(alone)] * 2


def test_cancelling_leaves_the_recogniser_to_the_next(english_model: Path) -> None:
    async def main() -> list[Heard]:
        recognizer = WhisperRecognizer(str(english_model))
        await recognizer.start()
        try:
            heard = await hear(recognizer, speech())
            num_left = next(number for number, item in enumerate(heard) if isinstance(item, Utterance))

            async def report(what: Heard) -> None:
                nonlocal num_left
                num_left -= 1
                if num_left == 0:
                    # Takes effect in the next thing that is waited for: the first utterance.
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(recognizer.recognize("en", pieces([speech()]), report))
            assert num_left == 0
            return await hear(recognizer, speech())
        finally:
            await recognizer.stop()

    assert len(utterances(run(main()))) >= 3


def test_no_thread_is_left(english_model: Path) -> None:
    run(recognise(english_model, speech()))  # the first use leaves the thread of a library's progress bar, for good
    before = set(threading.enumerate())
    run(recognise(english_model, speech()))
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    model = make_whisper_model(tmp_path / "tiny.en", is_multilingual=False)
    (model / file).unlink()
    with pytest.raises(EngineError, match=rf"^file {re.escape(str(model / file))} of the Whisper model is missing; "):
        run(recognise(model))


@pytest.mark.usefixtures("offline")
def test_a_size_that_is_not_here_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        EngineError,
        match=r"^Whisper model base is not on this machine; run python -c "
        r"\"from faster_whisper import download_model; download_model\('base'\)\"$",
    ):
        run(recognise("base"))


def test_a_size_that_is_here_is_found(
    english_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--Systran--faster-whisper-tiny.en"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("0" * 40)).symlink_to(english_model)
    assert utterances(run(recognise("tiny.en", speech())))


@pytest.mark.usefixtures("offline")
def test_what_is_neither_a_folder_nor_a_size_lists_the_sizes() -> None:
    with pytest.raises(EngineError, match=r"^expected a folder with a Whisper model or one of tiny.en, .*, got huge$"):
        run(recognise("huge"))


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    model = make_whisper_model(tmp_path / "tiny.en", is_multilingual=False)
    (model / "model.bin").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=rf"^{re.escape(str(model))} cannot be loaded: "):
        run(recognise(model))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(EngineError, match=r"faster_whisper.*pip install 'speechwire\[faster-whisper\]'$"):
        run(recognise("base"))
