"""The buffered calls without an event loop of one's own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings
from collections.abc import Iterator

import pytest

from harness import loopback_server, misbehaving_server, open_sockets
from speechwire.errors import SessionClosed
from speechwire.gradium import GradiumClient, Limits

SETUP = {"input_format": "pcm_16000", "output_format": "pcm_16000"}


@pytest.fixture
def base_url() -> Iterator[str]:
    """Run a server in a thread, as a script would find it."""
    started, stop = threading.Event(), threading.Event()
    addresses: list[str] = []

    async def serve() -> None:
        async with loopback_server() as address:
            addresses.append(address)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(100)
    yield addresses[0]
    stop.set()
    thread.join()


def test_buffered_calls_block_until_they_are_done(base_url: str) -> None:
    before = threading.active_count()
    with GradiumClient(base_url=base_url, api_key="k").sync as client:
        for _ in range(3):
            assert client.s2s(SETUP, bytes(16000)).raw_data == bytes(16000)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_threads_may_share_one_client(base_url: str) -> None:
    with GradiumClient(base_url=base_url, api_key="k").sync as client:
        results: dict[int, bytes] = {}

        def call(number: int) -> None:
            results[number] = client.s2s(SETUP, bytes([number]) * 8000).raw_data

        threads = [threading.Thread(target=call, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {number: bytes([number]) * 8000 for number in range(5)}


def test_errors_come_through(base_url: str) -> None:
    with GradiumClient(base_url=base_url + "nowhere/", api_key="k").sync as client:
        with pytest.raises(SessionClosed, match="HTTP 40"):
            client.s2s(SETUP, bytes(2))


def test_inside_an_event_loop_they_say_what_to_do_instead() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="await the client's call of the same name"):
            GradiumClient(api_key="k").sync.s2s(SETUP, bytes(2))

    asyncio.run(main())


def test_closing_cancels_what_is_under_way_and_leaves_nothing() -> None:
    sockets = open_sockets()
    reached = threading.Event()

    async def main() -> None:
        async def silent(_: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        async with misbehaving_server(silent) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=Limits(connect_s=None)).sync
            call = asyncio.create_task(asyncio.to_thread(client.s2s, SETUP, bytes(2)))
            await asyncio.to_thread(reached.wait)
            await asyncio.to_thread(client.close)
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())
    assert open_sockets() <= sockets


def test_a_forked_process_calls_as_well(base_url: str) -> None:
    client = GradiumClient(base_url=base_url, api_key="k").sync
    assert client.s2s(SETUP, bytes(320)).raw_data == bytes(320)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what multiprocessing still does
        child = os.fork()
    if child == 0:
        signal.alarm(100)  # a call that hangs ends the child
        done = client.s2s(SETUP, bytes(640)).raw_data == bytes(640)
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()
