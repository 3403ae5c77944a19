from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from pathlib import Path

import pytest

from harness import run
from speechwire.events import Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.piper import PiperSynthesizer
from speechwire.server.engines.stages import Spoken
from speechwire.server.voices import Voice
from tiny_models import make_piper_voice

pytest.importorskip("piper")
pytest.importorskip("onnx")

SAMPLE_RATE = 22050
HOP = 500  # samples for a phoneme


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_piper_voice(
        tmp_path_factory.mktemp("voices") / "en_US-hum-low.onnx", "en-us", SAMPLE_RATE, samples_per_phoneme=HOP
    )


async def say_with(
    synthesizer: PiperSynthesizer, text: str, language: str = "en", speed: float = 1.0, voice: Voice | None = None
) -> list[Spoken]:
    spoken: list[Spoken] = []

    async def say(what: Spoken) -> None:
        spoken.append(what)

    await synthesizer.synthesize(text, language, voice, speed, say)
    return spoken


async def synthesise(
    files: list[Path], text: str = "", language: str = "en", speed: float = 1.0
) -> tuple[list[Spoken], int]:
    synthesizer = PiperSynthesizer(files)
    try:
        await synthesizer.start()
        return await say_with(synthesizer, text, language, speed), synthesizer.sample_rate
    finally:
        await synthesizer.stop()


def pcm(spoken: list[Spoken]) -> bytes:
    return b"".join(item for item in spoken if isinstance(item, bytes))


@pytest.mark.usefixtures("offline")
def test_each_word_is_said_before_its_audio(english: Path) -> None:
    spoken, sample_rate = run(synthesise([english], "Hello my dear friend."))
    assert sample_rate == SAMPLE_RATE
    num_samples = 0
    words: list[Transcript] = []
    for item in spoken:
        if isinstance(item, bytes):
            assert len(item) % 2 == 0
            num_samples += len(item) // 2
        else:
            assert item.start_s == pytest.approx(num_samples / SAMPLE_RATE, abs=2 / SAMPLE_RATE)
            words.append(item)
    assert [word.text for word in words] == ["Hello", "my", "dear", "friend."]
    assert words[-1].stop_s == pytest.approx(num_samples / SAMPLE_RATE, abs=2 / SAMPLE_RATE)
    # The voice hums at each phoneme, and eSpeak NG hears one for about each letter.
    assert 15 * HOP <= num_samples <= 60 * HOP


def test_silence_at_the_start_is_left_out(english: Path) -> None:
    spoken, _ = run(synthesise([english], "Hello."))
    assert abs(int.from_bytes(pcm(spoken)[:2], "little", signed=True)) > 10000


def test_speed_is_that_of_the_speech(english: Path) -> None:
    usual, fast, slow = (pcm(run(synthesise([english], "Hello my friend.", speed=speed))[0]) for speed in (1, 2, 0.5))
    assert len(fast) * 2 == len(usual)
    assert len(slow) == len(usual) * 2


def test_several_voices_have_one_rate(english: Path, tmp_path: Path) -> None:
    spanish = make_piper_voice(tmp_path / "es.onnx", "es-419", 16000, samples_per_phoneme=HOP)
    alone, own_rate = run(synthesise([spanish], "hola amigo", "es"))
    beside, common_rate = run(synthesise([spanish, english], "hola amigo", "es"))
    assert (own_rate, common_rate) == (16000, SAMPLE_RATE)
    assert len(pcm(beside)) / SAMPLE_RATE == pytest.approx(len(pcm(alone)) / 16000, abs=0.005)


def test_a_language_without_a_voice_is_refused(english: Path) -> None:
    with pytest.raises(EngineError, match=r"^no voice for language es; expected one of en$"):
        run(synthesise([english], "hola", "es"))


def test_brackets_are_no_phonemes(english: Path) -> None:
    plain, brackets = (pcm(run(synthesise([english], text))[0]) for text in ("hello x", "hello [[[x]]]"))
    # As phonemes they would be a single one.
    assert len(brackets) >= len(plain)


@pytest.mark.parametrize("text", ["", " ", "...", "\u4f60"])
def test_what_has_no_words_of_the_language_does_no_harm(english: Path, text: str) -> None:
    spoken, _ = run(synthesise([english], text))
    assert len(pcm(spoken)) % 2 == 0
    assert [item.text for item in spoken if isinstance(item, Transcript)] == text.split()


def test_a_text_that_cannot_be_spoken_is_an_error_of_the_engine(english: Path) -> None:
    with pytest.raises(EngineError, match=r"^piper failed: "):
        run(synthesise([english], "x\0y"))


def test_many_at_once_are_said_as_alone(english: Path) -> None:
    texts = ["Hello.", "My friend.", "Good morning there.", "Yes."]

    async def main() -> tuple[list[list[Spoken]], list[list[Spoken]]]:
        synthesizer = PiperSynthesizer([english])
        await synthesizer.start()
        try:
            alone = [await say_with(synthesizer, text) for text in texts]
            return alone, await asyncio.gather(*(say_with(synthesizer, text) for text in texts))
        finally:
            await synthesizer.stop()

    alone, together = run(main())
    assert alone == together


def test_while_one_client_does_not_listen_others_are_served(english: Path) -> None:
    async def main() -> list[Spoken]:
        synthesizer = PiperSynthesizer([english])
        await synthesizer.start()
        stuck = asyncio.Event()

        async def say(what: Spoken) -> None:
            stuck.set()
            await asyncio.Future()

        task = asyncio.create_task(synthesizer.synthesize("Hello.", "en", None, 1.0, say))
        try:
            await stuck.wait()
            return await say_with(synthesizer, "Hello.", voice=Voice("en-gb", "male1"))
        finally:
            task.cancel()
            await asyncio.wait([task])
            await synthesizer.stop()

    assert pcm(run(main()))


def test_cancelling_leaves_the_synthesizer_to_the_next(english: Path) -> None:
    async def main() -> list[Spoken]:
        synthesizer = PiperSynthesizer([english])
        await synthesizer.start()
        try:
            tasks = [asyncio.create_task(say_with(synthesizer, "Hello my friend.")) for _ in range(5)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            return await say_with(synthesizer, "Hello.")
        finally:
            await synthesizer.stop()

    assert pcm(run(main()))


def test_no_thread_is_left(english: Path) -> None:
    before = set(threading.enumerate())
    run(synthesise([english], "Hello."))
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_missing_file_is_named_with_the_line_that_fetches_it(tmp_path: Path, suffix: str) -> None:
    file = make_piper_voice(tmp_path / "en_US-lessac-medium.onnx", "en-us", SAMPLE_RATE, samples_per_phoneme=HOP)
    missing = Path(f"{file}{suffix}")
    missing.unlink()
    expected = (
        f"file {missing} of the Piper voice is missing; run python -m piper.download_voices "
        f"--download-dir {tmp_path} en_US-lessac-medium"
    )
    with pytest.raises(EngineError, match=f"^{re.escape(expected)}$"):
        run(synthesise([file]))


def test_two_voices_of_a_language_are_refused(english: Path) -> None:
    with pytest.raises(EngineError, match=r"^expected one voice for a language, got a second for en: "):
        run(synthesise([english, english]))


@pytest.mark.usefixtures("offline")
def test_a_voice_that_would_fetch_a_dictionary_is_refused(tmp_path: Path) -> None:
    file = make_piper_voice(tmp_path / "zh.onnx", "cmn", SAMPLE_RATE, samples_per_phoneme=HOP)
    described = Path(f"{file}.json")
    described.write_text(json.dumps(json.loads(described.read_text()) | {"phoneme_type": "pinyin"}))
    with pytest.raises(EngineError, match=r"^expected a voice with phonemes of type espeak or text, got pinyin: "):
        run(synthesise([file]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"espeak": {"voice": 3}, "audio": {"sample_rate": 1}}'])
def test_settings_that_make_no_sense_are_named(tmp_path: Path, text: str) -> None:
    file = make_piper_voice(tmp_path / "en.onnx", "en-us", SAMPLE_RATE, samples_per_phoneme=HOP)
    described = Path(f"{file}.json")
    described.write_text(text)
    with pytest.raises(EngineError, match=f"^file {re.escape(str(described))} is not that of a Piper voice: "):
        run(synthesise([file]))


def test_a_damaged_voice_is_named(tmp_path: Path) -> None:
    file = make_piper_voice(tmp_path / "en.onnx", "en-us", SAMPLE_RATE, samples_per_phoneme=HOP)
    file.write_bytes(b"nothing")
    with pytest.raises(EngineError, match=rf"^{re.escape(str(file))} cannot be loaded: "):
        run(synthesise([file]))


def test_a_missing_library_is_named(english: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(EngineError, match=r"piper.*pip install 'speechwire\[piper\]'$"):
        run(synthesise([english]))
