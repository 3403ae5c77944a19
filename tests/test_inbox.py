from __future__ import annotations

import asyncio

import pytest

from harness import run
from speechwire.events import Audio, EndOfStream, Flush, Text
from speechwire.server.inbox import MAX_BYTES, MAX_EVENTS, Inbox, Input


def test_events_come_out_in_order() -> None:
    async def main() -> list[Input]:
        inbox = Inbox()
        for event in (Audio(b"ab"), Flush(1), EndOfStream()):
            inbox.put(event)
        return [await inbox.get() for _ in range(3)]

    assert run(main()) == [Audio(b"ab"), Flush(1), EndOfStream()]


def test_get_waits_for_put() -> None:
    async def main() -> Input:
        inbox = Inbox()
        getter = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        inbox.put(Text("a"))
        return await getter

    assert run(main()) == Text("a")


@pytest.mark.parametrize(
    ("event", "most"),
    [(Audio(bytes(1024)), MAX_BYTES // 1024), (Text("x" * 1024), MAX_BYTES // 1024), (Flush(), MAX_EVENTS)],
)
def test_a_full_box_has_no_room_until_something_is_got(event: Input, most: int) -> None:
    async def main() -> None:
        inbox = Inbox()
        for _ in range(most - 1):
            inbox.put(event)
            await inbox.room()
        inbox.put(event)
        room = asyncio.create_task(inbox.room())
        await asyncio.sleep(0)
        assert not room.done()
        await inbox.get()
        await room

    run(main())


def test_a_message_longer_than_the_box_is_taken() -> None:
    async def main() -> None:
        inbox = Inbox()
        inbox.put(Audio(bytes(2 * MAX_BYTES)))
        assert await inbox.get() == Audio(bytes(2 * MAX_BYTES))
        await inbox.room()

    run(main())


def test_a_closed_box_lets_go_who_waits_and_keeps_nothing() -> None:
    async def main() -> None:
        inbox = Inbox()
        inbox.put(Audio(bytes(MAX_BYTES)))
        room = asyncio.create_task(inbox.room())
        await asyncio.sleep(0)
        inbox.close()
        await room
        for _ in range(2 * MAX_EVENTS):
            inbox.put(Flush())
        await inbox.room()

    run(main())


def test_a_cancelled_get_loses_nothing() -> None:
    async def main() -> Input:
        inbox = Inbox()
        getter = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        getter.cancel()
        inbox.put(Text("a"))
        await asyncio.wait([getter])
        return await inbox.get()

    assert run(main()) == Text("a")
