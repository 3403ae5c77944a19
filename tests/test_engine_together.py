from __future__ import annotations

import asyncio

import pytest

from harness import run
from speechwire.server.engines import EngineError
from speechwire.server.engines.together import finish, together


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


async def long_stage(ended: list[int]) -> None:
    try:
        await asyncio.sleep(100)
    finally:
        ended.append(1)


def test_one_that_fails_ends_the_others_and_its_error_is_raised_as_it_is() -> None:
    ended: list[int] = []

    async def failing() -> None:
        await asyncio.sleep(1)
        raise EngineError("gone")

    async def main() -> None:
        with pytest.raises(EngineError, match="gone"):
            await together(long_stage(ended), together(long_stage(ended), failing()))

    run(main(), held_clock=True)
    assert ended == [1, 1]


def test_cancelling_ends_all() -> None:
    ended: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(together(long_stage(ended), long_stage(ended)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), held_clock=True)
    assert ended == [1, 1]


def test_work_is_done_to_its_end_however_often_its_caller_is_cancelled() -> None:
    async def work() -> str:
        await asyncio.sleep(10)
        return "done"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await finish(work()) == "done"
        began = loop.time()
        task = asyncio.create_task(finish(work()))
        for _ in range(3):
            await asyncio.sleep(1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.time() - began == pytest.approx(10, abs=0.1)

    run(main(), held_clock=True)


def test_an_error_of_work_is_raised_unless_its_caller_was_cancelled() -> None:
    async def work() -> None:
        await asyncio.sleep(1)
        raise EngineError("broken")

    async def main() -> None:
        with pytest.raises(EngineError, match="broken"):
            await finish(work())
        task = asyncio.create_task(finish(work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(), held_clock=True)
