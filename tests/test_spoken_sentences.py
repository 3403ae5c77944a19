"""Sentences that nobody of ours has spoken, through the whole wire: what is heard, and what it is translated into.

The figures are those of `make bench-local`; here stand the bounds.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import pytest

from harness import run
from recognition import transcribe
from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines.local import LocalEngine
from spoken_sentences import HELD_OUT, SAMPLE_RATE, VOICES, SpokenSentence, normalize, speak, word_errors

T = TypeVar("T")
AT_ONCE = 4


@pytest.fixture(scope="module")
def sentences() -> list[SpokenSentence]:
    """Each sentence once, the voices in turns."""
    return [speak([text], [VOICES[number % len(VOICES)]])[0] for number, text in enumerate(HELD_OUT)]


async def interpret(base_url: str, sentence: SpokenSentence, language: str) -> str:
    client = GradiumClient(base_url=base_url, api_key="k")
    setup = {
        "input_format": f"pcm_{SAMPLE_RATE}",
        "output_format": "pcm_24000",
        "json_config": {"target_language": language},
    }
    result = await client.s2s(setup, sentence.pcm)
    return " ".join(text.text for text in result.text_with_timestamps)


def through_the_wire(
    ask: Callable[[str, SpokenSentence], Awaitable[str]], sentences: Sequence[SpokenSentence]
) -> list[str]:
    async def main() -> list[str]:
        async with serve(LocalEngine()) as address:
            turns = asyncio.Semaphore(AT_ONCE)

            async def ask_in_turn(sentence: SpokenSentence) -> str:
                async with turns:
                    return await ask(f"{address}/api/", sentence)

            return await asyncio.gather(*map(ask_in_turn, sentences))

    return run(main())


def without_opening_marks(text: str) -> str:
    return text.translate(str.maketrans("", "", "¿¡"))


def ask_apertium(text: str) -> str:
    command = ["apertium", "-u", "eng-spa"]
    output = subprocess.run(command, check=True, input=text, capture_output=True, text=True).stdout
    translated = " ".join(output.split())
    return translated[0].upper() + translated[1:]


def test_fewer_than_15_words_in_100_are_wrong(sentences: list[SpokenSentence]) -> None:
    assert len(sentences) >= 30
    heard = through_the_wire(transcribe, sentences)
    errors = sum(word_errors(text, sentence.text) for text, sentence in zip(heard, sentences, strict=True))
    num_words = sum(len(normalize(sentence.text)) for sentence in sentences)
    print(f"{errors} of {num_words} words are wrong: {errors / num_words:.1%}")  # noqa: T201
    assert errors < 0.15 * num_words


def test_what_is_heard_right_is_translated_as_apertium_does(sentences: list[SpokenSentence]) -> None:
    # Spoken again in the language in which they were heard, sentences are what the translator would have got.
    heard = through_the_wire(partial(interpret, language="en"), sentences)
    translations = through_the_wire(partial(interpret, language="es"), sentences)
    right = [
        (sentence.text, text, translation)
        for sentence, text, translation in zip(sentences, heard, translations, strict=True)
        if normalize(text) == normalize(sentence.text)
    ]
    assert len(right) >= 15
    as_written = 0
    for reference, text, translation in right:
        # The recogniser hears no commas and no names, so the reference is brought into its spelling.
        assert without_opening_marks(translation) == ask_apertium(text), text
        as_written += without_opening_marks(translation) == ask_apertium(reference)
    print(f"{len(right)} of {len(sentences)} heard right; {as_written} as the reference as it was written")  # noqa: T201
