"""The one timer: who waits is woken in time, and never too early."""

from __future__ import annotations

import asyncio
import random

import pytest

from harness import run
from speechwire.server.ticks import RESOLUTION_S, TICK_S, Ticks


def test_everybody_is_woken_within_a_tick_of_his_time() -> None:
    seed = random.randrange(1 << 32)
    whens_s = [random.Random(seed).uniform(0.0, 2.0) for _ in range(300)]

    async def main() -> None:
        ticks, loop = Ticks(), asyncio.get_running_loop()

        async def wait(when_s: float) -> None:
            told_s = await ticks.at(when_s)
            assert when_s <= told_s < when_s + TICK_S + RESOLUTION_S, seed
            assert told_s == pytest.approx(loop.time(), abs=RESOLUTION_S)

        await asyncio.gather(*map(wait, whens_s))

    run(main(), held_clock=True)


def test_many_share_a_turn_of_the_loop() -> None:
    times_s: set[float] = set()

    async def main() -> None:
        ticks, loop = Ticks(), asyncio.get_running_loop()

        async def wait(when_s: float) -> None:
            await ticks.at(when_s)
            times_s.add(loop.time())

        await asyncio.gather(*(wait(0.02 + number / 50_000) for number in range(1000)))

    run(main(), held_clock=True)
    assert len(times_s) <= 0.02 / TICK_S + 1


def test_one_may_be_woken_from_elsewhere_or_go() -> None:
    async def main() -> None:
        ticks, loop = Ticks(), asyncio.get_running_loop()
        woken, gone, last = ticks.at(1.0), ticks.at(2.0), ticks.at(3.0)
        woken.set_result(0.5)
        gone.cancel()
        assert await woken == 0.5
        assert await last == pytest.approx(3.0, abs=TICK_S)
        assert loop.time() == pytest.approx(3.0, abs=TICK_S)
        # An earlier time than all others is not waited for behind them.
        ticks.at(10.0).cancel()
        assert await ticks.at(4.0) == pytest.approx(4.0, abs=TICK_S)

    run(main(), held_clock=True)
