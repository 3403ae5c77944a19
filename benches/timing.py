"""Contestants against each other on a shared machine: interleaved rounds, CPU time, ratios within a round.

A machine that others use is slow by turns. Every round runs each contestant once, in a new random order, so a slow turn
hits all of them; a ratio is taken within a round, and the median of the rounds is what is reported. The time itself is
the best of the rounds.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Clock = Callable[[], float]
Call = Callable[[], object]


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    quick: bool = False
    rounds: int = 9
    span_s: float = 0.008
    report: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Cell:
    """One measured time, and how many times as fast as the baseline that is."""

    best_s: float
    ratio: float | None


@dataclass(frozen=True)
class Row:
    """A contestant: its times in the order of the table's columns, and whether its output was right."""

    name: str
    cells: Sequence[Cell]
    correct: str
    facts: Sequence[str] = ()
    lag_ms: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """What one kernel's contestants did."""

    title: str
    text: str
    baseline: str
    columns: Sequence[str]
    rows: Sequence[Row]
    absent: Sequence[str] = ()
    fact_columns: Sequence[str] = ()


def time_interleaved(
    calls: Mapping[str, Call], settings: Settings, clock: Clock = time.process_time, seed: int = 0
) -> dict[str, list[float]]:
    """Return the seconds per call of every contestant, one figure for each round."""
    repeats = {name: _repeats(call, settings.span_s, clock) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(calls), random.Random(seed).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(settings.rounds):
            shuffle(order)
            for name in order:
                seconds[name].append(_time(calls[name], repeats[name], clock) / repeats[name])
    finally:
        gc.enable()
    return seconds


def cells(seconds: Mapping[str, Sequence[float]], baseline: str, num_calls: int = 1) -> dict[str, Cell]:
    """Return the best time of a contestant and the median of its ratios to the baseline, without one if that is absent.

    Args:
        seconds: What `time_interleaved` returned.
        baseline: The contestant that is 1.0.
        num_calls: How many calls of the kernel one timed call made.
    """
    base = seconds.get(baseline)
    return {
        name: Cell(
            min(times) / num_calls,
            statistics.median(b / t for b, t in zip(base, times, strict=True)) if base else None,
        )
        for name, times in seconds.items()
    }


def over(function: Callable[[Any], object], arguments: Sequence[Any]) -> Call:
    """Return a call that gives all of a pool to a function: one buffer alone would be learnt by branch predictors."""

    def call() -> None:
        for argument in arguments:
            function(argument)

    return call


def verdict(faults: Sequence[str]) -> str:
    """Return what stands in the column `correct`."""
    return f"no: {', '.join(faults)}" if faults else "yes"


def _repeats(call: Call, span_s: float, clock: Clock) -> int:
    repeats = 1
    while (spent_s := _time(call, repeats, clock)) < span_s:
        repeats = max(2 * repeats, round(repeats * min(span_s / max(spent_s, 1e-9), 100)))
    return repeats


def _time(call: Call, repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return clock() - start
