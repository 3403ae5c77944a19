"""What of an answer was heard."""

from __future__ import annotations

from typing import Any

import pytest

from speechwire.telephony.ledger import Heard, Ledger, SentMark

near: Any = pytest.approx


def ledger_with(num_frames: int, *, has_marks: bool = True) -> tuple[Ledger, list[str]]:
    """Return a ledger of one answer that begins to play at 1.0 s, and the names of its marks."""
    ledger = Ledger(has_marks=has_marks)
    names = []
    for number in range(num_frames):
        begin_ms, plays_at = 20.0 * number, 1.0 + 0.02 * number
        ledger.add_frame(3, begin_ms, begin_ms + 20, plays_at, plays_at + 0.02)
        names.append(ledger.add_mark(3, begin_ms + 20, ended=number == num_frames - 1, now=1.0))
    return ledger, names


def test_nothing_was_heard_of_nothing() -> None:
    assert Ledger(has_marks=True).heard(5.0) is None


def test_estimate_goes_with_the_clock_until_a_mark_corrects_it() -> None:
    ledger, names = ledger_with(10)
    assert ledger.heard(1.03) == Heard(3, 0.0, near(30.0), is_over=False)
    # Heard 100 ms later than the grid has it, counted with the way back.
    assert ledger.return_mark(names[0], 1.12) == SentMark(0, 3, 20.0, 1.02, ended=False)
    assert ledger.heard(1.15) == Heard(3, 20.0, near(50.0), is_over=False)
    assert ledger.heard(9.0) == Heard(3, 20.0, 200.0, is_over=True)


def test_a_mark_confirms_all_before_it() -> None:
    ledger, names = ledger_with(10)
    assert ledger.return_mark(names[4], 1.1) is not None
    assert ledger.return_mark(names[2], 1.1) is None
    assert ledger.return_mark(names[4], 1.1) is None
    heard = ledger.heard(1.1)
    assert heard is not None
    assert heard.confirmed_ms == 100.0
    assert (ledger.num_marks_returned, ledger.num_marks_flushed) == (1, 2)


def test_marks_that_were_pending_when_all_was_forgotten_confirm_nothing() -> None:
    ledger, names = ledger_with(10)
    ledger.forget()
    assert [ledger.return_mark(name, 1.0) for name in names] == [None] * 10
    assert ledger.heard(2.0) is None
    assert ledger.num_marks_flushed == 10


@pytest.mark.parametrize(
    "name", ["4-5", "3-05", "3-" + "0" * 20 + "9" * 5000, "3-" + "0" * 20 + "99", "3-\u0665", "3-10", "3-", "5", ""]
)
def test_a_name_that_was_not_given_out_is_nobodys_mark(name: str) -> None:
    ledger, names = ledger_with(10)
    assert not ledger.is_ours(name)
    assert all(map(ledger.is_ours, names))
    assert ledger.return_mark(names[0], 1.0) is not None  # none of those behind it was lost


def test_answers_may_have_any_number() -> None:
    ledger = Ledger(has_marks=True)
    ledger.add_frame(-1, 0.0, 20.0, 1.0, 1.02)
    name = ledger.add_mark(-1, 20.0, ended=True, now=1.0)
    assert ledger.is_ours(name)
    assert ledger.return_mark(name, 1.1) is not None


def test_without_marks_there_is_only_the_clock() -> None:
    ledger, _ = ledger_with(10, has_marks=False)
    assert ledger.heard(0.5) == Heard(3, None, 0.0, is_over=False)
    assert ledger.heard(1.01) == Heard(3, None, near(10.0), is_over=False)


def test_a_mark_that_was_sent_when_all_was_heard_tells_the_way_and_not_the_wait() -> None:
    ledger, _ = ledger_with(1)
    name = ledger.add_mark(3, 20.0, ended=True, now=5.0)
    ledger.return_mark(name, 5.2)
    ledger.add_frame(4, 0.0, 20.0, 6.0, 6.02)
    assert ledger.heard(6.21) == Heard(4, 0.0, near(10.0), is_over=False)


def test_a_far_end_that_returns_nothing_does_not_fill_the_ledger() -> None:
    ledger, names = ledger_with(1000)
    assert ledger.return_mark(names[0], 30.0) is None
    assert ledger.return_mark(names[-1], 30.0) is not None
