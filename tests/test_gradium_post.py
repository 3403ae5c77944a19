"""Speech in one HTTP request: streamed both ways in little memory, and never a quiet end."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Peer, misbehaving_server, run
from speechwire.codec import WavWriter
from speechwire.errors import AudioError, AuthError, ServerError, SessionClosed, SessionError, SessionTimeout
from speechwire.gradium import GradiumClient, Limits
from test_gradium_rest import answer

KEY = "gsk_0123456789abcdef"
CHUNKED = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
READY = '{"type":"ready","request_id":"req-9","model_name":"default","sample_rate":24000,"frame_size":1920}'
TEXT = '{"type":"text","text":"Two","start_s":0.24,"stream_id":0}'
END_TEXT = '{"type":"end_text","stop_s":0.56,"stream_id":0}'
AUDIO = '{"type":"audio","audio":"AQACAA==","start_s":0.0,"stop_s":0.08,"stream_id":0}'
END = '{"type":"end_of_stream"}'
ERROR = '{"type":"error","message":"the model fell over","code":1011}'
Behaviour = Callable[[Peer], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def saying(*chunks: bytes, end: bytes = b"0\r\n\r\n", head: str = CHUNKED) -> Behaviour:
    """Return a behaviour that reads the request and answers it in chunks."""

    async def behave(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(head.encode() + b"".join(map(chunk, chunks)) + end)

    return behave


def lines(*messages: str) -> bytes:
    return b"".join(message.encode() + b"\n" for message in messages)


def collect(
    behaviour: Behaviour,
    call: Callable[[GradiumClient], AsyncIterator[Any]],
    got: list[Any] | None = None,
    limits: Limits | None = None,
) -> list[Any]:
    """Return what a call yields, also in `got` for calls that fail in the end."""
    items: list[Any] = [] if got is None else got

    async def main() -> None:
        async with misbehaving_server(behaviour) as base_url:
            async for item in call(GradiumClient(base_url=base_url, api_key=KEY, limits=limits)):
                items.append(item)

    run(main(), held_clock=limits is not None)
    return items


def stt(client: GradiumClient, **options: Any) -> AsyncIterator[dict[str, Any]]:
    return client.stt_post_events(b"RIFF", **options)


def tts(client: GradiumClient, **options: Any) -> AsyncIterator[bytes]:
    return client.tts_post("Hello.", voice_id="v", output_format="pcm", **options)


def tts_events(client: GradiumClient, **options: Any) -> AsyncIterator[dict[str, Any]]:
    return client.tts_post_events("Hello.", voice_id="v", output_format="pcm", **options)


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


# --- what is sent


def sent(audio: Any, **options: Any) -> tuple[str, bytes]:
    requests = []

    async def take(peer: Peer) -> None:
        requests.append(await peer.read_request())
        await peer.send_raw(CHUNKED.encode() + chunk(lines(TEXT)) + b"0\r\n\r\n")

    collect(take, lambda client: client.stt_post_events(audio, **options))
    [request] = requests
    return request


async def asynchronously(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for piece in chunks:
        yield piece


def test_recording_is_sent_from_wherever_it_is(tmp_path: Path) -> None:
    recording = WavWriter(16000, data_bytes=200_000).feed(bytes(range(200)) * 1000)
    path = tmp_path / "recording.wav"
    path.write_bytes(recording)
    pieces = [recording[start : start + 7777] for start in range(0, len(recording), 7777)]
    with path.open("rb") as file:
        for audio in (
            path,
            str(path),
            file,
            io.BytesIO(recording),
            recording,
            bytearray(recording),
            memoryview(recording),
            pieces,
            iter(pieces),
            asynchronously(pieces),
        ):
            assert sent(audio)[1] == recording, type(audio)
        assert not file.closed


def test_arrays_and_odd_cuts_of_pcm_are_sent_whole() -> None:
    samples = np.arange(5000, dtype=np.int16)
    pcm = samples.astype("<i2").tobytes()
    assert sent(samples, input_format="pcm")[1] == pcm
    assert sent([pcm[:3], pcm[3:4], pcm[4:]], input_format="pcm_16000")[1] == pcm


@pytest.mark.parametrize(
    ("input_format", "content_type"),
    [
        (None, "audio/wav"),
        ("wav", "audio/wav"),
        ("pcm", "audio/pcm"),
        ("pcm_8000", "audio/pcm"),
        ("opus", "audio/ogg"),
        ("ulaw_8000", "audio/basic"),
        ("alaw_8000", "audio/x-alaw-basic"),
    ],
)
def test_format_stands_in_the_content_type_and_in_the_query(input_format: str | None, content_type: str) -> None:
    head, _ = sent(bytes(8), input_format=input_format, model="m", json_config={"language": "fr"})
    first, _, fields = head.partition("\r\n")
    method, target, _ = first.split(" ")
    url = urlsplit(target)
    assert (method, url.path) == ("POST", "/api/post/speech/asr")
    assert parse_qs(url.query, strict_parsing=True) == {
        "model": ["m"],
        "input_format": [input_format or "wav"],
        "json_config": ['{"language": "fr"}'],
    }
    assert f"content-type: {content_type}\r\n" in fields.lower()
    assert f"x-api-key: {KEY}\r\n" in fields


@pytest.mark.parametrize(
    ("audio", "input_format", "match"),
    [
        (b"", "mp3", "got 'mp3'"),
        (["text"], None, "expected bytes or a numpy array of audio, got str"),
        (3, None, "got int"),
        (b"\0", "pcm", "expected|sample"),
        (np.zeros(4, np.int16), "wav", "only be sent when the input is pcm"),
    ],
)
def test_audio_that_cannot_be_sent(audio: Any, input_format: str | None, match: str) -> None:
    async def drain(peer: Peer) -> None:
        await peer.drain_bytes()

    with pytest.raises(AudioError, match=match):
        collect(drain, lambda client: client.stt_post_events(audio, input_format=input_format))


def test_failure_of_the_source_is_its_own_and_the_source_is_closed() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"RIFF"
            raise OSError("the microphone is gone")
        finally:
            closed.append(True)

    async def drain(peer: Peer) -> None:
        await peer.drain_bytes()

    with pytest.raises(OSError, match="the microphone is gone"):
        collect(drain, lambda client: client.stt_post_events(source()))
    assert closed == [True]


def test_source_is_closed_when_the_server_goes_away() -> None:
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    async def go_away(peer: Peer) -> None:
        await peer.take(10_000)
        peer.reset()

    with pytest.raises(SessionClosed):
        collect(go_away, lambda client: client.stt_post_events(source()))
    assert closed == [True]


# --- what comes back


def test_messages_of_a_recognition() -> None:
    messages = collect(saying(lines(READY, TEXT), lines(END_TEXT, END)), stt)
    assert types(messages) == ["ready", "text", "end_text", "end_of_stream"]
    assert messages[1]["text"] == "Two"


def test_documented_answer_needs_neither_ready_nor_end_of_stream() -> None:
    assert types(collect(saying(lines(TEXT, END_TEXT)), stt)) == ["text", "end_text"]


def test_last_line_needs_no_newline() -> None:
    assert types(collect(saying(lines(TEXT, END_TEXT)[:-1]), stt)) == ["text", "end_text"]


def test_what_follows_end_of_stream_does_not_matter() -> None:
    assert types(collect(saying(lines(TEXT, END), end=b""), stt)) == ["text", "end_of_stream"]
    assert types(collect(saying(lines(TEXT, END, "rubbish")), stt)) == ["text", "end_of_stream"]


@settings(max_examples=25)
@given(st.data())
def test_messages_are_the_same_whatever_the_chunks(data: st.DataObject) -> None:
    body = lines(READY, "", TEXT.replace("Two", "déjà \\u00e9"), END_TEXT, AUDIO, END)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(body) - 1), max_size=12, unique=True)))
    chunks = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    messages = collect(saying(*chunks), tts_events)
    assert types(messages) == ["ready", "text", "end_text", "audio", "end_of_stream"]
    assert messages[3]["audio"] == b"\1\0\2\0"


def test_messages_come_before_the_answer_is_complete() -> None:
    received = asyncio.Event()

    async def wait_in_between(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(CHUNKED.encode() + chunk(lines(TEXT)))
        await received.wait()
        await peer.send_raw(chunk(lines(END)) + b"0\r\n\r\n")

    async def main() -> list[str]:
        found = []
        async with misbehaving_server(wait_in_between) as base_url:
            async for message in stt(GradiumClient(base_url=base_url, api_key=KEY)):
                found.append(message["type"])
                received.set()
        return found

    assert run(main()) == ["text", "end_of_stream"]


def test_audio_of_a_synthesis() -> None:
    head = CHUNKED.replace("application/x-ndjson", "audio/pcm")
    assert b"".join(collect(saying(b"\1\0", b"\2", b"\0", head=head), tts)) == b"\1\0\2\0"


def test_body_of_a_synthesis_has_a_length() -> None:
    async def behave(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(answer("200 OK", "abcd", "audio/wav"))

    assert b"".join(collect(behave, tts)) == b"abcd"


# --- ends


def endings() -> Iterator[Any]:
    audio = CHUNKED.replace("application/x-ndjson", "audio/pcm")
    undelimited = CHUNKED.replace("transfer-encoding: chunked", "connection: close")

    def plain(head: str, body: bytes) -> Behaviour:
        async def behave(peer: Peer) -> None:
            await peer.read_request()
            await peer.send_raw(head.encode() + body)

        return behave

    cases: list[tuple[str, Behaviour, Any, type[SessionError], str]] = [
        ("stt cut off", saying(lines(TEXT), end=b""), stt, SessionClosed, "connection was lost"),
        ("stt cut off in a line", saying(TEXT[:9].encode(), end=b""), stt, SessionClosed, "connection was lost"),
        ("stt without an end", plain(undelimited, lines(TEXT)), stt, SessionClosed, "without a mark"),
        ("stt half a line", saying(lines(TEXT), TEXT[:9].encode()), stt, SessionClosed, "malformed message"),
        ("stt error", saying(lines(READY, TEXT, ERROR)), stt, ServerError, "the model fell over"),
        ("stt no json", saying(lines(TEXT, "rubbish")), stt, SessionClosed, "malformed message"),
        ("stt no type", saying(lines(TEXT, "{}")), stt, SessionClosed, "malformed message"),
        ("stt binary", saying(bytes(range(256))), stt, SessionClosed, "malformed message"),
        ("tts events without an end", saying(lines(READY, AUDIO)), tts_events, SessionClosed, "without end_of_stream"),
        ("tts events empty", saying(), tts_events, SessionClosed, "without end_of_stream"),
        ("tts events error", saying(lines(READY, AUDIO, ERROR)), tts_events, ServerError, "the model fell over"),
        ("tts bad base64", saying(lines('{"type":"audio","audio":"?"}')), tts_events, SessionClosed, "malformed"),
        ("tts cut off", saying(b"\1\0", head=audio, end=b""), tts, SessionClosed, "connection was lost"),
        ("tts empty", saying(head=audio), tts, SessionClosed, "got nothing"),
        (
            "tts without an end",
            plain(undelimited.replace("application/x-ndjson", "audio/pcm"), b"\1\0"),
            tts,
            SessionClosed,
            "without a mark",
        ),
        ("tts messages", saying(lines(READY, AUDIO, END)), tts, SessionClosed, "got messages: ready, audio"),
        ("tts error message", saying(lines(READY, ERROR)), tts, ServerError, "the model fell over"),
    ]
    for name, behaviour, call, kind, match in cases:
        yield pytest.param(behaviour, call, kind, match, id=name)


@pytest.mark.parametrize(("behaviour", "call", "kind", "match"), list(endings()))
def test_bad_ends_are_errors(behaviour: Behaviour, call: Any, kind: type[SessionError], match: str) -> None:
    got: list[Any] = []
    with pytest.raises(kind, match=match) as caught:
        collect(behaviour, call, got)
    assert KEY not in str(caught.value)
    assert not any(isinstance(item, dict) and item["type"] == "end_of_stream" for item in got)


def test_error_in_the_middle_comes_after_what_came_before_and_names_the_request() -> None:
    got: list[Any] = []
    with pytest.raises(ServerError) as caught:
        collect(saying(lines(READY, TEXT, ERROR)), stt, got)
    assert types(got) == ["ready", "text"]
    error = caught.value
    assert (error.code, error.reason, error.request_id) == (1011, "the model fell over", "req-9")
    assert error.retryable


def test_error_about_the_key_is_an_auth_error_and_the_key_stays_untold() -> None:
    message = '{"type":"error","message":"API key is revoked or expired","code":1008}'
    with pytest.raises(AuthError):
        collect(saying(lines(message)), stt)
    with pytest.raises(ServerError, match=r"what is \*\*\*\?") as caught:
        collect(saying(lines(f'{{"type":"error","message":"what is {KEY}?"}}')), stt)
    assert caught.value.code is None
    with pytest.raises(SessionClosed) as malformed:
        collect(saying(lines(f'{{"type":"text","text":["{KEY}"]}}')), stt)
    assert KEY not in f"{malformed.value} {malformed.value.reason}"


def test_empty_answer_is_an_error_only_where_options_may_be_wrong() -> None:
    assert collect(saying(), stt) == []
    with pytest.raises(SessionClosed, match="json_config"):
        collect(saying(), lambda client: stt(client, json_config={"language": "it"}))


@pytest.mark.parametrize("call", [stt, tts, tts_events])
def test_refusals_come_before_anything(call: Any) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(answer("500 Oops", "error from server 1008: Embeddings not found for v", "text/plain"))

    got: list[Any] = []
    with pytest.raises(ServerError, match="Embeddings not found for v") as caught:
        collect(refuse, call, got)
    assert caught.value.code == 1008
    assert got == []


def test_lines_are_bounded() -> None:
    limits = Limits(max_message_bytes=10_000)

    async def endless(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(CHUNKED.encode() + chunk(lines(TEXT)))
        while True:
            await peer.send_raw(chunk(b"x" * 1000))

    with pytest.raises(SessionClosed, match="lines of at most 10000 bytes"):
        collect(endless, stt, limits=limits)


def test_line_that_never_ends_is_timed_out() -> None:
    async def drip(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(CHUNKED.encode() + chunk(lines(TEXT)))
        while True:
            await peer.send_raw(chunk(b"x"))
            await asyncio.sleep(0.02)

    got: list[Any] = []
    with pytest.raises(SessionTimeout, match=r"no complete line from POST .* within 0\.3 s"):
        collect(drip, stt, got, Limits(idle_s=0.3))
    assert types(got) == ["text"]


def test_reader_may_take_its_time() -> None:
    async def main() -> list[str]:
        found = []
        async with misbehaving_server(saying(lines(TEXT), lines(END_TEXT), lines(END))) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY, limits=Limits(idle_s=0.2))
            async for message in stt(client):
                await asyncio.sleep(0.25)
                found.append(message["type"])
        return found

    assert run(main(), held_clock=True) == ["text", "end_text", "end_of_stream"]


@pytest.mark.parametrize("keep", [False, True])
def test_leaving_early_closes_the_connection(keep: bool) -> None:
    gone = asyncio.Event()

    async def endless(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(CHUNKED.encode())
        try:
            while True:
                await peer.send_raw(chunk(lines(AUDIO)))
        finally:
            gone.set()

    async def main() -> None:
        async with misbehaving_server(endless) as base_url:
            client = GradiumClient(base_url=base_url, api_key=KEY)
            if keep:
                client.rest.open()
            async with aclosing(client.tts_post_events("Hello.", voice_id="v")) as messages:
                async for _ in messages:
                    break
            await gone.wait()
            await client.rest.close()

    run(main())


# --- memory


HOUR_BYTES = 3600 * 2 * 16000


def peak_of(main: Callable[[], Any]) -> int:
    """Return the most bytes that Python held at once beyond those at the start."""
    main()  # what is loaded and cached once does not count
    tracemalloc.start()
    try:
        main()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_hour_of_audio_is_sent_in_little_memory() -> None:
    total = 0

    def recording() -> Iterator[bytes]:
        yield WavWriter(16000, data_bytes=HOUR_BYTES).header
        piece = bytes(64_000)
        for _ in range(HOUR_BYTES // len(piece)):
            yield piece

    async def count(peer: Peer) -> None:
        nonlocal total
        # The end of the body is found by its size; what stands around the chunks is counted along.
        total = 0
        while total < HOUR_BYTES + 44:
            total += await peer.take(1 << 20)
        await peer.send_raw(CHUNKED.encode() + chunk(lines(TEXT, END)) + b"0\r\n\r\n")
        await peer.drain_bytes()

    def once() -> None:
        assert len(collect(count, lambda client: client.stt_post_events(recording()))) == 2

    assert peak_of(once) < 8_000_000
    assert total > HOUR_BYTES


def test_hour_of_audio_is_received_in_little_memory() -> None:
    head = CHUNKED.replace("application/x-ndjson", "audio/pcm")
    piece = chunk(bytes(64_000))

    async def speak(peer: Peer) -> None:
        await peer.read_request()
        await peer.send_raw(head.encode())
        for _ in range(HOUR_BYTES // 64_000):
            await peer.send_raw(piece)
        await peer.send_raw(b"0\r\n\r\n")

    async def main() -> int:
        total = 0
        async with misbehaving_server(speak) as base_url:
            async for data in tts(GradiumClient(base_url=base_url, api_key=KEY)):
                total += len(data)
        return total

    def once() -> None:
        assert run(main()) == HOUR_BYTES

    assert peak_of(once) < 8_000_000
