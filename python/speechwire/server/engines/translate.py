"""Translation by rules with the Apertium programs; a pair without a direct way goes through Spanish."""

from __future__ import annotations

import re
import shutil

from speechwire.server.engines import EngineError
from speechwire.server.engines.program import in_thread, stream_program

__all__ = ["ApertiumTranslator"]

# The modes of `apertium -l`, in the order in which a sentence passes through them.
_CHAINS = {
    ("en", "es"): ("eng-spa",),
    ("en", "fr"): ("eng-spa", "es-fr"),
    ("en", "pt"): ("eng-spa", "es-pt"),
}
_PACKAGES = {"eng-spa": "apertium-eng-spa", "es-fr": "apertium-fr-es", "es-pt": "apertium-es-pt"}
# Every chain begins with it, so without it nothing can be translated.
_FIRST_MODE = "eng-spa"
# Before a word: unknown (*), not in the bilingual dictionary (@), not in the generator (#).
_MARK = re.compile(r"[*@#](?=\w)")


class ApertiumTranslator:
    """Translates English into Spanish, French and Portuguese, one process chain per sentence.

    `timeout_s` bounds each program. Words that Apertium does not know stay as they are.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._modes: frozenset[str] = frozenset()

    async def start(self) -> None:
        """Verify that Apertium and its English-Spanish data are installed; other pairs are verified when asked for."""
        self._require(_FIRST_MODE)

    async def stop(self) -> None:
        """Nothing to release."""

    def check_pair(self, source: str, target: str) -> None:
        """Raise EngineError if no chain leads from `source` to `target` or its data are not installed."""
        for mode in _find_chain(source, target):
            self._require(mode)

    async def translate(self, text: str, source: str, target: str) -> str:
        """Return `text` in the language `target`."""
        return await in_thread(self._translate, text, source, target)

    def _translate(self, text: str, source: str, target: str) -> str:
        for mode in _find_chain(source, target):
            pieces = stream_program(["apertium", "-u", mode], text, timeout_s=self._timeout_s)
            translated = _MARK.sub("", b"".join(pieces).decode("utf-8", "replace"))
            translated = " ".join(translated.split())
            # A program that fails in the middle of Apertium's pipeline shows only as an empty result.
            if text.strip() and not translated:
                raise EngineError(f"expected a translation from apertium {mode}, got none for {len(text)} characters")
            text = translated
        return text

    def _require(self, mode: str) -> None:
        package = _PACKAGES[mode]
        if shutil.which("apertium") is None:
            raise EngineError(f"program apertium is not installed; run apt-get install apertium {package}")
        if mode not in self._modes:
            listing = b"".join(stream_program(["apertium", "-l"], "", timeout_s=self._timeout_s))
            self._modes = frozenset(listing.decode("utf-8", "replace").split())
        if mode not in self._modes:
            raise EngineError(f"apertium has no {mode}; run apt-get install {package}")


def _find_chain(source: str, target: str) -> tuple[str, ...]:
    chain = _CHAINS.get((source, target))
    if chain is None:
        known = ", ".join(f"{a}-{b}" for a, b in _CHAINS)
        raise EngineError(f"no offline translation for {source}-{target}; expected one of {known}")
    return chain
