"""Translation by rules with Apertium; a pair without a direct way goes through Spanish."""

from __future__ import annotations

import asyncio
import re

from speechwire.server.engines import EngineError
from speechwire.server.engines.apertium import Mode
from speechwire.server.engines.sentences import SentenceSplitter

__all__ = ["ApertiumTranslator"]

# The modes of `apertium -l`, and the packages that they come with.
_MODES = {
    ("en", "es"): ("eng-spa", "apertium-eng-spa"),
    ("es", "en"): ("spa-eng", "apertium-eng-spa"),
    ("es", "fr"): ("es-fr", "apertium-fr-es"),
    ("es", "pt"): ("es-pt", "apertium-es-pt"),
    ("fr", "es"): ("fr-es", "apertium-fr-es"),
    ("pt", "es"): ("pt-es", "apertium-es-pt"),
}
_BRIDGE = "es"
# Started with the server. Each of the others takes 35 to 80 ms at its first text, and 45 to 100 MB from then on.
_FIRST_PAIR = ("en", "es")
_FIRST_LETTER = re.compile(r"^\W*\w")
_LOOSE_SPACE = re.compile(r" (?=[.,?!]+(?:\s|$))")
_CLOSING_MARKS = (".", "?", "!")
_OPENING_MARKS = {"?": "¿", "!": "¡"}
_NO_OPENING_MARKS = str.maketrans("", "", "".join(_OPENING_MARKS.values()))


class ApertiumTranslator:
    """Translates between English, Spanish, French and Portuguese, as far as their packages are installed.

    Each mode has one row of programs for all sessions. Words that it does not know stay as they are. A text that begins
    with a capital and ends with a mark does so in the other language.

    Args:
        timeout_s: Seconds that a mode may take for one text.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._modes = {pair: Mode(name, package, timeout_s) for pair, (name, package) in _MODES.items()}

    async def start(self) -> None:
        """Start the programs for English to Spanish, through which every sentence of the recogniser goes.

        Raises:
            EngineError: Apertium or that pair is not installed, or does not work.
        """
        for mode in self._modes.values():
            mode.open()
        await self._modes[_FIRST_PAIR].translate("Hello.")

    async def stop(self) -> None:
        """End all programs."""
        await asyncio.gather(*(mode.stop() for mode in self._modes.values()))

    def check_pair(self, source: str, target: str) -> None:
        """Raise EngineError if there is no way from `source` to `target`, or it is not installed."""
        for mode in self._find_way(source, target):
            mode.check()

    async def translate(self, text: str, source: str, target: str) -> str:
        """Return `text`, of one sentence or several, in the language `target`.

        Raises:
            EngineError: A mode took too long, or failed, or had no answer.
        """
        translated = text
        for mode in self._find_way(source, target):
            translated = await mode.translate(translated)
        return _finish(translated, text.strip(), target)

    def _find_way(self, source: str, target: str) -> list[Mode]:
        pairs = _find_pairs(source, target)
        if not set(pairs) <= set(self._modes):
            languages = sorted({language for pair in self._modes for language in pair})
            known = ", ".join(
                f"{a}-{b}"
                for a in languages
                for b in languages
                if a != b and all(self._modes[pair].is_installed for pair in _find_pairs(a, b))
            )
            raise EngineError(f"no offline translation for {source}-{target}; expected one of {known}")
        return [self._modes[pair] for pair in pairs]


def _find_pairs(source: str, target: str) -> list[tuple[str, str]]:
    if _BRIDGE in (source, target):
        return [(source, target)]
    return [(source, _BRIDGE), (_BRIDGE, target)]


def _finish(translated: str, text: str, target: str) -> str:
    """Give a translation the first capital and the last mark of its text, and in Spanish the mark that opens."""
    translated = _LOOSE_SPACE.sub("", translated)
    if (first := _FIRST_LETTER.match(text)) and first[0].isupper():
        translated = _FIRST_LETTER.sub(lambda found: found[0].upper(), translated)
    if text.endswith(_CLOSING_MARKS) and not translated.endswith(text[-1]):
        translated += text[-1]
    if target != "es":
        # They come from the Spanish in between.
        return translated.translate(_NO_OPENING_MARKS)
    sentences = SentenceSplitter()
    return " ".join(
        sentence if opening in sentence else opening + sentence
        for sentence in (*sentences.feed(translated), *sentences.flush())
        for opening in [_OPENING_MARKS.get(sentence[-1], "")]
    )
