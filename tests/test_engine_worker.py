"""Processes of an engine: messages both ways, failures told, nothing left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from harness import run
from speechwire.server.engines import EngineError
from speechwire.server.engines.worker import Worker

ECHO = """
import os, signal, sys
from speechwire.server.engines.worker import FAILURE, read_messages, write_message

for kind, payload in read_messages():
    if kind == b"x":
        sys.exit(3)
    if kind == b"?":
        write_message(FAILURE, b"no such thing")
    elif kind == b"c":
        os.close(0)
        signal.pause()
    elif kind == b"n":
        write_message(kind, str(os.nice(0)).encode())
    else:
        write_message(kind, payload * 2)
"""


@pytest.fixture(autouse=True)
def echo_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo_worker.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)


def test_messages_of_any_length_go_both_ways_and_wait_for_room() -> None:
    payloads = [b"", b"a", bytes(70_000), bytes(range(256)) * 4000]

    async def main() -> None:
        worker = await Worker.start("echo_worker")

        async def send() -> None:
            for payload in payloads * 3:
                await worker.send(b"e", payload)

        sending = asyncio.create_task(send())
        assert [await worker.receive() for _ in payloads * 3] == [(b"e", payload * 2) for payload in payloads] * 3
        await sending
        await worker.stop()
        assert worker.has_ended

    run(main())


def test_a_worker_has_the_modules_of_this_process_and_not_those_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "struct.py").write_text("raise ImportError('from the working directory')")
    monkeypatch.chdir(directory)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    async def main() -> None:
        worker = await Worker.start("echo_worker")
        await worker.send(b"e", b"a")
        assert await worker.receive() == (b"e", b"aa")
        await worker.stop()

    run(main())


def test_cancelling_who_waits_for_a_message_loses_nothing() -> None:
    async def main() -> None:
        worker = await Worker.start("echo_worker")
        for _ in range(20):
            await worker.send(b"e", bytes(300_000))
            receiving = asyncio.ensure_future(worker.receive())
            for _ in range(2):
                await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.wait([receiving])
            if receiving.cancelled():
                assert await worker.receive() == (b"e", bytes(600_000))
        await worker.stop()

    run(main())


def test_what_went_wrong_is_told() -> None:
    async def main() -> None:
        worker = await Worker.start("echo_worker")
        await worker.send(b"?")
        with pytest.raises(EngineError, match=r"^no such thing$"):
            await worker.receive()
        await worker.send(b"x")
        with pytest.raises(EngineError, match=r"^process echo_worker ended with status 3$"):
            await worker.receive()
        assert worker.has_ended
        with pytest.raises(EngineError, match="ended with status 3"):
            for _ in range(100):
                await worker.send(b"e", bytes(100_000))
        await worker.stop()

    run(main())


def test_who_sends_and_who_receives_learn_both_that_a_worker_is_lost() -> None:
    async def main() -> None:
        worker = await Worker.start("echo_worker")
        receiving = asyncio.create_task(worker.receive())
        with pytest.raises(EngineError, match=r"^process echo_worker ended with status -9$"):
            while True:
                await worker.send(b"c")
        with pytest.raises(EngineError, match=r"^process echo_worker ended with status -9$"):
            await receiving
        await worker.stop()

    run(main())


def test_a_worker_is_stopped_with_its_output_unread_and_while_its_caller_is_cancelled() -> None:
    async def main() -> None:
        worker = await Worker.start("echo_worker")
        await worker.send(b"e", bytes(400_000))
        stopping = asyncio.create_task(worker.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert worker.has_ended

    run(main())


def test_a_worker_gives_way_to_the_server_and_ends_with_its_input() -> None:
    async def main() -> None:
        worker = await Worker.start("echo_worker")
        await worker.send(b"n")
        assert int((await worker.receive())[1]) > os.nice(0)
        process = worker._process
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0
        await worker.stop()

    run(main())
