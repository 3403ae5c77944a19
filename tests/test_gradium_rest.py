"""One REST request against servers that misbehave: every end is typed, in bounds, and silent about the key."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from harness import Peer, loopback_server, misbehaving_server, run
from speechwire.errors import AuthError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import GradiumClient, Limits
from speechwire.gradium.rest import Rest

KEY = "gsk_0123456789abcdef"
SHORT_S = 0.3
LIMITS = Limits(connect_s=5.0, idle_s=SHORT_S, send_s=SHORT_S, max_message_bytes=100_000)
OK = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def answer(status: str, body: str, content_type: str = "application/json", more: str = "") -> bytes:
    """Return a whole answer as bytes."""
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(data)}\r\n{more}\r\n"
    return head.encode() + data


class Waits:
    """Stands in for sleeping: remembers how long, and does not."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits_s.append(seconds)


def rest(base_url: str, waits: Waits | None = None, limits: Limits = LIMITS, **options: Any) -> Rest:
    return Rest(
        base_url,
        lambda: {"x-api-key": KEY},
        limits,
        api_key=KEY,
        use_proxies=False,
        sleep=waits or Waits(),
        uniform=lambda: 0.5,
        **options,
    )


def fetch_from(
    behaviour: Callable[[Peer], Awaitable[None]], method: str = "POST", waits: Waits | None = None, **parts: Any
) -> Any:
    async def main() -> Any:
        async with misbehaving_server(behaviour) as base_url:
            return await rest(base_url, waits).fetch(method, "things/", **parts)

    return run(main(), held_clock=True)


def saying(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Return a behaviour that gives one answer to each request in turn, and the last to all others."""
    left = list(answers)

    async def behave(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(left.pop(0) if len(left) > 1 else left[0])

    return behave


# --- answers


def test_json_of_an_answer_is_returned() -> None:
    assert fetch_from(saying(answer("200 OK", '{"a": [1]}')), "GET") == {"a": [1]}


@pytest.mark.parametrize("head", ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"])
def test_answer_without_a_body_or_a_type_is_none(head: str) -> None:
    assert fetch_from(saying(head.encode()), "DELETE") is None


def test_json_without_a_length_is_taken() -> None:
    assert fetch_from(saying(f"{OK}connection: close\r\n\r\n[1]".encode())) == [1]


@pytest.mark.parametrize("body", ["<html>log in</html>", "{", "[" * 50_000])
def test_success_that_is_not_json_is_malformed(body: str) -> None:
    with pytest.raises(SessionClosed, match="expected JSON, got text/html") as caught:
        fetch_from(saying(answer("200 OK", body, "text/html")), "GET")
    assert caught.value.code == 200


@pytest.mark.parametrize(
    ("status", "body", "content_type", "kind", "code", "reason", "retryable"),
    [
        ("401 Unauthorized", '{"detail": "bad key"}', "application/json", AuthError, 401, "bad key", False),
        ("403 Forbidden", "", "text/plain", AuthError, 403, "", False),
        (
            "500 Internal Server Error",
            "error from server 1008: API key is revoked or expired",
            "text/plain",
            AuthError,
            1008,
            "API key is revoked or expired",
            False,
        ),
        (
            "500 Internal Server Error",
            "error from server Some(1008): unsupported output format 'mp3'\nsupport@",
            "text/plain",
            ServerError,
            1008,
            "unsupported output format 'mp3'",
            False,
        ),
        ("500 Internal Server Error", "error from server 1011: oops", "text/plain", ServerError, 1011, "oops", True),
        ("500 Internal Server Error", "oops", "text/plain", ServerError, 500, "oops", False),
        (
            "404 Not Found",
            '{"detail": "voice not found"}',
            "application/json",
            ServerError,
            404,
            "voice not found",
            False,
        ),
        (
            "422 Unprocessable",
            '{"detail": [{"loc": ["body", "name"], "msg": "too long", "type": "x"}]}',
            "application/json",
            ServerError,
            422,
            "body.name: too long",
            False,
        ),
        ("400 Bad Request", '["a", "b"]', "application/json", ServerError, 400, "a; b", False),
        ("402 Payment Required", '{"error": "no credits"}', "application/json", ServerError, 402, "no credits", False),
        ("502 Bad Gateway", "<html><h1>502</h1></html>", "text/html", ServerError, 502, "", True),
        ("408 Request Timeout", "", "", ServerError, 408, "", True),
        ("429 Too Many Requests", "", "", ServerError, 429, "", True),
        ("503 Service Unavailable", "{broken", "application/json", ServerError, 503, "{broken", True),
        ("504 Gateway Timeout", "", "", ServerError, 504, "", True),
        ("307 Temporary Redirect", "", "", ServerError, 307, "", False),
    ],
)
def test_refusals_are_typed(
    status: str, body: str, content_type: str, kind: type[SessionError], code: int, reason: str, retryable: bool
) -> None:
    with pytest.raises(SessionError) as caught:
        fetch_from(saying(answer(status, body, content_type, "location: http://elsewhere.invalid/\r\n")))
    error = caught.value
    assert (type(error), error.code, error.reason, error.retryable) == (kind, code, reason, retryable)
    assert f"/api/things/ answered HTTP {status[:3]}" in str(error)
    assert reason in str(error)


def test_long_refusals_are_cut() -> None:
    with pytest.raises(ServerError) as caught:
        fetch_from(saying(answer("400 Bad Request", "x" * 1_000_000, "text/plain")))
    assert len(str(caught.value)) < 1000


def test_answers_are_bounded() -> None:
    with pytest.raises(SessionClosed, match="at most 100000 bytes"):
        fetch_from(saying(answer("200 OK", "[" + "1," * 100_000 + "1]")))


# --- connections


def test_nobody_listens() -> None:
    waits = Waits()

    async def main() -> None:
        async with misbehaving_server(lambda peer: peer.finish()) as base_url:
            pass
        with pytest.raises(SessionClosed, match="could not connect for POST") as caught:
            await rest(base_url, waits).fetch("POST", "things/", json={})
        assert caught.value.retryable

    run(main(), held_clock=True)
    assert waits.waits_s == [0.5, 1.0]  # nothing had been sent, so even a POST was tried again


def ends() -> Iterator[Any]:
    async def reset_at_once(peer: Peer) -> None:
        peer.reset()

    async def reset_after_the_request(peer: Peer) -> None:
        await peer.read_request()
        peer.reset()

    async def reset_within_the_body(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(f'{OK}content-length: 100\r\n\r\n{{"a"'.encode())
        peer.reset()

    async def end_within_the_body(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(f'{OK}content-length: 100\r\n\r\n{{"a"'.encode())

    async def end_within_a_chunk(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(f"{OK}transfer-encoding: chunked\r\n\r\n5\r\n[1]".encode())

    async def say_nothing_and_end(peer: Peer) -> None:
        await peer.read_request()

    async def speak_something_else(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n" + KEY.encode())

    async def endless_line(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(b"HTTP/1.1 200 OK\r\nx: " + KEY.encode() * 50_000)

    async def unknown_coding(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(answer("200 OK", "not gzip", more="content-encoding: gzip\r\n"))

    for behaviour in (
        reset_at_once,
        reset_after_the_request,
        reset_within_the_body,
        end_within_the_body,
        end_within_a_chunk,
        say_nothing_and_end,
        speak_something_else,
        endless_line,
        unknown_coding,
    ):
        yield pytest.param(behaviour, id=behaviour.__name__)


@pytest.mark.parametrize("behaviour", list(ends()))
def test_lost_connections_are_closed_sessions_and_a_post_is_not_sent_again(behaviour: Any) -> None:
    requests = 0

    async def counted(peer: Peer) -> None:
        nonlocal requests
        requests += 1
        await behaviour(peer)

    waits = Waits()
    with pytest.raises(SessionClosed, match="the connection was lost during POST") as caught:
        fetch_from(counted, waits=waits, json={})
    assert caught.value.retryable
    assert KEY not in f"{caught.value} {caught.value!r}"
    assert (requests, waits.waits_s) == (1, [])


def slow() -> Iterator[Any]:
    async def silent(peer: Peer) -> None:
        await peer.read_request()
        await peer.drain_bytes()

    async def endless_head(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(b"HTTP/1.1 200 OK\r\n")
        while True:
            await peer.send_raw(b"x: y\r\n")
            await asyncio.sleep(0.02)

    async def endless_early_hints(peer: Peer) -> None:
        await peer.read_request()
        while True:
            await peer.send_raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await asyncio.sleep(0.02)

    async def endless_body(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(f"{OK}transfer-encoding: chunked\r\n\r\n".encode())
        while True:
            await peer.send_raw(b"1\r\n \r\n")
            await asyncio.sleep(0.02)

    async def endless_refusal(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await peer.send_raw(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)

    for behaviour in (silent, endless_head, endless_early_hints, endless_body, endless_refusal):
        yield pytest.param(behaviour, id=behaviour.__name__)


@pytest.mark.parametrize("behaviour", list(slow()))
def test_slow_servers_are_timed_out(behaviour: Any) -> None:
    with pytest.raises(SessionTimeout, match=r"0\.3 s") as caught:
        fetch_from(behaviour, json={})
    assert caught.value.retryable
    assert isinstance(caught.value, TimeoutError)


def test_server_that_takes_no_body_is_timed_out() -> None:
    async def take_only_the_head(peer: Peer) -> None:
        await peer.take(100)
        await asyncio.Event().wait()

    with pytest.raises(SessionTimeout, match=r"the server took no data of POST .* for 0\.3 s"):
        fetch_from(take_only_the_head, content=bytes(50_000_000))


def test_bounds_can_be_switched_off() -> None:
    limits = Limits(connect_s=None, idle_s=None, send_s=None)

    async def main() -> Any:
        async with misbehaving_server(saying(answer("200 OK", "[1]"))) as base_url:
            return await rest(base_url, limits=limits).fetch("POST", "things/", json={})

    assert run(main(), held_clock=True) == [1]


def test_refusal_during_a_large_body_is_told() -> None:
    async def refuse_early(peer: Peer) -> None:
        await peer.take(100)
        await peer.send_raw(answer("413 Too Large", '{"detail": "too large"}', more="connection: close\r\n"))
        while await peer.take(1 << 20):
            pass

    with pytest.raises(ServerError, match="too large") as caught:
        fetch_from(refuse_early, content=bytes(5_000_000))
    assert caught.value.code == 413


def test_certificate_that_nobody_vouches_for_is_not_worth_another_try() -> None:
    waits = Waits()

    async def not_tls(peer: Peer) -> None:
        await peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.drain_bytes()

    async def main() -> None:
        async with misbehaving_server(not_tls) as base_url:
            secure = rest(base_url.replace("http:", "https:"), waits, ssl_context=ssl.create_default_context())
            with pytest.raises(SessionClosed, match="could not connect") as caught:
                await secure.fetch("GET", "things/")
            assert not caught.value.retryable

    run(main(), held_clock=True)
    assert waits.waits_s == []


def test_cancelling_leaves_nothing_behind() -> None:
    arrived = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.read_request()
        arrived.set()
        await peer.drain_bytes()

    async def main() -> None:
        async with misbehaving_server(silent) as base_url:
            task = asyncio.create_task(rest(base_url, limits=Limits()).fetch("GET", "things/"))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main(), held_clock=True)


# --- retries


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_passing_failures_of_idempotent_requests_are_tried_again(method: str) -> None:
    waits = Waits()
    busy, good = answer("503 Service Unavailable", ""), answer("200 OK", "[1]")
    assert fetch_from(saying(busy, b"", good), method, waits) == [1]
    assert waits.waits_s == [0.5, 1.0]


def test_retries_end() -> None:
    waits = Waits()
    with pytest.raises(ServerError) as caught:
        fetch_from(saying(answer("502 Bad Gateway", "")), "GET", waits)
    assert caught.value.code == 502
    assert len(waits.waits_s) == 2


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "404 Not Found", "500 Oops"])
def test_refusals_that_will_not_pass_are_not_tried_again(status: str) -> None:
    waits = Waits()
    with pytest.raises(SessionError):
        fetch_from(saying(answer(status, "")), "GET", waits)
    assert waits.waits_s == []


def test_busy_post_is_not_sent_again() -> None:
    waits = Waits()
    with pytest.raises(ServerError):
        fetch_from(saying(answer("503 Busy", "", more="retry-after: 1\r\n")), "POST", waits, json={})
    assert waits.waits_s == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", [7.0]),
        ("0", [0.5]),
        ("Sat, 21 Nov 2026 00:00:12 GMT", [12.0]),
        ("Sat, 21 Nov 2020 00:00:00 GMT", [0.5]),
        ("soon", [0.5]),
        ("9" * 400, []),
        ("31", []),
    ],
)
def test_retry_after_is_honoured_up_to_a_bound(value: str, expected: list[float]) -> None:
    waits = Waits()
    behaviour = saying(answer("503 Busy", "", more=f"retry-after: {value}\r\n"), answer("200 OK", "[1]"))

    async def main() -> Any:
        async with misbehaving_server(behaviour) as base_url:
            return await rest(base_url, waits, clock=lambda: 1_795_219_200.0).fetch("GET", "things/")

    if expected:
        assert run(main(), held_clock=True) == [1]
    else:
        with pytest.raises(ServerError):
            run(main(), held_clock=True)
    assert waits.waits_s == expected


def test_delete_whose_answer_was_lost_is_done_when_nothing_is_left() -> None:
    assert fetch_from(saying(b"", answer("404 Not Found", "")), "DELETE") is None
    # A refusal that came through says that it was not carried out.
    with pytest.raises(ServerError):
        fetch_from(saying(answer("503 Busy", ""), answer("404 Not Found", "")), "DELETE")


def test_delete_that_was_never_sent_is_not_taken_for_done() -> None:
    async def main() -> None:
        async with misbehaving_server(lambda peer: peer.finish()) as nobody:
            pass
        async with misbehaving_server(saying(answer("404 Not Found", ""))) as base_url:

            async def somebody_listens_now(_: float) -> None:
                deleting._base_url = base_url

            deleting = Rest(nobody, dict, LIMITS, use_proxies=False, sleep=somebody_listens_now)
            with pytest.raises(ServerError) as caught:
                await deleting.fetch("DELETE", "things/")
            assert caught.value.code == 404

    run(main(), held_clock=True)


# --- bodies


def test_failure_of_the_source_of_a_body_is_its_own() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"some"
        raise httpx.ReadError("of another connection")

    async def take_all(peer: Peer) -> None:
        await peer.drain_bytes()

    with pytest.raises(httpx.ReadError, match="of another connection"):
        fetch_from(take_all, content=source())


def test_time_that_a_source_takes_does_not_count() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(3 * SHORT_S)
        yield b"yz"

    async def count(peer: Peer) -> None:
        _, body = await peer.read_request()
        await peer.send_raw(answer("200 OK", str(len(body))))

    assert fetch_from(count, content=source()) == 3


# --- connections that are kept


def test_connections_are_kept_while_the_client_is_open() -> None:
    connections = 0

    async def serve_all(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        while True:
            await peer.read_request()
            await peer.send_raw(answer("200 OK", "[1]"))

    async def main() -> None:
        async with misbehaving_server(serve_all) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY)
            async with client:
                for _ in range(3):
                    assert await client.get("things/") == [1]
                with pytest.raises(RuntimeError, match="open already"):
                    async with client:
                        pass
            assert connections == 1
            for _ in range(2):
                await client.get("things/")
            assert connections == 3

    run(main())


def test_answer_that_was_not_read_gives_its_connection_back() -> None:
    gone = asyncio.Event()

    async def unread(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(f"{OK}content-length: 100\r\n\r\n".encode())
        await peer.drain_bytes()
        gone.set()

    async def main() -> None:
        async with misbehaving_server(unread) as base_url, GradiumClient(base_url=base_url, api_key=KEY) as client:
            async with client.rest.stream("POST", "things/"):
                pass
            await gone.wait()

    run(main())


def test_kept_connections_belong_to_one_event_loop() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY)

            async def elsewhere() -> Any:
                return await client.get("usages/summary")

            async with client:
                here = await client.get("usages/summary")
                assert await asyncio.to_thread(asyncio.run, elsewhere()) == here
                assert await client.get("usages/summary") == here

    run(main())


def test_base_url_may_be_that_of_the_websocket() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url.replace("http:", "ws:"), api_key=KEY)
            assert (await client.get("usages/credits"))["remaining_credits"]

    run(main())


def test_whole_answer_of_a_post() -> None:
    async def main() -> None:
        async with misbehaving_server(saying(answer("200 OK", "RIFF", "audio/wav"))) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY)
            whole = await client.post("/things/", parse=False, json={})
            assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, b"RIFF", "audio/wav")

    run(main())


def test_proxies_of_the_environment_are_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)

    async def main() -> None:
        async with loopback_server() as base_url:
            await GradiumClient(base_url=base_url, api_key=KEY).get("usages/credits")

    run(main())


# --- the key


@pytest.mark.parametrize("logger", ["", "httpx", "httpcore", "httpcore.http11"])
def test_key_stays_out_of_logs_and_errors_even_if_the_server_repeats_it(
    caplog: pytest.LogCaptureFixture, logger: str
) -> None:
    quiet = logging.getLogger("httpcore.http11")
    before = quiet.level
    quiet.setLevel(logging.NOTSET)

    async def main() -> None:
        repeating = answer("400 Bad", f'{{"detail": "what is {KEY}?"}}', more=f"x-api-key: {KEY}\r\n")
        async with misbehaving_server(saying(repeating)) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY)
            with pytest.raises(ServerError) as caught:
                await client.post("things/", json={"a": 1})
            error = caught.value
            assert error.reason == "what is ***?"
            shown = f"{error} {error!r} {error.args} {vars(error)} {client!r} {client.rest!r} {error.__cause__!r}"
            assert KEY not in shown

    try:
        with caplog.at_level(logging.DEBUG, logger=logger):
            run(main())
    finally:
        quiet.setLevel(before)
    assert caplog.text or logger == "httpcore.http11"
    assert KEY not in caplog.text
