from __future__ import annotations

import asyncio
import threading

import pytest

from harness import run
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.threads import ModelThread, import_library


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_calls_are_made_in_their_order_in_one_thread_that_ends() -> None:
    made: list[tuple[int, str]] = []

    def note(number: int) -> int:
        made.append((number, threading.current_thread().name))
        return -number

    async def main() -> list[int]:
        thread = ModelThread("model")
        try:
            return await asyncio.gather(*(thread.call(note, number) for number in range(5)))
        finally:
            thread.stop()

    assert run(main()) == [0, -1, -2, -3, -4]
    assert [number for number, _ in made] == [0, 1, 2, 3, 4]
    names = {name for _, name in made}
    assert len(names) == 1
    assert not names & names_of_threads()


def test_a_failure_names_the_model_and_fits_in_a_line() -> None:
    def fail() -> None:
        raise RuntimeError("no such\n  layer")

    async def main() -> None:
        thread = ModelThread("model")
        try:
            await thread.call(fail)
        finally:
            thread.stop()

    with pytest.raises(EngineError, match=r"^model failed: no such layer$"):
        run(main())


def test_who_cancels_waits_until_the_thread_is_out_of_the_call() -> None:
    async def main() -> None:
        thread = ModelThread("model")
        begun, free = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            free.wait()

        task = asyncio.create_task(thread.call(work))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
        free.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        thread.stop()

    run(main())


def test_a_call_that_waits_for_its_turn_is_taken_back() -> None:
    async def main() -> None:
        thread = ModelThread("model")
        begun, free = threading.Event(), threading.Event()
        called: list[int] = []

        def work() -> None:
            begun.set()
            free.wait()

        first = asyncio.create_task(thread.call(work))
        second = asyncio.create_task(thread.call(called.append, 2))
        third = asyncio.create_task(thread.call(called.append, 3))
        await asyncio.to_thread(begun.wait)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert not first.done()
        free.set()
        await asyncio.gather(first, third)
        assert called == [3]
        thread.stop()

    run(main())


def test_a_missing_library_is_named_with_the_line_that_installs_it() -> None:
    with pytest.raises(EngineError, match=r"no_such_library.*pip install 'speechwire\[extra\]'$"):
        import_library("no_such_library", "extra")
