from __future__ import annotations

import asyncio

import pytest

from harness import run
from speechwire.server.engines import EngineError
from speechwire.server.engines.together import together


def test_all_run_to_their_end_side_by_side() -> None:
    ended = []

    async def stage(seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append(seconds)

    async def main() -> float:
        await together(stage(2), stage(1), stage(3))
        return asyncio.get_running_loop().time()

    assert run(main(), held_clock=True) == pytest.approx(3, abs=0.05)
    assert ended == [1, 2, 3]


def test_one_that_fails_ends_the_others_and_its_error_is_raised_as_it_is() -> None:
    ended = []

    async def stage() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(1)

    async def failing() -> None:
        await asyncio.sleep(1)
        raise EngineError("gone")

    async def main() -> None:
        with pytest.raises(EngineError, match="gone"):
            await together(stage(), together(stage(), failing()))

    run(main(), held_clock=True)
    assert ended == [1, 1]


def test_cancelling_ends_all() -> None:
    ended = []

    async def stage() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(1)

    async def main() -> None:
        task = asyncio.create_task(together(stage(), stage()))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), held_clock=True)
    assert ended == [1, 1]
