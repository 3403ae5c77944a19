"""Sessions that go on over other connections: real sockets, a peer that breaks on demand, and a clock that is held."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from harness import READY, Peer, loopback_server, misbehaving_server, run
from speechwire.errors import AudioError, AuthError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.events import Reconnected
from speechwire.gradium import GradiumClient, Limits, ReconnectPolicy, wire
from speechwire.gradium.resume import ResumingLink
from speechwire.server import ServerLimits
from test_engine_loopback import tone
from test_replay import SECOND, WordEngine, assert_times_grow, merged, speech, undisturbed

SETUPS: dict[str, dict[str, Any]] = {
    "stt": {"input_format": "pcm_8000"},
    "s2s": {"input_format": "pcm_8000", "output_format": "pcm_8000"},
}
PRODUCTS = {"stt": wire.STT, "s2s": wire.S2S}
# Nothing waits long in these tests unless it has to; the clock of most of them is held.
LIMITS = Limits(connect_s=5.0, ready_s=5.0, idle_s=20.0, send_s=20.0, close_s=2.0, keepalive_s=None)
# Several breaks before anything new comes are one outage, in which nothing may have to be dropped.
PERSISTENT = ReconnectPolicy(attempts=50, budget_s=1000.0, replay_ms=60_000.0)


class Service:
    """A peer that serves coded audio, ends sessions at their limit, and breaks where it is told to.

    Args:
        product: "stt" or "s2s".
        cap_s: How long a session may last, or None.
        kills: After how many messages to the client each connection breaks, in order; the rest do not.
        rng: Decides how they break.
    """

    def __init__(
        self,
        product: str,
        *,
        cap_s: float | None = None,
        kills: list[int] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.product = product
        self.cap_s = cap_s
        self.kills = deque(kills or [])
        self.legs: list[bytearray] = []
        self.num_connections = 0
        self.num_open = 0
        self.closes = True
        self.setup_s: float | None = None  # how long a connection may wait for its setup
        self.refusals: deque[Callable[[Peer], Awaitable[None]]] = deque()
        self._rng = rng or random.Random(0)

    async def __call__(self, peer: Peer) -> None:
        self.num_connections += 1
        self.num_open += 1
        try:
            await (self.refusals.popleft() if self.refusals else self._accept)(peer)
        finally:
            self.num_open -= 1

    async def _accept(self, peer: Peer) -> None:
        await peer.accept()
        try:
            async with asyncio.timeout(self.setup_s):
                first = json.loads(await peer.recv())
        except TimeoutError:
            await peer.close(1008, "no setup in time")
            return
        if first["type"] != "setup":
            raise AssertionError("expected a setup first")
        kill = self.kills.popleft() if self.kills else None
        serving = asyncio.ensure_future(self._serve(peer, kill))
        cap = None if self.cap_s is None else asyncio.get_running_loop().call_later(self.cap_s, serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            if self.cap_s is None:
                raise
            await peer.send(json.dumps({"type": "error", "code": 1008, "message": wire.SESSION_TOO_LONG}))
            await peer.close(1008, wire.SESSION_TOO_LONG)
        finally:
            if cap is not None:
                cap.cancel()

    async def _serve(self, peer: Peer, kill: int | None) -> None:
        leg = bytearray()
        self.legs.append(leg)
        engine = WordEngine(PRODUCTS[self.product])
        num_sent = 0
        messages: list[dict[str, Any]] = [json.loads(READY)]
        while True:
            for message in messages:
                if num_sent == kill:
                    await self._break(peer)
                    return
                if "audio" in message:
                    message["audio"] = base64.b64encode(message["audio"]).decode()
                await peer.send(json.dumps(message))
                num_sent += 1
                if message["type"] == "end_of_stream":
                    await (peer.close(1000) if self.closes else nothing(peer))
                    return
            message = json.loads(await peer.recv())
            if message["type"] == "audio":
                audio = base64.b64decode(message["audio"])
                leg += audio
                messages = engine.feed(audio)
            elif message["type"] == "flush":
                messages = engine.flush(message["flush_id"])
            else:
                messages = engine.end()

    async def _break(self, peer: Peer) -> None:
        way = self._rng.randrange(4)
        if way == 0:
            await peer.send_raw(b'\x81\x7e\x04\x00{"type":')  # a frame of 1024 bytes, of which some have come
        if way == 1:
            await peer.close(1011, "worker lost")
        elif way == 2:
            await peer.finish()
        else:
            peer.reset()


def client_of(base_url: str, limits: Limits = LIMITS) -> GradiumClient:
    return GradiumClient(base_url=base_url, api_key="k", limits=limits)


async def live(audio: bytes, most_ms: int = 240) -> AsyncIterator[bytes]:
    """Yield audio at the speed of speech, in chunks that are no frames, by the clock of the loop."""
    rng = random.Random(len(audio))
    loop = asyncio.get_running_loop()
    start_s, position = loop.time(), 0
    while position < len(audio):
        chunk = audio[position : position + 2 * rng.randint(1, 8 * most_ms)]
        position += len(chunk)
        await asyncio.sleep(start_s + position / SECOND - loop.time())
        yield chunk


async def interpret(
    client: GradiumClient, product: str, audio: Any, policy: ReconnectPolicy | None
) -> list[dict[str, Any]]:
    open_stream = client.stt_stream if product == "stt" else client.s2s_stream
    stream = await open_stream(SETUPS[product], audio, reconnect=policy)
    return [message async for message in stream.iter_events()]


def reconnections(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == "reconnected"]


def without_steps(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] != "step"]


# --- taking over before the limit


@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_twenty_minutes_pass_a_limit_of_ten_seconds(product: str) -> None:
    audio = speech(20 * 60 * 100 // 84, 5)
    assert len(audio) / SECOND > 1150
    service = Service(product, cap_s=10.0)

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), product, live(audio, 320), ReconnectPolicy(session_s=10.0))

    messages = run(main(), timeout_s=5000.0, held_clock=True)
    assert b"".join(service.legs) == audio
    assert len(service.legs) > 115
    assert merged(messages) == merged(undisturbed(PRODUCTS[product], audio))
    assert_times_grow(messages)
    taken_over = reconnections(messages)
    assert len(taken_over) == len(service.legs) - 1
    assert all(wire.parse_event(message) == Reconnected(0.0, 0.0) for message in taken_over)


@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_minutes_pass_the_limit_of_our_own_server(product: str) -> None:
    # Short enough that there is a pause in the part of a session in which one is looked for.
    draw = random.Random(1)
    audio = b"".join(tone(draw.randrange(200, 500), 9000, 8000) + bytes(2 * 8 * 600) for _ in range(180))

    async def main(limit_s: float | None, policy: ReconnectPolicy | None) -> list[dict[str, Any]]:
        async with loopback_server(limits=ServerLimits(max_session_s=limit_s)) as base_url:
            return await interpret(client_of(base_url), product, live(audio, 320), policy)

    alone = run(main(None, None), timeout_s=5000.0, held_clock=True)
    messages = run(main(10.0, ReconnectPolicy(session_s=10.0)), timeout_s=5000.0, held_clock=True)
    assert len(reconnections(messages)) >= len(audio) / SECOND // 10
    assert_times_grow(messages)
    assert merged(messages)[1] == merged(alone)[1] == (audio if product == "s2s" else b"")
    for kind, field in (("text", "start_s"), ("text", "stop_s"), ("end_text", "stop_s"), ("step", "total_duration_s")):
        times = [
            [round(message[field], 3) for message in run if message["type"] == kind and field in message]
            for run in (messages, alone)
        ]
        assert times[0] == times[1], (kind, field)
    with pytest.raises(ServerError, match="session duration limit exceeded"):
        run(main(10.0, None), timeout_s=5000.0, held_clock=True)


def test_a_connection_that_was_opened_ahead_and_died_is_replaced() -> None:
    audio = speech(60, 7)
    service = Service("stt", cap_s=10.0)
    service.setup_s = 0.1

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), "stt", live(audio), ReconnectPolicy(session_s=10.0))

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert service.num_connections > len(service.legs)  # some did die
    assert b"".join(service.legs) == audio
    assert merged(messages) == merged(undisturbed(wire.STT, audio))
    assert all(message["gap_ms"] == 0.0 for message in reconnections(messages))


def test_ending_right_after_taking_over_leaves_nothing() -> None:
    service = Service("stt", cap_s=10.0)

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            stt = client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=ReconnectPolicy(session_s=10.0))
            await stt.__aenter__()
            while len(service.legs) < 2 and service.num_connections < 2:
                await stt.send_audio(bytes(1280))
                await asyncio.sleep(0.08)
            while len(stt._link._links) < 2:  # type: ignore[attr-defined]
                await stt.send_audio(bytes(1280))
            stt.abort()
            await stt.aclose()

    run(main(), timeout_s=500.0, held_clock=True)


def test_speech_without_a_pause_is_cut_before_the_limit_and_no_sample_is_lost() -> None:
    audio = b"\x00\x20" * (SECOND // 2 * 60)
    service = Service("stt", cap_s=10.0)

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), "stt", live(audio), ReconnectPolicy(session_s=10.0))

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert b"".join(service.legs) == audio
    assert all(len(leg) % 1280 == 0 for leg in service.legs[:-1])
    assert all(message["gap_ms"] == 0.0 for message in reconnections(messages))
    assert_times_grow(messages)


@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_a_limit_that_is_met_is_a_break(product: str) -> None:
    audio = speech(40, 6)
    service = Service(product, cap_s=10.0)

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), product, live(audio), ReconnectPolicy(session_s=None))

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert merged(messages) == merged(undisturbed(PRODUCTS[product], audio))
    assert_times_grow(messages)
    assert reconnections(messages)
    assert all(0.0 < message["gap_ms"] < 1000.0 for message in reconnections(messages))


def test_a_session_that_sends_nothing_for_long_goes_on() -> None:
    audio = speech(4, 7)
    service = Service("stt", cap_s=10.0)

    async def source() -> AsyncIterator[bytes]:
        yield audio[:20000]
        await asyncio.sleep(35.0)
        yield audio[20000:]

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), "stt", source(), ReconnectPolicy(session_s=10.0))

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert merged(messages) == merged(undisturbed(wire.STT, audio))
    assert len(reconnections(messages)) == 3


@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_breaks_and_limits_together(product: str) -> None:
    audio = speech(120, 8)
    rng = random.Random(8)
    policy = replace(PERSISTENT, session_s=10.0)
    service = Service(product, cap_s=10.0, kills=[rng.choice([5, 50, 10**6]) for _ in range(20)], rng=rng)

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), product, live(audio), policy)

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert not service.kills
    assert merged(messages) == merged(undisturbed(PRODUCTS[product], audio))
    assert_times_grow(messages)


@pytest.mark.parametrize("how", ["close", "abort", "break"])
def test_a_connection_that_was_opened_ahead_is_closed_with_the_session(how: str) -> None:
    service = Service("stt", cap_s=10.0)

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            async with client_of(base_url).stt_realtime(
                **SETUPS["stt"], reconnect=ReconnectPolicy(session_s=10.0)
            ) as stt:
                async for chunk in live(b"\x00\x20" * (SECOND // 2 * 9)):
                    await stt.send_audio(chunk)
                assert service.num_open == 2
                if how == "abort":
                    await stt.aclose()
                elif how == "break":
                    while (message := await stt.recv()) is None or message["type"] != "reconnected":
                        pass
                    await asyncio.sleep(1.0)
                    assert service.num_open == 1
            await asyncio.sleep(5.0)
            assert service.num_open == 0

    run(main(), timeout_s=500.0, held_clock=True)


def test_an_old_connection_that_does_not_end_holds_nobody_up() -> None:
    service = Service("stt", cap_s=60.0)
    service.closes = False

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            loop = asyncio.get_running_loop()
            client = client_of(base_url, replace(LIMITS, close_s=50.0))
            stream = await client.stt_stream(
                SETUPS["stt"], live(speech(40, 6)), reconnect=ReconnectPolicy(session_s=10.0)
            )
            async for message in stream.iter_events():
                if message["type"] == "reconnected":
                    break
            start_s = loop.time()
            await stream.aclose()
            assert loop.time() - start_s < 1.0
            assert service.num_connections == 2

    run(main(), timeout_s=500.0, held_clock=True)


# --- going on after a break


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_twenty_breaks_leave_no_trace_in_the_output(product: str, seed: int) -> None:
    audio = speech(120, seed)
    rng = random.Random(seed)
    service = Service(product, kills=[rng.randrange(1, 100) for _ in range(20)], rng=rng)
    policy = replace(PERSISTENT, session_s=None, lag_ms=3000.0 * (seed % 2))

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), product, live(audio), policy)

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert not service.kills
    assert merged(messages) == merged(undisturbed(PRODUCTS[product], audio))
    assert_times_grow(messages)
    again = reconnections(messages)
    # A break before the first `ready` is not told, for nothing had begun.
    assert 15 <= len(again) <= 20
    assert all(0.0 <= message["replayed_ms"] <= PERSISTENT.replay_ms for message in again)
    assert any(message["replayed_ms"] > 0.0 for message in again)


@pytest.mark.parametrize("product", ["stt", "s2s"])
def test_a_policy_that_forbids_ends_with_the_typed_error(product: str) -> None:
    service = Service(product, kills=[20])
    policy = ReconnectPolicy(rules={1006: False, 1011: False})

    async def main() -> SessionError:
        async with misbehaving_server(service) as base_url:
            with pytest.raises(SessionClosed) as caught:
                await interpret(client_of(base_url), product, live(speech(20, 1)), policy)
            return caught.value

    error = run(main(), timeout_s=500.0, held_clock=True)
    assert error.code in {1006, 1011}
    assert error.request_id == "req-1"
    assert error.sent_ms > 0
    assert "attempt" not in str(error)
    assert service.num_connections == 1


def test_more_unacknowledged_speech_than_is_kept_ends_with_both_values() -> None:
    async def deaf(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        for _ in range(8):
            await peer.recv()
        peer.reset()

    async def main() -> SessionError:
        async with misbehaving_server(deaf) as base_url:
            with pytest.raises(SessionClosed, match="expected at most 1000 ms of unacknowledged audio") as caught:
                async with client_of(base_url).stt_realtime(
                    **SETUPS["stt"], reconnect=ReconnectPolicy(replay_ms=1000.0)
                ) as stt:
                    for _ in range(8):
                        await stt.send_audio(b"\x00\x20" * 2000)
                    while await stt.recv():
                        pass
            return caught.value

    error = run(main())
    assert "got 2000 ms" in str(error)
    assert error.code == 1006
    assert isinstance(error.__cause__, SessionClosed)


def test_a_flush_and_the_end_are_asked_again() -> None:
    audio = speech(3, 2)
    service = Service("stt", kills=[30, 3])

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            async with client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=ReconnectPolicy()) as stt:
                await stt.send_audio(audio)
                await stt.send_flush("now")
                await stt.send_eos()
                return [message async for message in stt]

    messages = run(main())
    assert [message["flush_id"] for message in messages if message["type"] == "flushed"] == ["now"]
    assert merged([message for message in messages if message["type"] != "flushed"]) == merged(
        undisturbed(wire.STT, audio)
    )


async def refuse_with_503(peer: Peer) -> None:
    await peer.send_raw(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def refuse_key(peer: Peer) -> None:
    await peer.accept()
    await peer.recv()
    await peer.send(json.dumps({"type": "error", "code": 1008, "message": wire.BAD_CREDENTIALS}))
    await peer.close(1008, wire.BAD_CREDENTIALS)


async def never_ready(peer: Peer) -> None:
    await peer.accept()
    await peer.drain()


async def nothing(peer: Peer) -> None:
    await asyncio.Event().wait()


def test_a_microphone_waits_while_there_is_no_connection_and_then_goes_on() -> None:
    audio = speech(60, 3)
    service = Service("stt", kills=[100])
    waits: list[float] = []

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            policy = ReconnectPolicy(session_s=None, replay_ms=2000.0, attempts=50, budget_s=60.0, max_backoff_s=1.0)
            async with client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=policy) as stt:
                service.refusals.clear()

                async def speak() -> None:
                    loop = asyncio.get_running_loop()
                    async for chunk in live(audio):
                        before_s = loop.time()
                        await stt.send_audio(chunk)
                        waits.append(loop.time() - before_s)
                    await stt.send_eos()

                speaking = asyncio.create_task(speak())
                messages = []
                async for message in stt:
                    messages.append(message)
                    if len(messages) == 50:
                        service.refusals += [refuse_with_503] * 30
                await speaking
                return messages

    messages = run(main(), timeout_s=500.0, held_clock=True)
    # Silence made room for speech, so some steps are missing; no word is.
    assert merged(without_steps(messages)) == merged(without_steps(undisturbed(wire.STT, audio)))
    assert_times_grow(messages)
    [again] = reconnections(messages)
    assert again["gap_ms"] > 5000.0
    assert again["replayed_ms"] <= 2000.0
    assert max(waits) > 2.0
    assert sum(wait > 0.1 for wait in waits) == 1


# --- what the policy says


def test_giving_up_says_how_often_and_raises_the_last_failure() -> None:
    service = Service("stt", kills=[20])
    policy = ReconnectPolicy(attempts=3, backoff_s=0.5)

    async def main() -> tuple[SessionError, float]:
        async with misbehaving_server(service) as base_url:
            loop = asyncio.get_running_loop()
            client = client_of(base_url)
            stream = await client.stt_stream(SETUPS["stt"], live(speech(20, 1)), reconnect=policy)
            service.refusals += [refuse_with_503] * 3
            with pytest.raises(SessionClosed, match="attempt 3 of 3 to reconnect, ") as caught:
                async for _ in stream.iter_events():
                    start_s = loop.time()
            return caught.value, loop.time() - start_s

    error, outage_s = run(main(), timeout_s=500.0, held_clock=True)
    assert error.code == 503
    assert error.retryable
    assert isinstance(error.__cause__, SessionClosed)
    assert service.num_connections == 4
    assert outage_s < 0.5 + 1.0 + 2.0 + 0.5


def test_the_budget_bounds_an_outage() -> None:
    service = Service("stt", kills=[20])

    async def main() -> tuple[SessionError, float]:
        async with misbehaving_server(service) as base_url:
            loop = asyncio.get_running_loop()
            client = client_of(base_url, Limits(connect_s=None, ready_s=None, keepalive_s=None))
            policy = ReconnectPolicy(attempts=100, budget_s=7.0)
            stream = await client.stt_stream(SETUPS["stt"], live(speech(20, 1)), reconnect=policy)
            service.refusals += [never_ready, nothing]
            with pytest.raises(SessionClosed, match=r"attempt 1 of 100 to reconnect, 7\.0 s after the break") as caught:
                async for _ in stream.iter_events():
                    start_s = loop.time()
            return caught.value, loop.time() - start_s

    error, outage_s = run(main(), timeout_s=500.0, held_clock=True)
    assert error.code in {1006, 1011}
    assert 7.0 <= outage_s < 8.0


def test_a_service_that_is_ready_and_breaks_each_time_is_one_outage() -> None:
    service = Service("stt", kills=[20, *[1] * 10])

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            policy = ReconnectPolicy(attempts=4)
            with pytest.raises(SessionClosed, match="attempt 4 of 4 to reconnect"):
                await interpret(client_of(base_url), "stt", live(speech(20, 1)), policy)

    run(main(), timeout_s=500.0, held_clock=True)
    assert service.num_connections == 5


def test_a_refused_key_is_never_tried_again() -> None:
    service = Service("stt", kills=[20])

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            client = client_of(base_url)
            policy = ReconnectPolicy(rules={1008: True})
            stream = await client.stt_stream(SETUPS["stt"], live(speech(20, 1)), reconnect=policy)
            service.refusals.append(refuse_key)
            with pytest.raises(AuthError, match=r"revoked or expired.*attempt 1 of 5 to reconnect") as caught:
                async for _ in stream.iter_events():
                    pass
            assert caught.value.code == 1008

    run(main(), timeout_s=500.0, held_clock=True)
    assert service.num_connections == 2


def test_the_first_connection_is_tried_once() -> None:
    service = Service("stt")
    service.refusals += [refuse_with_503] * 2

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            with pytest.raises(SessionClosed, match="HTTP 503"):
                await client_of(base_url).stt(SETUPS["stt"], b"", reconnect=ReconnectPolicy())

    run(main())
    assert service.num_connections == 1


def test_a_connection_lost_before_ready_is_made_again() -> None:
    audio = speech(3, 4)
    service = Service("stt", kills=[0])

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            return await interpret(client_of(base_url), "stt", audio, ReconnectPolicy())

    messages = run(main())
    assert merged(messages) == merged(undisturbed(wire.STT, audio))
    assert not reconnections(messages)  # for nothing had begun


@pytest.mark.parametrize(
    ("error", "rules", "expected"),
    [
        (SessionClosed("", code=1006, retryable=True), {}, True),
        (SessionClosed("", code=1006, retryable=True), {1006: False}, False),
        (SessionClosed("", code=1000), {}, False),
        (SessionClosed("", code=1000), {1000: True}, True),
        (SessionTimeout("", retryable=True), {}, True),
        (ServerError("", code=1008, reason="unsupported input format 'mp3'"), {}, False),
        (ServerError("", code=1008, reason=wire.SESSION_TOO_LONG), {}, True),
        (SessionClosed("", code=1008, reason=wire.SESSION_TOO_LONG), {}, True),
        (ServerError("", code=1008, reason=wire.TOO_MANY_SESSIONS), {}, True),
        (ServerError("", code=1008, reason=wire.SESSION_TOO_LONG), {1008: False}, False),
        (AuthError("", code=1008, retryable=True), {1008: True}, False),
    ],
)
def test_rules(error: SessionError, rules: dict[int, bool], expected: bool) -> None:
    assert ReconnectPolicy(rules=rules).allows(error) is expected


def test_backoff_doubles_up_to_its_bound() -> None:
    policy = ReconnectPolicy(backoff_s=0.5, max_backoff_s=3.0)
    assert [policy.backoff_bound_s(attempt) for attempt in (1, 2, 3, 4, 5, 10**6)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_the_wait_before_an_attempt_is_a_random_part_of_its_bound() -> None:
    service = Service("stt", kills=[1])
    parts = iter([0.5, 1.0, 0.0])
    times: list[float] = []

    async def refuse(peer: Peer) -> None:
        times.append(asyncio.get_running_loop().time())
        await refuse_with_503(peer)

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            client = client_of(base_url)
            policy = ReconnectPolicy(attempts=3, backoff_s=100.0, max_backoff_s=150.0, budget_s=1000.0)
            link = ResumingLink(
                lambda: client.new_link(wire.STT, None, client.limits),
                wire.STT,
                client.limits,
                policy,
                rng=lambda: next(parts),
            )
            await link.open()
            await link.send_setup(SETUPS["stt"])
            assert await link.recv() is not None
            service.refusals += [refuse] * 3
            with pytest.raises(SessionClosed):
                await link.send_audio(bytes(12800), None)
                times.append(asyncio.get_running_loop().time())
                await link.recv()
            await link.close()

    run(main(), timeout_s=5000.0, held_clock=True)
    start_s = times[0]
    assert [round(time_s - start_s) for time_s in times[1:]] == [50, 200, 200]


@pytest.mark.parametrize("how", ["cancel", "close", "abort", "leave"])
@pytest.mark.parametrize("refusal", [None, nothing, never_ready], ids=["backoff", "connect", "ready"])
def test_ending_between_attempts_is_prompt(how: str, refusal: Callable[[Peer], Awaitable[None]] | None) -> None:
    service = Service("stt", kills=[1])

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with misbehaving_server(service) as base_url:
            backoff_s = 1000.0 if refusal is None else 0.0
            policy = ReconnectPolicy(backoff_s=backoff_s, max_backoff_s=backoff_s, budget_s=1e6)
            client = client_of(base_url, Limits(connect_s=1e5, ready_s=1e5, close_s=0.5, keepalive_s=None))
            async with client.stt_realtime(**SETUPS["stt"], reconnect=policy) as stt:
                assert await stt.recv() is not None
                service.refusals += [refusal] * 5 if refusal is not None else []
                await stt.send_audio(bytes(12800))
                receiving = asyncio.create_task(stt.recv())
                await asyncio.sleep(1.0)
                assert not receiving.done()
                start_s = loop.time()
                if how == "cancel":
                    receiving.cancel()
                    await asyncio.wait([receiving])
                    assert receiving.cancelled()
                elif how == "close":
                    await stt.close()
                    assert await receiving is None
                elif how == "abort":
                    await stt.aclose()
                    assert await receiving is None
            if how == "leave":
                assert await receiving is None
            assert loop.time() - start_s < 1.0

    run(main(), timeout_s=1e6, held_clock=True)


def test_receiving_with_a_timeout_does_not_begin_the_attempt_anew() -> None:
    audio = speech(3, 4)
    service = Service("stt", kills=[10])

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(service) as base_url:
            policy = ReconnectPolicy(backoff_s=5.0, max_backoff_s=5.0)
            async with client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=policy) as stt:
                await stt.send_audio(audio)
                await stt.send_eos()
                messages: list[dict[str, Any]] = []
                while True:
                    try:
                        async with asyncio.timeout(0.01):
                            message = await stt.recv()
                    except TimeoutError:
                        continue
                    if message is None:
                        return messages
                    messages.append(message)

    messages = run(main(), timeout_s=500.0, held_clock=True)
    assert merged(messages) == merged(undisturbed(wire.STT, audio))
    assert service.num_connections == 2


def test_cancelling_at_any_time_leaves_nothing_behind() -> None:
    """Cut a stream of breaks and limits after every so many turns of the loop."""
    audio = speech(30, 9)

    async def main() -> None:
        for turns in range(0, 4000, 61):
            rng = random.Random(turns)
            service = Service("s2s", cap_s=3.0, kills=[rng.randrange(1, 60) for _ in range(10)], rng=rng)
            async with misbehaving_server(service) as base_url:
                task = asyncio.create_task(
                    interpret(client_of(base_url), "s2s", live(audio), ReconnectPolicy(session_s=3.0))
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()

    run(main(), timeout_s=5000.0, held_clock=True)


def test_sending_without_receiving_is_told_so_after_a_break() -> None:
    service = Service("stt", kills=[1])

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            policy = ReconnectPolicy(replay_ms=1000.0)
            async with client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=policy) as stt:
                with pytest.raises(SessionTimeout, match="iterate the session while sending"):
                    while True:
                        await stt.send_audio(b"\x00\x20" * 4000)
                        await asyncio.sleep(0.1)

    run(main(), timeout_s=500.0, held_clock=True)


# --- synthesis


async def say(peer: Peer, num_audio: int) -> None:
    await peer.accept()
    await peer.recv()
    await peer.send(READY)
    while json.loads(await peer.recv())["type"] != "end_of_stream":
        pass
    for number in range(num_audio):
        audio = base64.b64encode(bytes([number]) * 7680).decode()
        start_s = number * 0.08
        await peer.send(json.dumps({"type": "audio", "audio": audio, "start_s": start_s, "stop_s": start_s + 0.08}))


def test_a_synthesis_begins_anew_until_its_audio_comes() -> None:
    ways = deque([0, 0, 3])

    async def behave(peer: Peer) -> None:
        num_audio = ways.popleft()
        await say(peer, num_audio)
        if num_audio == 0:
            peer.reset()
            return
        await peer.send('{"type":"end_of_stream"}')
        await peer.close(1000)

    async def main() -> bytes:
        async with misbehaving_server(behave) as base_url:
            text = ["Gate", "twelve"]
            result = await client_of(base_url).tts({"output_format": "pcm"}, text, reconnect=ReconnectPolicy())
            return result.raw_data

    assert run(main()) == b"".join(bytes([number]) * 7680 for number in range(3))


def test_a_synthesis_that_breaks_in_its_audio_ends_with_the_typed_error() -> None:
    async def behave(peer: Peer) -> None:
        await say(peer, 2)
        await peer.close(1011, "worker lost")

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            with pytest.raises(SessionClosed, match="cannot be taken up in its middle") as caught:
                await client_of(base_url).tts({"output_format": "pcm"}, "Gate", reconnect=ReconnectPolicy())
            assert caught.value.code == 1011
            assert caught.value.received_ms == 160

    run(main())


# --- what does not go together


def test_what_cannot_be_resumed_is_refused_before_there_is_a_connection() -> None:
    client = GradiumClient(api_key="k", base_url="http://127.0.0.1:1/")
    policy = ReconnectPolicy()
    with pytest.raises(AudioError, match="reconnect needs a raw input_format, got 'wav'"):
        client.stt_realtime(reconnect=policy)
    with pytest.raises(AudioError, match="an output_format whose bytes tell their time, got 'opus'"):
        client.s2s_realtime(output_format="opus", reconnect=policy)
    with pytest.raises(AudioError, match="got client_req_id 'a'"):
        client.s2s_realtime(client_req_id="a", reconnect=policy)
    with pytest.raises(AudioError, match="got close_ws_on_eos False"):
        client.tts_realtime(close_ws_on_eos=False, reconnect=policy)
    with pytest.raises(AudioError, match="got a part of a shared one"):
        client.multiplex_s2s().request(reconnect=policy)
    with pytest.raises(ValueError, match="expected at least 1 attempt, got 0"):
        ReconnectPolicy(attempts=0)
    with pytest.raises(ValueError, match="expected session_s above 0, got 0"):
        ReconnectPolicy(session_s=0.0)


def test_an_end_that_is_answered_while_it_is_being_sent_has_been_sent() -> None:
    class Slow:
        """A link that answers the end of the input before it has taken it."""

        async def open(self) -> None: ...

        async def send_setup(self, _: Any) -> None: ...

        async def send_eos(self, _: str | None) -> None:
            await asyncio.sleep(1.0)

        async def recv(self) -> dict[str, Any]:
            return {"type": "end_of_stream"}

    async def main() -> None:
        slow: Any = Slow()
        link = ResumingLink(lambda: slow, wire.STT, LIMITS, ReconnectPolicy())
        await link.open()
        await link.send_setup(SETUPS["stt"])
        sending = asyncio.create_task(link.send_eos(None))
        await asyncio.sleep(0.1)
        assert await link.recv() == {"type": "end_of_stream"}
        await sending
        with pytest.raises(SessionClosed, match="ended by the server"):
            await link.send_audio(bytes(2), None)

    run(main(), held_clock=True)


def test_a_session_serves_one_request() -> None:
    service = Service("stt")

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            async with client_of(base_url).stt_realtime(**SETUPS["stt"], reconnect=ReconnectPolicy()) as stt:
                with pytest.raises(RuntimeError, match="serves one request"):
                    await stt.send_setup({})

    run(main())
