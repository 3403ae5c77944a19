"""Text that comes in pieces, cut into sentences to be spoken, and speech shared out to the words of a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from speechwire.events import Transcript

__all__ = ["SentenceSplitter", "spread_words"]

# Marks that end a sentence, with what may close behind them. Followed by a space, for "3.5" is one word. A run of marks
# is looked at once: it is begun only at its first, and nothing of it is given back.
_END: Final = re.compile(r"(?<![.!?;…])[.!?;…]++[\"'”\u2019»)\]]*+(?=\s)|\n++")
# A sentence that does not end is cut here, which bounds what is kept and how long a synthesiser may take.
MAX_SENTENCE_CHARACTERS: Final = 500
_PIECE: Final = re.compile(
    rf"\S(?:.{{0,{MAX_SENTENCE_CHARACTERS - 2}}}\S)?(?!\S)|\S{{{MAX_SENTENCE_CHARACTERS}}}", re.DOTALL
)


class SentenceSplitter:
    """Collects text with one space between two pieces, and gives out each sentence as soon as it is complete."""

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> Iterator[str]:
        """Add text and yield the sentences that it completes; to be pulled to the end before the next."""
        # A piece ends a word, and so perhaps a sentence.
        text = f"{self._pending} {text} "
        start = 0
        for end in _END.finditer(text):
            yield from _cut(text[start : end.end()])
            start = end.end()
        *pieces, self._pending = [*_cut(text[start:])] or [""]
        yield from pieces

    def flush(self) -> Iterator[str]:
        """Yield the sentence that is not complete, if there is one."""
        rest, self._pending = self._pending, ""
        return iter([rest] if rest else [])


def spread_words(text: str, start_s: float, stop_s: float) -> list[Transcript]:
    """Share a span out to the words of a text, to each in proportion to its letters and digits."""
    words = text.split()
    edges = [0, *accumulate(max(1, sum(map(str.isalnum, word))) for word in words)]
    times = [round(start_s + (stop_s - start_s) * edge / edges[-1], 6) for edge in edges] if words else []
    return [Transcript(word, *times[number : number + 2]) for number, word in enumerate(words)]


def _cut(text: str) -> Iterator[str]:
    for piece in _PIECE.finditer(text):
        yield " ".join(piece[0].split())
