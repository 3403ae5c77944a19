"""Translation with Transformer models in CTranslate2's form: packages of Argos Translate, and OPUS-MT.

An Argos package is a folder with such a model and a SentencePiece model, so it needs neither the package argostranslate
nor the two gigabytes of PyTorch and Stanza that come with it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from speechwire.server.engines import EngineError
from speechwire.server.engines.models.threads import ModelThread, import_library, reading
from speechwire.server.engines.sentences import SentenceSplitter

__all__ = ["CTranslateTranslator", "argos_folder", "find_argos_packages", "find_opus_models"]

_EOS: Final = "</s>"
_BEAM_SIZE: Final = 4
# Of a sentence of 500 characters; what goes on for longer repeats itself.
_MAX_TOKENS: Final = 256
_OPUS_NAME: Final = re.compile(r"-([a-z]{2,3})-([a-z]{2,3})$")
_SPACE: Final = "\u2581"  # SentencePiece's mark, which some vocabularies leave in the text


@dataclass(frozen=True, slots=True)
class PairFiles:
    """What the translation from one language into another is made of.

    Args:
        model: Folder with CTranslate2's model.bin.
        source_pieces: SentencePiece model of the source language.
        target_pieces: That of the target language, or the same.
        ends_source: True if the model wants to be told where the source ends, and does not add it itself.
        target_prefix: First token of every translation, or "".
    """

    model: Path
    source_pieces: Path
    target_pieces: Path
    ends_source: bool
    target_prefix: str = ""


Pair = tuple[str, str]


class CTranslateTranslator:
    """Translates between the pairs of languages that it finds, and from one to another through a third.

    Args:
        extra: What installs the libraries, for errors.
        find: Returns the files of every pair; raises EngineError if there are none.
    """

    def __init__(self, extra: str, find: Callable[[], Mapping[Pair, PairFiles]]) -> None:
        self._extra = extra
        self._find = find
        self._thread = ModelThread(extra)
        self._models: dict[Pair, _Model] = {}

    async def start(self) -> None:
        """Load the models of all pairs."""
        await self._thread.call(self._load)

    async def stop(self) -> None:
        """Release the models and their threads."""
        self._thread.stop()
        self._models.clear()

    def check_pair(self, source: str, target: str) -> None:
        """Raise EngineError if no model, and no two of them, lead from `source` to `target`."""
        self._way(source, target)

    async def translate(self, text: str, source: str, target: str) -> str:
        """Return `text` in the language `target`, sentence by sentence."""
        return await self._thread.call(self._translate, text, self._way(source, target))

    def _load(self) -> None:
        ctranslate2 = import_library("ctranslate2", self._extra)
        sentencepiece = import_library("sentencepiece", self._extra)
        for pair, files in self._find().items():
            self._models[pair] = _Model(ctranslate2, sentencepiece, files)

    def _way(self, source: str, target: str) -> list[_Model]:
        if (direct := self._models.get((source, target))) is not None:
            return [direct]
        for (first, middle), model in self._models.items():
            if first == source and (second := self._models.get((middle, target))) is not None:
                return [model, second]
        known = ", ".join(f"{first}-{second}" for first, second in sorted(self._models))
        raise EngineError(f"expected a pair that {known} lead to, got {source}-{target}")

    @staticmethod
    def _translate(text: str, way: list[_Model]) -> str:
        for model in way:
            text = model.translate(text)
        return text


class _Model:
    """One direction, loaded."""

    def __init__(self, ctranslate2: Any, sentencepiece: Any, files: PairFiles) -> None:
        self._files = files
        with reading(files.model):
            self._translator = ctranslate2.Translator(
                str(files.model), compute_type="auto", inter_threads=1, intra_threads=len(os.sched_getaffinity(0))
            )
        with reading(files.source_pieces):
            self._source = sentencepiece.SentencePieceProcessor(model_file=str(files.source_pieces))
        with reading(files.target_pieces):
            self._target = (
                self._source
                if files.target_pieces == files.source_pieces
                else sentencepiece.SentencePieceProcessor(model_file=str(files.target_pieces))
            )

    def translate(self, text: str) -> str:
        # The models have learned from single sentences, and drop what follows the first.
        splitter = SentenceSplitter()
        sentences = [*splitter.feed(text), *splitter.flush()]
        end = [_EOS] if self._files.ends_source else []
        prefix = [self._files.target_prefix] if self._files.target_prefix else []
        results = self._translator.translate_batch(
            [self._source.encode(sentence, out_type=str) + end for sentence in sentences],
            target_prefix=[prefix] * len(sentences) if prefix else None,
            beam_size=_BEAM_SIZE,
            max_decoding_length=_MAX_TOKENS,
            replace_unknowns=True,  # by the word of the source, such as a name
        )
        texts = (self._target.decode(result.hypotheses[0][len(prefix) :]) for result in results)
        return " ".join(" ".join(texts).replace(_SPACE, " ").split())


def argos_folder() -> Path:
    """Return the folder in which Argos Translate keeps its packages."""
    if folder := os.environ.get("ARGOS_PACKAGES_DIR"):
        return Path(folder)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "argos-translate" / "packages"


def find_argos_packages(folder: Path) -> dict[Pair, PairFiles]:
    """Return the pairs of the unpacked .argosmodel packages in a folder, or of the one that it is itself.

    Packages with a bpe.model instead of a SentencePiece model are left out.

    Raises:
        EngineError: There is none, or a file of one is missing.
    """
    pairs: dict[Pair, PairFiles] = {}
    for package in _folders(folder, "metadata.json"):
        metadata = _read_object(package / "metadata.json")
        pair = (metadata.get("from_code"), metadata.get("to_code"))
        if not all(isinstance(code, str) and code for code in pair):
            raise EngineError(f"expected from_code and to_code in {package / 'metadata.json'}, got {pair}")
        pieces = package / "sentencepiece.model"
        if (package / "bpe.model").is_file():
            continue  # of another tokenizer, which does not come with the extra
        for file in (package / "model" / "model.bin", pieces):
            if not file.is_file():
                raise EngineError(f"file {file} of the Argos package is missing; unpack its .argosmodel again")
        pairs[str(pair[0]), str(pair[1])] = PairFiles(
            package / "model", pieces, pieces, ends_source=False, target_prefix=str(metadata.get("target_prefix", ""))
        )
    if not pairs:
        raise EngineError(
            f"no Argos package is in {folder}; download one from https://www.argosopentech.com/argospm/index/ and run "
            f"unzip translate-en_es.argosmodel -d {folder}"
        )
    return pairs


def find_opus_models(folder: Path) -> dict[Pair, PairFiles]:
    """Return the pairs of the converted OPUS-MT models in a folder, or of the one that it is itself.

    The folder of a model has a name that ends in its languages, as in opus-mt-en-es.

    Raises:
        EngineError: There is none, a file of one is missing, or the folder is one and its name has no languages.
    """
    pairs: dict[Pair, PairFiles] = {}
    for model in _folders(folder, "model.bin"):
        name = _OPUS_NAME.search(model.resolve().name)
        if name is None and model != folder:
            continue  # a model of something else
        if name is None:
            raise EngineError(f"expected a folder with a name such as opus-mt-en-es, got {model.resolve().name}")
        files = PairFiles(
            model,
            model / "source.spm",
            model / "target.spm",
            ends_source=not _read_object(model / "config.json").get("add_source_eos", False),
        )
        for file in (files.source_pieces, files.target_pieces):
            if not file.is_file():
                raise EngineError(
                    f"file {file} of the OPUS-MT model is missing; convert it with --copy_files source.spm target.spm"
                )
        pairs[name[1], name[2]] = files
    if not pairs:
        raise EngineError(
            f"no OPUS-MT model is in {folder}; run ct2-transformers-converter --model Helsinki-NLP/opus-mt-en-es "
            f"--copy_files source.spm target.spm --quantization int8 --output_dir {folder / 'opus-mt-en-es'}"
        )
    return pairs


def _folders(folder: Path, file: str) -> list[Path]:
    """The folder itself if `file` is in it, else those in it that have one."""
    if (folder / file).is_file():
        return [folder]
    return sorted(found.parent for found in folder.glob(f"*/{file}"))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"file {path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise EngineError(f"expected an object in {path}, got {type(value).__name__}")
    return value
