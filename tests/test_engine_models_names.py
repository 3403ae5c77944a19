from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import run
from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.models.ctranslate import CTranslateTranslator
from speechwire.server.engines.models.names import recognizer_named, synthesizer_named, translator_named
from speechwire.server.engines.models.piper import PiperSynthesizer
from speechwire.server.engines.models.whisper import WhisperRecognizer
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.translate import ApertiumTranslator
from tiny_models import WHISPER_TEXT, make_opus_model, make_piper_voice, make_whisper_model


def test_each_name_has_its_stage() -> None:
    assert isinstance(recognizer_named("pocketsphinx"), PocketSphinxRecognizer)
    for name in ("faster-whisper", "faster-whisper:small", "faster-whisper:/models/a:b"):
        assert isinstance(recognizer_named(name), WhisperRecognizer)
    assert isinstance(translator_named("apertium"), ApertiumTranslator)
    for name in ("argos", "argos:/models", "opus-mt:/models"):
        assert isinstance(translator_named(name), CTranslateTranslator)
    assert isinstance(synthesizer_named("espeak"), EspeakSynthesizer)
    for name in ("piper:a.onnx", "piper:a.onnx,b.onnx"):
        assert isinstance(synthesizer_named(name), PiperSynthesizer)


@pytest.mark.parametrize("name", ["", "whisper", "pocketsphinx:", "pocketsphinx:model", ":small"])
def test_a_wrong_recogniser_lists_the_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^expected pocketsphinx or faster-whisper\[:SIZE\|FOLDER\], got '{name}'$"):
        recognizer_named(name)


@pytest.mark.parametrize("name", ["", "opus-mt", "opus-mt:", "apertium:en-es", "Argos"])
def test_a_wrong_translator_lists_the_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^expected apertium, argos\[:FOLDER\] or opus-mt:FOLDER, got '{name}'$"):
        translator_named(name)


@pytest.mark.parametrize("name", ["", "piper", "piper:", "espeak:en", "festival"])
def test_a_wrong_synthesizer_lists_the_names(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^expected espeak or piper:FILE\.onnx\[,FILE\.onnx\.\.\.\], got '{name}'$"):
        synthesizer_named(name)


def test_naming_a_stage_loads_none_of_its_libraries() -> None:
    code = (
        "import sys\n"
        "from speechwire.server.engines.models.names import *\n"
        "recognizer_named('faster-whisper'); translator_named('argos'); synthesizer_named('piper:a.onnx')\n"
        "assert not {'ctranslate2', 'faster_whisper', 'onnxruntime', 'piper', 'sentencepiece'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interpreter_is_made_of_three_models(tmp_path: Path) -> None:
    for library in ("faster_whisper", "sentencepiece", "piper", "onnx"):
        pytest.importorskip(library)
    whisper = make_whisper_model(tmp_path / "tiny.en", is_multilingual=False)
    words = ("Buenos", "d\u00edas", "amigo.")
    make_opus_model(tmp_path / "opus-mt-en-es", dict(zip(WHISPER_TEXT, words, strict=True)))
    voice = make_piper_voice(tmp_path / "es.onnx", "es", 22050, samples_per_phoneme=500)
    engine = LocalEngine(
        recognizer_named(f"faster-whisper:{whisper}"),
        translator_named(f"opus-mt:{tmp_path}"),
        synthesizer_named(f"piper:{voice}"),
    )
    speech = (Path(__file__).parent.parent / "examples" / "train_station.wav").read_bytes()

    async def main() -> tuple[list[str], int]:
        async with serve(engine) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            setup = {"input_format": "wav", "output_format": "pcm", "json_config": {"target_language": "es"}}
            stream = await client.s2s_stream(setup, speech)
            events = [message async for message in stream.iter_events()]
        texts = [message["text"] for message in events if message["type"] == "text"]
        return texts, sum(len(message["audio"]) for message in events if message["type"] == "audio")

    texts, num_bytes = run(main())
    said = " ".join(texts).split()
    assert len(said) >= 9
    assert said == list(words) * (len(said) // 3)
    assert num_bytes > 0
