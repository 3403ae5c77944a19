"""The connection itself: frames, bounds of its queue, signs of life, secrets."""

from __future__ import annotations

import asyncio
import logging

import pytest

from harness import Behaviour, HeldClockLoop, Peer, misbehaving_server, run
from speechwire.errors import SessionClosed, SessionTimeout
from speechwire.transport import Connection, Limits, connect

LIMITS = Limits(connect_s=1.0, idle_s=None, close_s=0.3, keepalive_s=None)


async def open_connection(base_url: str, limits: Limits = LIMITS) -> Connection:
    return await connect(base_url.replace("http", "ws", 1), {"x-api-key": "gd_secret"}, limits)


def sends(*raw: bytes) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        for data in raw:
            await peer.send_raw(data)
            await asyncio.sleep(0.01)
        await peer.drain()

    return behave


def received(*raw: bytes, count: int = 1) -> list[str | bytes]:
    async def main() -> list[str | bytes]:
        async with misbehaving_server(sends(*raw)) as base_url:
            connection = await open_connection(base_url)
            messages = [await connection.recv(1.0) for _ in range(count)]
            await connection.close()
            return messages

    return run(main(), held_clock=True)


def test_text_and_binary_frames_keep_their_kind() -> None:
    assert received(b"\x81\x03abc\x82\x02\x00\xff", count=2) == ["abc", b"\x00\xff"]


def test_a_frame_may_come_byte_by_byte() -> None:
    assert received(*(bytes([byte]) for byte in b"\x81\x05m\xc3\xa1s!")) == ["más!"]


def test_fragments_are_joined_with_a_ping_between_them() -> None:
    # The split falls within a character.
    assert received(b"\x01\x02a\xc3", b"\x89\x00", b"\x00\x00", b"\x80\x02\xa1z") == ["aáz"]


@pytest.mark.parametrize(
    ("raw", "code"), [(b"\x81\x02\xc3(", 1007), (b"\x83\x00", 1002), (b"\x81\x7f" + b"\xff" * 8, 1009)]
)
def test_broken_frames_end_the_connection(raw: bytes, code: int) -> None:
    async def main() -> None:
        async with misbehaving_server(sends(raw)) as base_url:
            connection = await open_connection(base_url)
            with pytest.raises(SessionClosed, match="broke the WebSocket protocol") as caught:
                await connection.recv(1.0)
            assert caught.value.code == code
            await connection.close()

    run(main(), held_clock=True)


def test_reading_pauses_while_nobody_receives() -> None:
    message = b"\x81\x7e\x40\x00" + b"x" * 0x4000
    num_sent = 0

    async def behave(peer: Peer) -> None:
        nonlocal num_sent
        await peer.accept()
        for _ in range(2000):
            await peer.send_raw(message)
            num_sent += 1
        await peer.drain()

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            connection = await open_connection(base_url, Limits(receive_queue_frames=8, keepalive_s=None))
            seen = -1
            while seen != num_sent:  # until the sender is stuck
                seen = num_sent
                await asyncio.sleep(0.1)
            assert num_sent < 2000
            assert len(connection._messages) <= 8 + 4  # one read of 64 KiB holds four more
            for _ in range(2000):
                assert len(await connection.recv(1.0)) == 0x4000
            await connection.close()

    run(main(), held_clock=True)


def test_a_long_message_may_take_long_while_it_moves() -> None:
    received = 0

    async def behave(peer: Peer) -> None:
        nonlocal received
        await peer.accept()
        while received < 16 << 20:
            received += await peer.take(512 << 10)
            await asyncio.sleep(0.05)
        await peer.drain()

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            connection = await open_connection(base_url, Limits(send_s=0.4, keepalive_s=None, close_s=0.3))
            start_s = asyncio.get_running_loop().time()
            await connection.send("x" * (16 << 20))
            assert asyncio.get_running_loop().time() - start_s > 0.4  # or the test would prove nothing
            connection.abort()
            await connection.wait_closed()

    run(main(), held_clock=True)


def test_a_paused_receiver_is_not_taken_for_a_dead_peer() -> None:
    message = b"\x81\x7e\x40\x00" + b"x" * 0x4000

    async def behave(peer: Peer) -> None:
        await peer.accept()
        for _ in range(500):
            await peer.send_raw(message)
        await peer.drain()

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            connection = await open_connection(base_url, Limits(receive_queue_frames=8, keepalive_s=0.05))
            await asyncio.sleep(0.3)
            for _ in range(500):
                await connection.recv(1.0)
            await connection.close()

    run(main(), held_clock=True)


def test_pings_keep_a_quiet_connection() -> None:
    async def main() -> None:
        async with misbehaving_server(sends()) as base_url:
            connection = await open_connection(base_url, Limits(keepalive_s=0.05, close_s=0.3))
            with pytest.raises(SessionTimeout, match=r"nothing came from the server for 0\.4 s"):
                await connection.recv(0.4)
            await connection.wait_closed()

    run(main(), held_clock=True)


def test_cancelled_recv_loses_nothing() -> None:
    async def main() -> None:
        async with misbehaving_server(sends(b"", b"\x81\x01a", b"\x81\x01b", b"\x81\x01c")) as base_url:
            connection = await open_connection(base_url)
            got = ""
            while len(got) < 3:
                try:
                    async with asyncio.timeout(0.002):
                        got += str(await connection.recv(1.0))
                except TimeoutError:
                    pass
            assert got == "abc"
            await connection.close()

    run(main(), held_clock=True)


def test_what_came_in_time_is_not_late_because_the_machine_stopped() -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await asyncio.sleep(0.5)
        await peer.send_raw(b"\x81\x01a")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HeldClockLoop)
        loop.stop_for(10.0)
        await peer.drain()

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            connection = await open_connection(base_url)
            assert await connection.recv(1.0) == "a"
            assert not connection.is_gone
            await connection.close()

    run(main(), held_clock=True)


def test_two_receivers_are_refused() -> None:
    async def main() -> None:
        async with misbehaving_server(sends()) as base_url:
            connection = await open_connection(base_url)
            first = asyncio.create_task(connection.recv(0.2))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task is receiving"):
                await connection.recv(0.2)
            with pytest.raises(SessionTimeout):
                await first

    run(main(), held_clock=True)


def test_sending_on_a_closed_connection_says_so() -> None:
    async def main() -> None:
        async with misbehaving_server(sends(b"\x88\x02\x03\xe9")) as base_url:
            connection = await open_connection(base_url)
            with pytest.raises(SessionClosed) as caught:
                await connection.recv(1.0)
            assert (caught.value.code, caught.value.retryable) == (1001, True)
            with pytest.raises(SessionClosed):
                await connection.send("x")
            await connection.close()

    run(main(), held_clock=True)


def test_after_our_own_close_nobody_else_is_blamed() -> None:
    async def main() -> None:
        async with misbehaving_server(sends()) as base_url:
            connection = await open_connection(base_url)
            await connection.close()
            with pytest.raises(SessionClosed, match="closed on this side") as caught:
                await connection.send("x")
            assert (caught.value.code, caught.value.retryable) == (1000, False)

    run(main(), held_clock=True)


def test_a_header_that_http_cannot_carry_is_not_repeated() -> None:
    with pytest.raises(SessionClosed, match="x-api-key") as caught:
        asyncio.run(connect_with_header("gd_secret\n"))
    assert "gd_secret" not in str(caught.value)


async def connect_with_header(value: str) -> None:
    await connect("ws://127.0.0.1:1/", {"x-api-key": value}, LIMITS)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ws://", "nonsense"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SessionClosed, match="expected a ws:// or wss:// address"):
        asyncio.run(connect(url, {}, LIMITS))


def test_the_key_stays_out_of_the_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("speechwire.transport").setLevel(logging.NOTSET)

    async def main() -> None:
        async with misbehaving_server(sends(b"\x88\x00")) as base_url:
            connection = await open_connection(base_url + "?token=gd_secret")
            with pytest.raises(SessionClosed) as caught:
                await connection.recv(1.0)
            assert "gd_secret" not in str(caught.value)
            await connection.close()
        with pytest.raises(SessionClosed) as caught:
            await open_connection(base_url + "?token=gd_secret")
        assert "gd_secret" not in str(caught.value)

    run(main(), held_clock=True)
    # The misbehaving server's own end logs under another name.
    assert not [
        record for record in caplog.records if record.name != "websockets.server" and "gd_secret" in record.getMessage()
    ]
