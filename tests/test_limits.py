from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from harness import run
from speechwire.server.limits import Places, PlacesTaken, ServerLimits


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match=r"^expected max_session_s of more than 0, got 0$"):
        ServerLimits(max_session_s=0)
    with pytest.raises(ValueError, match=r"^expected max_session_s of more than 0, got nan$"):
        ServerLimits(max_session_s=float("nan"))
    with pytest.raises(ValueError, match=r"^expected max_call_s of more than 0, got -1$"):
        ServerLimits(max_call_s=-1)
    with pytest.raises(ValueError, match=r"^expected max_requests of at least 1, got 0$"):
        ServerLimits(max_requests=0)
    with pytest.raises(ValueError, match=r"^expected max_recognitions of at least 1, got -1$"):
        ServerLimits(max_recognitions=-1)


@pytest.mark.parametrize("places", [(1, None), (None, 1), (1, 1)])
def test_places_go_to_who_came_first(places: tuple[int | None, int | None]) -> None:
    async def main() -> list[int]:
        held = Places(*places)
        order: list[int] = []

        async def visit(number: int) -> None:
            async with held.hold(10.0, recognises=True):
                order.append(number)

        async with held.hold(0.0, recognises=True):
            visits = [asyncio.create_task(visit(number)) for number in range(5)]
            await asyncio.sleep(0)
            visits[1].cancel()  # leaves the queue
            await asyncio.sleep(1)
            assert order == []
        await asyncio.wait(visits)
        async with held.hold(0.0, recognises=True):  # and no place is lost
            return order

    assert run(main(), held_clock=True) == [0, 2, 3, 4]


def test_waiting_for_a_place_ends_when_it_was_to() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        places = Places(1)
        async with places.hold(0.0, recognises=False):
            for wait_s in (0.0, 2.5):
                started = loop.time()
                with pytest.raises(PlacesTaken):
                    async with places.hold(wait_s, recognises=False):
                        raise AssertionError
                assert loop.time() - started == pytest.approx(wait_s)
        async with places.hold(0.0, recognises=False):
            pass

    run(main(), held_clock=True)


def test_who_waits_to_recognise_keeps_nobody_else_waiting() -> None:
    async def main() -> None:
        places = Places(2, 1)

        async def recognise(wait_s: float) -> None:
            async with places.hold(wait_s, recognises=True):
                await asyncio.sleep(1)

        first = asyncio.create_task(recognise(0.0))
        await asyncio.sleep(0)
        with pytest.raises(PlacesTaken):
            await recognise(0.0)
        second = asyncio.create_task(recognise(5.0))
        await asyncio.sleep(0)
        async with places.hold(0.0, recognises=False):
            with pytest.raises(PlacesTaken):
                async with places.hold(0.0, recognises=False):
                    raise AssertionError
            await first
            # The place to recognise is free now, but this block still holds one of two.
            await second

    run(main(), held_clock=True)


def test_without_a_limit_there_is_always_a_place() -> None:
    async def main() -> None:
        places = Places()
        async with AsyncExitStack() as held:
            for _ in range(1000):
                await held.enter_async_context(places.hold(0.0, recognises=True))

    run(main())
