from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.events import Transcript
from speechwire.server.engines.sentences import MAX_SENTENCE_CHARACTERS, SentenceSplitter, spread_words


def split(*texts: str) -> tuple[list[str], list[str]]:
    """Return what comes at once, and what comes at the end."""
    splitter = SentenceSplitter()
    return [sentence for text in texts for sentence in splitter.feed(text)], list(splitter.flush())


@pytest.mark.parametrize(
    ("texts", "at_once", "at_the_end"),
    [
        (["Good morning. How are"], ["Good morning."], ["How are"]),
        (["Good", "morning."], ["Good morning."], []),
        (["It is 3.5 or v1.2 now"], [], ["It is 3.5 or v1.2 now"]),
        (["Really?! Yes; no… ok"], ["Really?!", "Yes;", "no…"], ["ok"]),
        (['He said "go." She went'], ['He said "go."'], ["She went"]),
        (["one\ntwo", "\nthree"], ["one", "two"], ["three"]),
        (["  a   b \t c. "], ["a b c."], []),
        (["", " ", "\n"], [], []),
    ],
)
def test_sentences_end_where_they_do(texts: list[str], at_once: list[str], at_the_end: list[str]) -> None:
    assert split(*texts) == (at_once, at_the_end)


@given(st.text('ab .!?\n;"', max_size=200))
def test_no_word_is_lost(text: str) -> None:
    at_once, at_the_end = split(text)
    assert " ".join([*at_once, *at_the_end]).split() == text.split()


@given(st.lists(st.sampled_from(["a", "bc", "d.", "3.5", "e!", '"f?"', ";"]), max_size=40), st.data())
def test_any_cut_between_words_gives_the_same_sentences(words: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(words)), max_size=5)))
    pieces = [" ".join(words[a:b]) for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
    (some, rest), (all_some, all_rest) = split(*pieces), split(" ".join(words))
    assert some + rest == all_some + all_rest


@pytest.mark.parametrize("text", ["word " * 5000, "x" * 5000, "word " * 5000 + "."])
def test_what_does_not_end_is_cut(text: str) -> None:
    at_once, at_the_end = split(text)
    assert all(len(sentence) <= MAX_SENTENCE_CHARACTERS for sentence in at_once + at_the_end)
    assert "".join("".join(at_once + at_the_end).split()) == "".join(text.split())
    assert sum(map(len, at_the_end)) <= MAX_SENTENCE_CHARACTERS


@pytest.mark.parametrize("run", [".", "?!", ".)", ';;"', "\u2026\u2019", "\n"])
def test_a_long_run_of_marks_is_read_once(run: str) -> None:
    # Reading it again from each of its marks would take days.
    text = run * (1_000_000 // len(run)) + "a"
    at_once, at_the_end = split(text)
    assert "".join("".join(at_once + at_the_end).split()) == "".join(text.split())


def test_a_span_is_shared_out_by_letters() -> None:
    assert spread_words("Is it, 42?", 1.0, 2.2) == [
        Transcript("Is", 1.0, 1.4),
        Transcript("it,", 1.4, 1.8),
        Transcript("42?", 1.8, 2.2),
    ]
    assert spread_words("- go", 0.0, 3.0) == [Transcript("-", 0.0, 1.0), Transcript("go", 1.0, 3.0)]
    assert spread_words("", 0.0, 1.0) == []
