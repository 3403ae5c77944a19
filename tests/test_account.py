"""What the server remembers: bounded, on the clock of the test."""

from __future__ import annotations

import itertools
import math

import pytest

from speechwire.server.account import Full, Shelf, Tokens, Usage


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def tokens(clock: Clock) -> Tokens:
    numbers = itertools.count()
    return Tokens(clock, lambda: f"token-{next(numbers)}", lifetime_s=60.0)


def test_shelf_keeps_the_order_and_replaces_in_place() -> None:
    shelf = Shelf(3, Clock())
    for name in "abc":
        shelf.put(name, {"name": name})
    shelf.put("b", {"name": "B"})
    assert [row["name"] for row in shelf.rows()] == ["a", "B", "c"]
    assert shelf.pop("a") == {"name": "a"}
    assert shelf.pop("a") is None
    assert shelf.get("a") is None


def test_shelf_is_bounded_until_something_expires() -> None:
    clock = Clock()
    shelf = Shelf(2, clock)
    shelf.put("a", {}, expires_at_s=clock.now_s + 10)
    shelf.put("b", {})
    with pytest.raises(Full, match="at most 2"):
        shelf.put("c", {})
    clock.now_s += 10
    assert shelf.get("a") is None
    shelf.put("c", {})
    assert len(shelf.rows()) == 2


def test_token_is_redeemed_once() -> None:
    clock = Clock()
    issued = tokens(clock)
    token, expires_at_s = issued.issue()
    assert expires_at_s == clock.now_s + 60.0
    clock.now_s += 59.9
    assert issued.redeem(token)
    assert not issued.redeem(token)


def test_token_expires() -> None:
    clock = Clock()
    issued = tokens(clock)
    token, _ = issued.issue()
    clock.now_s += 60.0
    assert not issued.redeem(token)


@pytest.mark.parametrize("token", ["", "token-1", "\ud800", "é"])
def test_token_that_was_never_issued_is_refused(token: str) -> None:
    issued = tokens(Clock())
    issued.issue()
    assert not issued.redeem(token)


def test_tokens_are_bounded() -> None:
    clock = Clock()
    issued = tokens(clock)
    with pytest.raises(Full):
        for _ in range(100_000):
            issued.issue()
    clock.now_s += 60.0
    assert issued.redeem(issued.issue()[0])


def test_usage_counts_and_charges() -> None:
    usage = Usage(allocated_credits=100)
    usage.count_session()
    usage.count_ingress_text(12, price=1.0)
    for _ in range(25):
        usage.count_ingress_audio(0.08, price=3.0)
    usage.count_egress_text(5)
    usage.count_egress_audio(0.08)
    assert (usage.sessions, usage.ingress_messages, usage.egress_messages) == (1, 26, 2)
    assert (usage.ingress_text_size, usage.egress_text_size) == (12, 5)
    assert math.isclose(usage.ingress_audio_s, 2.0)
    assert usage.egress_audio_s == 0.08
    assert usage.consumed_credits == 18
    assert usage.remaining_credits == 82


def test_parts_of_a_credit_count_as_a_whole_one() -> None:
    usage = Usage(allocated_credits=1)
    usage.count_ingress_audio(0.1, price=3.0)
    assert (usage.consumed_credits, usage.remaining_credits) == (1, 0)
    usage.count_ingress_audio(100.0, price=30.0)
    assert usage.remaining_credits == 0
