"""The stream contract over real sockets: each fault has a typed outcome within its bound, and leaves nothing behind.

The clock is held, so that no bound is missed because the machine is slow; a wait that spins would never end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from harness import READY, Behaviour, Peer, assert_nothing_left, misbehaving_server, open_sockets, run
from speechwire.errors import AudioError, AuthError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import GradiumClient, Limits

KEY = "gd_4c0ffee5ecre7"
FRAME = bytes(3840)
SETUP: dict[str, Any] = {"voice_id": "x"}
LIMITS = Limits(
    connect_s=0.5, ready_s=0.4, idle_s=0.5, send_s=0.5, close_s=0.3, keepalive_s=None, max_message_bytes=1 << 20
)
KEEPALIVE = Limits(connect_s=0.5, ready_s=None, idle_s=None, send_s=None, close_s=0.3, keepalive_s=0.2)
# Every bound above, one after the other.
BOUND_S = 2.5


def audio_message(num_bytes: int = 7680) -> str:
    audio = base64.b64encode(bytes(num_bytes)).decode()
    return f'{{"type":"audio","audio":"{audio}","start_s":0.0,"stop_s":0.08,"stream_id":0}}'


async def begin(peer: Peer) -> None:
    """Serve a request up to its first audio."""
    await peer.accept()
    assert json.loads(await peer.recv())["type"] == "setup"
    await peer.send(READY)
    assert json.loads(await peer.recv())["type"] in {"audio", "text"}
    await peer.send(audio_message())


def after_begin(*messages: str, close: tuple[int, str] | None = None) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await begin(peer)
        for message in messages:
            await peer.send(message)
        if close is not None:
            await peer.close(*close)
        await peer.drain()

    return behave


def before_ready(*messages: str, close: tuple[int, str] | None = None) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        for message in messages:
            await peer.send(message)
        if close is not None:
            await peer.close(*close)
        await peer.drain()

    return behave


async def tcp_reset(peer: Peer) -> None:
    await begin(peer)
    peer.reset()


async def fin_without_close_frame(peer: Peer) -> None:
    await begin(peer)
    await peer.finish()


async def close_frame_then_open_socket(peer: Peer) -> None:
    await begin(peer)
    await peer.send_raw(b"\x88\x07\x03\xf3stuck")  # code 1011
    await asyncio.Event().wait()


async def half_open(peer: Peer) -> None:
    await begin(peer)
    await asyncio.Event().wait()  # the socket stays open, nobody reads it, no ping is answered


async def no_handshake(_: Peer) -> None:
    await asyncio.Event().wait()


async def lost_before_ready(peer: Peer) -> None:
    await peer.accept()
    await peer.recv()
    peer.reset()


async def reset_in_handshake(peer: Peer) -> None:
    await peer.send_raw(b"HTTP/1.1 101")
    peer.reset()


def raw_answer(data: bytes) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.send_raw(data)

    return behave


def http_answer(status: str) -> Behaviour:
    return raw_answer(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


def error_message(message: str, code: int) -> str:
    return json.dumps({"type": "error", "message": message, "code": code})


@dataclass
class Fault:
    name: str
    behaviour: Behaviour
    error: type[SessionError]
    code: int | None
    says: str
    retryable: bool
    limits: Limits = field(default=LIMITS)
    in_stream: bool = True


EARLY_END = "end of stream too early"
FAULTS = [
    Fault("tcp reset", tcp_reset, SessionClosed, 1006, "lost without a close frame", True),
    Fault("fin without close frame", fin_without_close_frame, SessionClosed, 1006, "lost without a close frame", True),
    Fault("close 1011", after_begin(close=(1011, "worker lost")), SessionClosed, 1011, "worker lost", True),
    Fault("close, socket left open", close_frame_then_open_socket, SessionClosed, 1011, "stuck", True),
    Fault("close 1000 too early", after_begin(close=(1000, "")), SessionClosed, 1000, "closed the connection", False),
    Fault("close 1008", after_begin(close=(1008, f"quota of {KEY}")), SessionClosed, 1008, "quota", False),
    Fault(
        "error then close",
        # A server may repeat the key.
        after_begin(error_message(f"decoder failed for {KEY}", 1011), close=(1011, "decoder failed")),
        ServerError,
        1011,
        "decoder failed",
        True,
    ),
    Fault("stalled server", after_begin(), SessionTimeout, None, "nothing came from the server for 0.5 s", True),
    Fault("half-open peer", half_open, SessionTimeout, None, "no answer to a ping", True, limits=KEEPALIVE),
    Fault("malformed JSON", after_begin('{"type":"audio",'), SessionClosed, 1002, "malformed message", False),
    Fault("not an object", after_begin("[1]"), SessionClosed, 1002, "malformed message", False),
    Fault("no type", after_begin('{"audio":"AAAA"}'), SessionClosed, 1002, "'type'", False),
    Fault(
        "invalid base64",
        after_begin('{"type":"audio","audio":"A!=="}'),
        SessionClosed,
        1002,
        "malformed message",
        False,
    ),
    Fault("audio without audio", after_begin('{"type":"audio"}'), SessionClosed, 1002, "'audio'", False),
    Fault("64 MB message", after_begin(audio_message(48 << 20)), SessionClosed, 1009, "WebSocket protocol", False),
    Fault(
        EARLY_END,
        after_begin('{"type":"end_of_stream"}'),
        SessionClosed,
        None,
        "before the input was complete",
        False,
    ),
    Fault("no ready", before_ready(), SessionTimeout, None, "for 0.4 s", True, in_stream=False),
    Fault("lost before ready", lost_before_ready, SessionClosed, 1006, "lost", True, in_stream=False),
    Fault("audio before ready", before_ready(audio_message()), SessionClosed, 1002, "ready", False, in_stream=False),
    Fault(
        "key refused",
        before_ready(
            error_message("API key is revoked or expired", 1008), close=(1008, "API key is revoked or expired")
        ),
        AuthError,
        1008,
        "API key is revoked or expired",
        False,
        in_stream=False,
    ),
    Fault("no handshake", no_handshake, SessionTimeout, None, "within 0.5 s", True, in_stream=False),
    Fault("reset in handshake", reset_in_handshake, SessionClosed, None, "handshake", True, in_stream=False),
    Fault("no HTTP", raw_answer(b"220 smtp ready\r\n\r\n"), SessionClosed, None, "handshake", True, in_stream=False),
    Fault("HTTP 401", http_answer("401 Unauthorized"), AuthError, 401, "HTTP 401", False, in_stream=False),
    Fault("HTTP 404", http_answer("404 Not Found"), SessionClosed, 404, "HTTP 404", False, in_stream=False),
    Fault("HTTP 503", http_answer("503 Unavailable"), SessionClosed, 503, "HTTP 503", True, in_stream=False),
]


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield FRAME
        await asyncio.sleep(0.01)


async def call_buffered(client: GradiumClient) -> None:
    await client.s2s(SETUP, endless())


async def call_stream(client: GradiumClient) -> None:
    stream = await client.s2s_stream(SETUP, endless())
    async for _ in stream.iter_audio():
        pass


async def call_realtime(client: GradiumClient) -> None:
    async with client.s2s_realtime(wait_for_ready_on_start=True, **SETUP) as s2s:
        await s2s.send_audio(FRAME)
        async for _ in s2s:
            pass


async def call_stt_stream(client: GradiumClient) -> None:
    stream = await client.stt_stream({"input_format": "pcm"}, endless())
    async for _ in stream.iter_text():
        pass


async def call_tts_buffered(client: GradiumClient) -> None:
    async def endless_text() -> AsyncIterator[str]:
        while True:
            yield "word"
            await asyncio.sleep(0.01)

    await client.tts({"output_format": "pcm"}, endless_text())


async def call_stt_realtime(client: GradiumClient) -> None:
    async with client.stt_realtime(input_format="pcm", wait_for_ready_on_start=True) as stt:
        await stt.send_audio(FRAME)
        async for _ in stt.events():
            pass


CALLS: list[Callable[[GradiumClient], Awaitable[None]]] = [
    call_buffered,
    call_stream,
    call_realtime,
    call_stt_stream,
    call_stt_realtime,
    call_tts_buffered,
]
INTERPRETING = {call_buffered, call_stream, call_realtime}


# A real-time caller sees end_of_stream itself and knows what it has sent.
CASES = [
    (fault, call)
    for fault in FAULTS
    for call in CALLS
    if fault.name != EARLY_END or call not in {call_realtime, call_stt_realtime}
]


@pytest.mark.parametrize(("fault", "call"), CASES, ids=lambda value: getattr(value, "name", None) or value.__name__)
def test_fault_has_a_typed_outcome_that_keeps_the_key(
    fault: Fault, call: Callable[[GradiumClient], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> SessionError:
        async with misbehaving_server(fault.behaviour) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY, limits=fault.limits)
            with pytest.raises(fault.error) as caught:
                async with asyncio.timeout(BOUND_S):
                    await call(client)
            return caught.value

    error = run(main(), held_clock=True)
    assert type(error) is fault.error
    assert error.code == fault.code
    assert fault.says in str(error)
    assert error.retryable is fault.retryable
    assert isinstance(error, RuntimeError)
    if fault.in_stream:
        assert error.request_id == "req-1"
        if call in INTERPRETING:
            assert error.sent_ms >= 80
            assert error.received_ms == 80
    told = [*traceback.format_exception(error), repr(error), repr(vars(error))]
    # The peer of this test lives in the same process and logs what it hears, as servers of other people may.
    told += [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert not [text for text in told if KEY in text]


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def main() -> None:
        client = GradiumClient(base_url=f"http://127.0.0.1:{port}/api/", api_key="k", limits=LIMITS)
        with pytest.raises(SessionClosed, match="could not connect") as caught:
            await client.s2s(SETUP, FRAME)
        assert caught.value.retryable

    run(main(), held_clock=True)


def test_peer_that_never_reads_ends_sending_within_its_bound() -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        await asyncio.Event().wait()

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            async with client.s2s_realtime(wait_for_ready_on_start=True, **SETUP) as s2s:
                with pytest.raises(SessionTimeout, match=r"took no data for 0\.5 s"):
                    async with asyncio.timeout(BOUND_S):
                        while True:
                            await s2s.send_audio(bytes(1 << 20))

    run(main(), held_clock=True)


def test_unknown_types_and_fields_pass_through() -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        await peer.send('{"type":"weather","sky":{"clouds":[1,2.5,null]}}')
        await peer.send('{"type":"text","text":"hola","start_s":0.5,"mood":"good"}')
        while json.loads(await peer.recv())["type"] != "end_of_stream":
            pass
        await peer.send('{"type":"end_of_stream","took_s":3}')
        await peer.close(1000)

    async def main() -> list[dict[str, Any]]:
        async with misbehaving_server(behave) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            stream = await client.s2s_stream(SETUP, FRAME)
            return [message async for message in stream.iter_events()]

    assert run(main(), held_clock=True) == [
        {"type": "weather", "sky": {"clouds": [1, 2.5, None]}},
        {"type": "text", "text": "hola", "start_s": 0.5, "stop_s": 0.5, "mood": "good"},
        {"type": "end_of_stream", "took_s": 3},
    ]


class NotAGenerator:
    """An asynchronous iterable of chunks that is no generator."""

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> NotAGenerator:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None


def echo_input(received: bytearray) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.recv()
        await peer.send(READY)
        while (message := json.loads(await peer.recv()))["type"] == "audio":
            received.extend(base64.b64decode(message["audio"]))
        await peer.send('{"type":"end_of_stream"}')
        await peer.close(1000)

    return behave


PCM = bytes(range(256)) * 40


def sync_generator() -> Iterator[bytes]:
    yield from (PCM[:1001], PCM[1001:])


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (PCM, "bytes"),
        (bytearray(PCM), "bytearray"),
        (memoryview(PCM), "memoryview"),
        (np.frombuffer(PCM, np.int16), "int16 array"),
        (NotAGenerator([PCM[:999], bytearray(PCM[999:1500]), memoryview(PCM[1500:])]), "not a native generator"),
        (sync_generator(), "generator"),
        ([PCM[:3], PCM[3:4], b"", PCM[4:]], "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_source_arrives_whole(source: Any, kind: str) -> None:
    received = bytearray()

    async def main() -> None:
        async with misbehaving_server(echo_input(received)) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            await client.s2s(SETUP, source, 24000 if "array" in kind else None)

    run(main(), held_clock=True)
    assert bytes(received) == PCM


async def source_that_raises() -> AsyncIterator[bytes]:
    yield FRAME
    raise LookupError("the microphone is gone")


class Stop(BaseException):
    """What an application may raise past every `except Exception`."""


async def source_with_a_base_exception() -> AsyncIterator[bytes]:
    yield FRAME
    raise Stop


async def source_that_was_cancelled() -> AsyncIterator[bytes]:
    yield FRAME
    raise asyncio.CancelledError


async def source_whose_own_session_failed() -> AsyncIterator[bytes]:
    yield FRAME
    raise SessionClosed("another session", code=4000)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        (source_that_raises, LookupError, "the microphone is gone"),
        (source_that_was_cancelled, SessionClosed, "the audio source ended with CancelledError"),
        (source_with_a_base_exception, SessionClosed, "the audio source ended with Stop"),
        (source_whose_own_session_failed, SessionClosed, "another session"),
        (lambda: ["text"], AudioError, "got str"),
        (lambda: [np.zeros(4, np.float64)], AudioError, "must be int16 or float32, got float64"),
        (lambda: [np.zeros((2, 2), np.int16)], AudioError, "must be 1-dimensional, got 2 dimensions"),
        (lambda: [b"123"], AudioError, "expected whole samples of 2 bytes, got 3 bytes"),
        (lambda: "speech.wav", AudioError, "got str"),
        (lambda: 7, AudioError, "got int"),
    ],
)
@pytest.mark.parametrize("buffered", [True, False])
def test_a_failing_source_fails_the_call(
    source: Callable[[], Any], error: type[Exception], says: str, buffered: bool
) -> None:
    async def main() -> None:
        async with misbehaving_server(echo_input(bytearray())) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            with pytest.raises(error, match=says):
                async with asyncio.timeout(BOUND_S):
                    if buffered:
                        await client.s2s(SETUP, source())
                    else:
                        stream = await client.s2s_stream(SETUP, source())
                        async for _ in stream.iter_audio():
                            pass

    run(main(), held_clock=True)


def test_breaking_out_of_a_stream_closes_it_and_its_source() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield FRAME
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async def main() -> None:
        async with misbehaving_server(after_begin()) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            async with await client.s2s_stream(SETUP, source()) as stream:
                audio = stream.iter_audio()
                async for chunk in audio:
                    assert len(chunk) == 7680
                    break
                await audio.aclose()
            assert closed.is_set()

    run(main(), held_clock=True)


def test_a_stream_that_is_never_iterated_can_be_closed() -> None:
    async def main() -> None:
        async with misbehaving_server(before_ready(READY)) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            stream = await client.s2s_stream(SETUP, FRAME)
            await stream.aclose()

    run(main(), held_clock=True)


def test_closing_from_another_task_ends_iteration() -> None:
    async def main() -> None:
        async with misbehaving_server(after_begin()) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            async with client.s2s_realtime(**SETUP) as s2s:
                await s2s.send_audio(FRAME)
                kinds = []
                async for message in s2s:
                    kinds.append(message["type"])
                    if message["type"] == "audio":
                        asyncio.get_running_loop().call_later(0.05, asyncio.ensure_future, s2s.close())
                assert kinds == ["ready", "audio"]
                assert await s2s.recv() is None

    run(main(), held_clock=True)


@pytest.mark.parametrize("call", [call_buffered, call_stream, call_realtime], ids=lambda call: call.__name__)
def test_cancellation_at_every_await(call: Callable[[GradiumClient], Awaitable[None]]) -> None:
    """Cancel after every number of turns of the loop up to the first audio, and a while into the wait for more."""

    async def main() -> None:
        served = 0

        async def behave(peer: Peer) -> None:
            nonlocal served
            await begin(peer)
            served += 1
            await peer.drain()

        async with misbehaving_server(behave) as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", limits=LIMITS)
            loop = asyncio.get_running_loop()
            turns = 0
            while served < 10:
                task = asyncio.ensure_future(call(client))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                start_s = loop.time()
                await asyncio.wait([task], timeout=BOUND_S)
                assert task.cancelled(), f"after {turns} turns of the loop"
                assert loop.time() - start_s < 1.0
                turns += 1
                assert turns < 2000

    run(main(), held_clock=True)


def test_guard_sees_a_leak() -> None:
    async def main() -> None:
        sockets = open_sockets()
        leak = socket.socket()
        with pytest.raises(AssertionError, match="sockets left behind"):
            await assert_nothing_left(sockets)
        leak.close()
        task = asyncio.create_task(asyncio.sleep(10))
        with pytest.raises(AssertionError, match="tasks left behind"):
            await assert_nothing_left(sockets)
        task.cancel()

    asyncio.run(main())
