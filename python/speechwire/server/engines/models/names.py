"""The stages of the local engine by the names that a user gives: `NAME`, or `NAME:PATH` where a model is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from speechwire.server.engines.stages import Recognizer, Synthesizer, Translator

__all__ = ["RECOGNIZERS", "SYNTHESIZERS", "TRANSLATORS", "recognizer_named", "synthesizer_named", "translator_named"]


@dataclass(frozen=True, slots=True)
class ModelName:
    """How one stage is named.

    Args:
        name: What it is called.
        path: What may stand behind a colon, or "" for nothing.
        is_needed: True if it must stand there.
    """

    name: str
    path: str = ""
    is_needed: bool = False

    def __str__(self) -> str:
        if not self.path:
            return self.name
        return f"{self.name}:{self.path}" if self.is_needed else f"{self.name}[:{self.path}]"


RECOGNIZERS: Final = (ModelName("pocketsphinx"), ModelName("faster-whisper", "SIZE|FOLDER"))
TRANSLATORS: Final = (
    ModelName("apertium"),
    ModelName("argos", "FOLDER"),
    ModelName("opus-mt", "FOLDER", is_needed=True),
)
SYNTHESIZERS: Final = (ModelName("espeak"), ModelName("piper", "FILE.onnx[,FILE.onnx...]", is_needed=True))


def recognizer_named(text: str) -> Recognizer:
    """Return a recogniser, not started; nothing of its library is loaded yet.

    Raises:
        ValueError: There is none of that name, or a path is missing or not expected.
    """
    name, path = _parse(text, RECOGNIZERS)
    if name == "faster-whisper":
        from speechwire.server.engines.models.whisper import WhisperRecognizer

        return WhisperRecognizer(path) if path else WhisperRecognizer()
    from speechwire.server.engines.recognize import PocketSphinxRecognizer

    return PocketSphinxRecognizer()


def translator_named(text: str) -> Translator:
    """Return a translator, as above."""
    name, path = _parse(text, TRANSLATORS)
    if name == "argos":
        from speechwire.server.engines.models.ctranslate import CTranslateTranslator, argos_folder, find_argos_packages

        folder = Path(path) if path else argos_folder()
        return CTranslateTranslator("argos", lambda: find_argos_packages(folder))
    if name == "opus-mt":
        from speechwire.server.engines.models.ctranslate import CTranslateTranslator, find_opus_models

        return CTranslateTranslator("opus-mt", lambda: find_opus_models(Path(path)))
    from speechwire.server.engines.translate import ApertiumTranslator

    return ApertiumTranslator()


def synthesizer_named(text: str) -> Synthesizer:
    """Return a synthesiser, as above."""
    name, path = _parse(text, SYNTHESIZERS)
    if name == "piper":
        from speechwire.server.engines.models.piper import PiperSynthesizer

        return PiperSynthesizer([Path(file) for file in path.split(",")])
    from speechwire.server.engines.synthesize import EspeakSynthesizer

    return EspeakSynthesizer()


def _parse(text: str, names: tuple[ModelName, ...]) -> tuple[str, str]:
    """Return the name and the path, which is "" if there is none."""
    name, _, path = text.partition(":")
    for known in names:
        if known.name == name and (path or not known.is_needed) and (known.path or ":" not in text):
            return name, path
    *others, last = map(str, names)
    raise ValueError(f"expected {', '.join(others)} or {last}, got {text!r}")
