"""Many requests on one connection: nothing crosses, every exit path closes, one that ends leaves the others whole."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from harness import READY, Peer, loopback_server, misbehaving_server, run
from speechwire.codec import Resampler, alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from speechwire.errors import ServerError, SessionClosed, SessionTimeout
from speechwire.gradium import GradiumClient, Limits, Multiplexer, S2s, Tts, wire

FORMATS = ("pcm_8000", "pcm_16000", "pcm_24000", "pcm_48000", "ulaw_8000", "alaw_8000")
ENCODE = {"ulaw_8000": ulaw_encode, "alaw_8000": alaw_encode}
DECODE = {"ulaw_8000": ulaw_decode, "alaw_8000": alaw_decode}


def tone(number: int, sample_rate: int, seconds: float = 0.4) -> bytes:
    """Return a tone that is this request's alone."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    return np.asarray(9000 * np.sin(2 * np.pi * (150 + 17 * number) * t), "<i2").tobytes()


def expected_answer(number: int, input_format: str, output_format: str) -> tuple[bytes, bytes]:
    """Return what request `number` sends, and what the loopback engine has to answer."""
    input_rate, output_rate = (int(name.rpartition("_")[2]) for name in (input_format, output_format))
    sent = ENCODE.get(input_format, bytes)(tone(number, input_rate))
    resampler = Resampler(input_rate, output_rate)
    pcm = DECODE.get(input_format, bytes)(sent)
    return sent, ENCODE.get(output_format, bytes)(resampler.feed(pcm) + resampler.flush())


async def exchange(connection: Multiplexer[S2s], number: int) -> None:
    """Run one request and compare every byte of its answer."""
    draw = random.Random(number)
    input_format, output_format = draw.choice(FORMATS), draw.choice(FORMATS)
    sent, expected = expected_answer(number, input_format, output_format)
    returned = []
    async with connection.request(input_format=input_format, output_format=output_format, voice_id=f"v{number}") as s2s:

        async def send() -> None:
            for start in range(0, len(sent), 1600):
                await s2s.send_audio(sent[start : start + 1600])
                await asyncio.sleep(0)
            await s2s.send_eos()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            async for message in s2s:
                assert message["client_req_id"] == s2s.client_req_id
                if message["type"] == "audio":
                    returned.append(message["audio"])
        assert s2s.sent_ms == pytest.approx(400)
    assert b"".join(returned) == expected


def test_a_hundred_requests_at_once_do_not_mix() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                await asyncio.gather(*(exchange(connection, number) for number in range(100)))

    run(main())


async def speak(connection: Multiplexer[Tts], number: int) -> tuple[bytes, list[str]]:
    draw = random.Random(number)
    words = [f"{'word' * draw.randrange(1, 4)}{number}" for _ in range(draw.randrange(1, 6))]
    audio, heard = b"", []
    async with connection.request(
        output_format=draw.choice(FORMATS), voice_id=f"v{number}", json_config={"padding_bonus": draw.uniform(-4, 4)}
    ) as tts:
        for word in words:
            await tts.send_text(word)
            await asyncio.sleep(0)
        await tts.send_eos()
        async for message in tts:
            if message["type"] == "audio":
                audio += message["audio"]
            elif message["type"] == "text":
                heard.append(message["text"])
    assert heard == words
    return audio, heard


def test_a_hundred_syntheses_at_once_are_each_what_they_are_alone() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            async with client.multiplex_tts() as connection:
                together = await asyncio.gather(*(speak(connection, number) for number in range(100)))
            for number in random.Random(2).sample(range(100), 20):
                async with client.multiplex_tts() as connection:
                    assert await speak(connection, number) == together[number]
            assert len({audio for audio, _ in together}) > 50

    run(main())


def test_a_hundred_requests_in_a_row_use_one_connection() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                for number in range(100):
                    await exchange(connection, number)

    run(main())


def test_a_hundred_requests_in_a_row_without_names_use_one_connection() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            async with client.s2s_realtime(
                input_format="pcm_8000", output_format="pcm_8000", close_ws_on_eos=False, send_setup_on_start=False
            ) as s2s:
                for number in range(100):
                    await s2s.send_setup({})
                    await s2s.wait_for_ready()
                    audio = tone(number, 8000, 0.08)
                    await s2s.send_audio(audio)
                    await s2s.send_eos()
                    returned = b""
                    async for message in s2s:
                        if message["type"] == "end_of_stream":
                            break
                        returned += message.get("audio", b"")
                    assert returned == audio

    run(main())


def test_cancelling_half_of_the_requests_leaves_the_other_half_whole() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                tasks = [asyncio.create_task(exchange(connection, number)) for number in range(100)]
                draw = random.Random(1)
                for number in draw.sample(range(100), 50):
                    for _ in range(draw.randrange(12)):  # at different points of its life
                        await asyncio.sleep(0)
                    tasks[number].cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
                kinds = Counter(type(outcome) for outcome in outcomes)
                assert set(kinds) <= {type(None), asyncio.CancelledError}
                assert kinds[type(None)] >= 50
                # The connection is as good as new.
                await exchange(connection, 1000)

    run(main())


async def echo_names(peer: Peer, answer: Callable[[Peer, dict[str, object]], Awaitable[None]]) -> None:
    await peer.accept()
    while True:
        message = json.loads(await peer.recv())
        if message["type"] == "setup":
            ready = {
                "type": "ready", "request_id": "r", "model_name": "m", "sample_rate": 48000, "frame_size": 3840,
                "client_req_id": message["client_req_id"],
            }  # fmt: skip
            await peer.send(json.dumps(ready))
        await answer(peer, message)


def client_of(base_url: str, **bounds: float | None) -> GradiumClient:
    limits = Limits(connect_s=2.0, close_s=0.2, **bounds)  # type: ignore[arg-type]
    return GradiumClient(base_url=base_url, api_key="k", limits=limits)


def test_an_error_ends_its_own_request_only() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio" and message["client_req_id"] == "bad":
            await peer.send(wire.build_error("decoder failed", 1011, "bad"))
        elif message["type"] == "audio":
            await peer.send(wire.build_output_audio(b"ok", 0.0, 0.08, str(message["client_req_id"])))
            await peer.send(wire.build_end_of_stream(str(message["client_req_id"])))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                async with connection.request(client_req_id="good") as good:
                    with pytest.raises(ServerError, match="decoder failed") as caught:
                        async with connection.request(client_req_id="bad") as bad:
                            await bad.send_audio(bytes(3840))
                            async for _ in bad:
                                pass
                    assert (caught.value.client_req_id, caught.value.request_id) == ("bad", "r")
                    assert caught.value.sent_ms == 80
                    assert await bad.recv() is None
                    with pytest.raises(SessionClosed, match="the request has ended"):
                        await bad.send_audio(bytes(3840))
                    await good.send_audio(bytes(3840))
                    assert [message["type"] async for message in good] == ["ready", "audio", "end_of_stream"]

    run(main(), held_clock=True)


def test_a_lost_connection_ends_every_request_with_its_own_error() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio" and message["client_req_id"] == "req-10":
            peer.reset()

    async def one(connection: Multiplexer[S2s], number: int) -> None:
        async with connection.request() as s2s:
            for _ in range(number):
                await s2s.send_audio(bytes(3840))
            async for _ in s2s:
                pass

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                errors = await asyncio.gather(
                    *(one(connection, number + 1) for number in range(10)), return_exceptions=True
                )
                assert {type(error) for error in errors} == {SessionClosed}
                assert len({id(error) for error in errors}) == 10
                with pytest.raises(SessionClosed, match="lost without a close frame"):
                    await one(connection, 1)

    run(main(), held_clock=True)


def test_a_request_that_hears_nothing_times_out_alone() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio":
            await peer.send(wire.build_end_of_stream(str(message["client_req_id"])))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url, idle_s=0.2).multiplex_s2s() as connection:
                with pytest.raises(SessionTimeout, match=r"nothing came from the server for 0\.2 s") as caught:
                    async with connection.request() as s2s:
                        async for _ in s2s:
                            pass
                assert caught.value.client_req_id == "req-1"
                async with connection.request() as s2s:
                    await s2s.send_audio(bytes(3840))
                    assert [message["type"] async for message in s2s] == ["ready", "end_of_stream"]

    run(main(), held_clock=True)


def test_what_comes_late_for_a_request_that_was_left_is_dropped() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        name = str(message.get("client_req_id"))
        if message["type"] == "end_of_stream":
            for _ in range(200):  # more than would wait for a request that is still there
                await peer.send(wire.build_output_audio(name.encode(), 0.0, 0.08, name))
            await peer.send(wire.build_end_of_stream(name))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                async with connection.request(client_req_id="left") as left:
                    await left.wait_for_ready()
                async with connection.request(client_req_id="stays") as stays:
                    await stays.send_eos()
                    audio = [message["audio"] async for message in stays if message["type"] == "audio"]
                assert audio == [b"stays"] * 200

    run(main(), held_clock=True)


def test_a_request_that_is_not_read_holds_the_others_up_and_no_memory() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        name = str(message.get("client_req_id"))
        if message["type"] == "end_of_stream":
            for _ in range(100):
                await peer.send(wire.build_output_audio(b"x", 0.0, 0.08, name))
            await peer.send(wire.build_end_of_stream(name))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url, idle_s=0.3).multiplex_s2s() as connection:
                async with connection.request() as unread, connection.request() as waiting:
                    await unread.send_eos()
                    with pytest.raises(SessionTimeout, match="nobody takes the messages of 'req-1'") as caught:
                        async for _ in waiting:
                            pass
                    assert not caught.value.retryable
                    assert len([message async for message in unread]) == 102  # ready, 100 audio, end: nothing is lost

    run(main(), held_clock=True)


def test_messages_without_a_name_end_the_connection() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio":
            await peer.send(wire.build_end_of_stream())

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                with pytest.raises(SessionClosed, match="expected client_req_id in every message, got 'end_of_stream'"):
                    async with connection.request() as s2s:
                        await s2s.send_audio(bytes(3840))
                        async for _ in s2s:
                            pass

    run(main(), held_clock=True)


def test_a_name_is_used_once_at_a_time() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                async with connection.request(client_req_id="a") as first:
                    with pytest.raises(ValueError, match="expected the name of no running request, got 'a'"):
                        connection.request(client_req_id="a")
                    with pytest.raises(ValueError, match="expected client_req_id 'a', got 'b'"):
                        await first.send_audio(bytes(2), "b")
                async with connection.request(client_req_id="c") as second:
                    await second.send_eos()
                    assert [message["type"] async for message in second] == ["ready", "end_of_stream"]
                async with connection.request(client_req_id="c") as again:
                    await again.send_eos()
                    assert [message["type"] async for message in again] == ["ready", "end_of_stream"]

    run(main())


def test_a_request_that_was_not_entered_says_so() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                s2s = connection.request()
                with pytest.raises(RuntimeError, match="in an async with block"):
                    await s2s.send_audio(bytes(3840))
                with pytest.raises(RuntimeError, match="in an async with block"):
                    await s2s.recv()
                await exchange(connection, 1)

    run(main())


@pytest.mark.parametrize("num_turns", range(6))
def test_a_block_that_is_cancelled_on_its_way_out_leaves_nothing(num_turns: int) -> None:
    async def use(base_url: str) -> None:
        async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
            s2s = await connection.request(wait_for_ready_on_start=True).__aenter__()
            receiving = asyncio.create_task(s2s.recv())
            await asyncio.sleep(0.01)
        await receiving

    async def main() -> None:
        async with loopback_server() as base_url:
            task = asyncio.create_task(use(base_url))
            await asyncio.sleep(0.1)
            for _ in range(num_turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    run(main())


def test_leaving_the_connection_ends_its_requests() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with GradiumClient(base_url=base_url, api_key="k").multiplex_s2s() as connection:
                s2s = await connection.request().__aenter__()
                await s2s.wait_for_ready()
            assert await s2s.recv() is None
            with pytest.raises(SessionClosed, match="closed on this side"):
                await connection.request().__aenter__()

    run(main())


@pytest.mark.parametrize("way", ["close", "abort", "fail"])
def test_ending_a_request_from_another_task_reaches_who_receives(way: str) -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        pass

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url, idle_s=None).multiplex_s2s() as connection:
                async with connection.request(wait_for_ready_on_start=True) as s2s:
                    receiving = asyncio.create_task(s2s.recv())
                    await asyncio.sleep(0.01)
                    if way == "close":
                        await s2s.close()
                    elif way == "abort":
                        s2s.abort()
                    else:
                        s2s.fail(ZeroDivisionError("in the source"))
                    if way == "fail":
                        with pytest.raises(ZeroDivisionError):
                            await receiving
                    else:
                        assert await receiving is None

    run(main(), held_clock=True)


@pytest.mark.parametrize("num_turns", range(8))
def test_ending_a_request_that_waits_takes_nothing_from_the_others(num_turns: int) -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio":
            for name in ("a", "c"):
                await peer.send(wire.build_text("word", 0.0, 0.1, name))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                async with (
                    connection.request(client_req_id="a", wait_for_ready_on_start=True) as a,
                    connection.request(client_req_id="b", wait_for_ready_on_start=True) as b,
                    connection.request(client_req_id="c", wait_for_ready_on_start=True) as c,
                ):
                    tasks = [asyncio.create_task(session.recv()) for session in (a, b, c)]
                    await asyncio.sleep(0)
                    await a.send_audio(bytes(3840))
                    for _ in range(num_turns):
                        await asyncio.sleep(0)
                    tasks[0].cancel()
                    b.abort()
                    assert await tasks[1] is None
                    message = await tasks[2]
                    assert message is not None
                    assert message["text"] == "word"
                    # What the cancelled one would have got is still there for it.
                    message = tasks[0].result() if tasks[0].done() and not tasks[0].cancelled() else await a.recv()
                    assert message is not None
                    assert message["text"] == "word"

    run(main(), held_clock=True)


def test_the_error_of_a_request_has_its_own_books() -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "end_of_stream":
            await peer.send(wire.build_error("no", 1011, str(message["client_req_id"])))

    async def serve(peer: Peer) -> None:
        await peer.accept()
        for _ in range(2):
            message = json.loads(await peer.recv())
            ready = json.loads(READY) | {"request_id": f"id of {message['client_req_id']}"}
            await peer.send(json.dumps(ready | {"client_req_id": message["client_req_id"]}))
        while True:
            await answer(peer, json.loads(await peer.recv()))

    async def main() -> None:
        async with misbehaving_server(serve) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                async with connection.request(client_req_id="a") as a, connection.request(client_req_id="b") as b:
                    await a.wait_for_ready()
                    await b.wait_for_ready()
                    await b.send_audio(bytes(3840))
                    await a.send_eos()
                    with pytest.raises(ServerError) as caught:
                        await a.recv()
                assert (caught.value.request_id, caught.value.sent_ms) == ("id of a", 0.0)

    run(main(), held_clock=True)


def test_a_name_that_was_left_is_free_when_the_service_has_ended_it() -> None:
    may_end = asyncio.Event()

    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "end_of_stream":
            await may_end.wait()
            name = str(message["client_req_id"])
            await peer.send(wire.build_output_audio(b"late", 0.0, 0.08, name))
            await peer.send(wire.build_end_of_stream(name))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                async with connection.request(client_req_id="a", wait_for_ready_on_start=True):
                    pass
                with pytest.raises(ValueError, match="expected the name of no running request, got 'a'"):
                    connection.request(client_req_id="a")
                may_end.set()
                async with connection.request(client_req_id="b", wait_for_ready_on_start=True):
                    pass  # behind the end of the first one
                async with connection.request(client_req_id="a", wait_for_ready_on_start=True) as again:
                    assert again.ready is not None

    run(main(), held_clock=True)


@pytest.mark.parametrize("name", ["7", '["a"]', "{}"])
def test_a_name_that_is_none_ends_the_connection(name: str) -> None:
    async def answer(peer: Peer, message: dict[str, object]) -> None:
        if message["type"] == "audio":
            await peer.send(wire.build_error("no", 1011, "NAME").replace('"NAME"', name))

    async def main() -> None:
        async with misbehaving_server(lambda peer: echo_names(peer, answer)) as base_url:
            async with client_of(base_url).multiplex_s2s() as connection:
                with pytest.raises(SessionClosed, match="expected client_req_id to be str"):
                    async with connection.request() as s2s:
                        await s2s.send_audio(bytes(3840))
                        async for _ in s2s:
                            pass

    run(main(), held_clock=True)
