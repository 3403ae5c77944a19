from __future__ import annotations

import asyncio

import pytest

from harness import run
from speechwire.server.limits import Places, PlacesTaken, ServerLimits


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match=r"^expected max_session_s of more than 0, got 0$"):
        ServerLimits(max_session_s=0)
    with pytest.raises(ValueError, match=r"^expected max_session_s of more than 0, got nan$"):
        ServerLimits(max_session_s=float("nan"))
    with pytest.raises(ValueError, match=r"^expected max_requests of at least 1, got 0$"):
        ServerLimits(max_requests=0)


def test_places_go_to_who_came_first() -> None:
    async def main() -> list[int]:
        places = Places(1)
        await places.take(0.0)
        order: list[int] = []

        async def visit(number: int) -> None:
            await places.take(10.0)
            order.append(number)
            places.leave()

        visits = [asyncio.create_task(visit(number)) for number in range(5)]
        await asyncio.sleep(0)
        visits[1].cancel()  # leaves the queue
        places.leave()
        await asyncio.wait(visits)
        await places.take(0.0)  # and no place is lost
        return order

    assert run(main(), held_clock=True) == [0, 2, 3, 4]


def test_waiting_for_a_place_ends_when_it_was_to() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        places = Places(1)
        await places.take(0.0)
        for wait_s in (0.0, 2.5):
            started = loop.time()
            with pytest.raises(PlacesTaken):
                await places.take(wait_s)
            assert loop.time() - started == pytest.approx(wait_s)
        places.leave()
        await places.take(0.0)

    run(main(), held_clock=True)


def test_without_a_limit_there_is_always_a_place() -> None:
    async def main() -> None:
        places = Places(None)
        for _ in range(1000):
            await places.take(0.0)
        places.leave()

    run(main())
