"""One-shot speech over HTTP against our server: what a stock HTTP client gets for good input and for bad."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import loopback_server, run
from speechwire.codec import Transcoder, WavWriter
from speechwire.events import Start
from speechwire.server import ServerLimits, serve
from speechwire.server.engines import Input, Say
from speechwire.server.engines.loopback import Answers, LoopbackEngine, ToneSession
from speechwire.server.voices import Voice
from test_server_products import END, connection, converse, kinds, say, tone

TTS, STT = "post/speech/tts", "post/speech/asr"


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


def post(route: str, *, server: dict[str, Any] | None = None, **request: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        async with loopback_server(**(server or {})) as base_url, httpx.AsyncClient(trust_env=False) as client:
            return await client.post(base_url + route, **request)

    return run(main())


def without_id(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in message.items() if key != "request_id"} for message in messages]


@pytest.mark.parametrize("config", ['{"padding_bonus": 4}', {"padding_bonus": 4}, None])
def test_synthesis_gives_the_messages_of_the_websocket_in_lines(config: Any) -> None:
    body = {"text": "Two seats, please.", "voice_id": "v", "output_format": "pcm_8000", "json_config": config}

    async def main() -> tuple[httpx.Response, list[dict[str, Any]]]:
        async with loopback_server() as base_url, httpx.AsyncClient(trust_env=False) as client:
            setup = {"type": "setup", **{key: body[key] for key in ("voice_id", "output_format", "json_config")}}
            expected = await converse(base_url, "tts", setup, {"type": "text", "text": body["text"]}, END)
            return await client.post(base_url + TTS, json=body), expected

    response, expected = run(main())
    assert without_id(lines(response)) == without_id(expected)
    assert kinds(expected)[-1] == "end_of_stream"


@pytest.mark.parametrize(
    ("output_format", "content_type"),
    [
        ("wav", "audio/wav"),
        ("opus", "audio/ogg"),
        ("pcm", "audio/pcm"),
        ("pcm_16000", "audio/pcm"),
        ("ulaw_8000", "audio/basic"),
        ("alaw_8000", "audio/x-alaw-basic"),
    ],
)
def test_synthesis_may_give_the_audio_alone(output_format: str, content_type: str) -> None:
    body = {"text": "Two seats, please.", "output_format": output_format}
    expected = b"".join(base64.b64decode(m["audio"]) for m in lines(post(TTS, json=body)) if m["type"] == "audio")
    response = post(TTS, json={**body, "only_audio": True})
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type
    assert response.content == expected
    assert len(expected) > 1000


def test_the_options_of_the_body_go_before_those_of_the_query() -> None:
    def stop_s(query: dict[str, str], **fields: Any) -> float:
        response = post(TTS, params=query, json={"text": "abcdefgh", "output_format": "pcm_8000", **fields})
        return float(next(m["stop_s"] for m in lines(response) if m["type"] == "text"))

    slow, fast = '{"padding_bonus":4}', '{"padding_bonus":-4}'
    assert stop_s({"json_config": slow}) == 0.64
    assert stop_s({"json_config": slow}, json_config=fast) == 0.16


SPEECH = bytes(24000) + tone(800) + bytes(48000)
_TRANSCODER = Transcoder("pcm_24000", "opus")
OPUS_SPEECH = b"".join([*_TRANSCODER.feed(SPEECH), *_TRANSCODER.flush()])


@pytest.mark.parametrize(
    ("content", "headers", "query"),
    [
        (WavWriter(24000).feed(SPEECH), {}, {}),
        (WavWriter(24000).feed(SPEECH), {"content-type": "audio/wav"}, {}),
        (SPEECH, {"content-type": "audio/pcm; rate=24000"}, {}),
        (OPUS_SPEECH, {"content-type": "audio/ogg"}, {}),
        (OPUS_SPEECH, {}, {"input_format": "opus"}),
        (SPEECH, {"content-type": "application/octet-stream"}, {"input_format": "pcm_24000"}),
        (SPEECH, {"content-type": "audio/wav"}, {"input_format": "pcm", "model": "default"}),
    ],
)
def test_recognition_takes_what_its_header_or_its_query_says(
    content: bytes, headers: dict[str, str], query: dict[str, str]
) -> None:
    response = post(STT, content=content, headers=headers, params=query)
    messages = lines(response)
    assert kinds(messages) == ["ready", "text", "end_text", "end_of_stream"]
    assert messages[1]["start_s"] == pytest.approx(0.5, abs=0.021)
    with_steps = lines(post(STT, content=content, headers=headers, params={**query, "steps": "1"}))
    assert [message["step_idx"] for message in with_steps if message["type"] == "step"] == list(range(28))
    assert without_id([m for m in with_steps if m["type"] != "step"]) == without_id(messages)


@pytest.mark.parametrize(
    ("route", "request_", "text"),
    [
        (
            STT,
            {"content": b"x", "headers": {"content-type": "audio/mpeg"}},
            "unsupported content type for SST 'audio/mpeg'",
        ),
        (
            STT,
            {"content": b"", "params": {"input_format": "mp3"}},
            "error from server 1008: unsupported input format 'mp3'",
        ),
        (
            STT,
            {"content": b"", "params": {"json_config": "{"}},
            "error from server 1011: json_config is not valid JSON",
        ),
        (
            TTS,
            {"json": {"text": "a", "output_format": "mp3"}},
            "error from server 1008: unsupported output format 'mp3'",
        ),
        (
            TTS,
            {"json": {"text": "a", "only_audio": True, "json_config": {"temp": 9}}},
            "error from server 1011: expected temp from 0 to 1.4, got 9",
        ),
    ],
)
def test_what_a_websocket_would_refuse_is_500_in_words(route: str, request_: dict[str, Any], text: str) -> None:
    response = post(route, **request_)
    assert response.status_code == 500
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.startswith(text)


@pytest.mark.parametrize("route", [TTS, STT])
@pytest.mark.parametrize(
    ("headers", "reason"),
    [({}, "No authentication provided"), ({"x-api-key": "wrong"}, "API key is revoked or expired")],
)
def test_a_key_is_needed(route: str, headers: dict[str, str], reason: str) -> None:
    request: dict[str, Any] = {"json": {"text": "a"}} if route == TTS else {"content": b""}
    response = post(route, server={"api_keys": ["secret"]}, headers=headers, **request)
    assert (response.status_code, response.text) == (500, f"error from server 1008: {reason}")
    for good in ({"x-api-key": "secret"}, {"authorization": "Api-Key secret"}):
        assert post(route, server={"api_keys": ["secret"]}, headers=good, **request).status_code == 200


@pytest.mark.parametrize("route", [TTS, STT])
def test_the_key_is_looked_at_before_the_body(route: str) -> None:
    async def main() -> bytes:
        async with loopback_server(api_keys=["secret"]) as base_url:
            url = httpx.URL(base_url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            head = f"POST /api/{route} HTTP/1.1\r\nhost: x\r\ncontent-type: audio/mpeg\r\ncontent-length: 100\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"provided")
            writer.close()
            await writer.wait_closed()
            return answer

    status, _, rest = run(main()).partition(b"\r\n")
    assert status == b"HTTP/1.1 500 Internal Server Error"
    assert rest.endswith(b"\r\n\r\nerror from server 1008: No authentication provided")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 422, "JSON decode error"),
        (b"[]", 422, "JSON decode error"),
        (b"{}", 422, "text"),
        (b'{"text": 5}', 422, "text"),
        (b'{"text": "a", "only_audio": "perhaps"}', 422, "only_audio"),
        (b'{"text": "a", "voice_id": "vox_emb_none"}', 404, "vox_emb_none"),
        (b'{"text": "' + b"a" * (1 << 20) + b'"}', 413, "1048576 bytes"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_as_everywhere(body: bytes, status: int, says: str) -> None:
    response = post(TTS, content=body)
    assert response.status_code == status
    assert says in json.dumps(response.json()["detail"])


class Breaking(LoopbackEngine):
    """Speaks a word and then breaks."""

    def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
        class Session(ToneSession):
            def flush(self) -> Answers:
                raise RuntimeError("broken")

        return Session(sample_rate, None, 1.0)


def test_a_failure_in_mid_stream_is_a_line_or_an_end_before_the_end() -> None:
    async def main() -> None:
        async with serve(Breaking()) as address, httpx.AsyncClient(trust_env=False) as client:
            body = {"text": "One. Two", "output_format": "pcm_8000"}
            messages = lines(await client.post(f"{address}/api/{TTS}", json=body))
            assert kinds(messages)[:2] == ["ready", "text"]
            assert messages[-1] == {"type": "error", "message": "internal error", "code": 1011}
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(f"{address}/api/{TTS}", json={**body, "only_audio": True})
            # Audio that is not what it is said to be, once the stream has begun.
            response = await client.post(f"{address}/api/{STT}", content=b"no RIFF" * 10)
            assert kinds(lines(response)) == ["ready", "error"]

    run(main())


def test_limits_hold_here_too() -> None:
    async def main() -> None:
        limits = ServerLimits(max_session_s=10, max_requests=1)
        async with (
            loopback_server(limits=limits) as base_url,
            httpx.AsyncClient(trust_env=False, timeout=100) as client,
        ):
            async with connection(base_url, "tts", ping_interval=None) as websocket:
                await say(websocket, {"type": "setup"})
                await websocket.recv()
                response = await client.post(base_url + TTS, json={"text": "a"})
                assert (response.status_code, response.text) == (
                    500,
                    "error from server 1008: Concurrency limit exceeded",
                )

            async def slowly() -> AsyncIterator[bytes]:
                for _ in range(20):
                    yield bytes(3840)
                    await asyncio.sleep(1)

            loop = asyncio.get_running_loop()
            started = loop.time()
            async with client.stream(
                "POST", base_url + STT, params={"input_format": "pcm"}, content=slowly()
            ) as response:
                received = [json.loads(line) async for line in response.aiter_lines()]
            assert received[-1]["message"] == "session duration limit exceeded"
            assert loop.time() - started < 25

    run(main(), held_clock=True, timeout_s=1000)


@pytest.mark.parametrize("route", [TTS, STT])
def test_a_client_that_goes_leaves_nothing(route: str) -> None:
    class Endless(LoopbackEngine):
        closed = 0

        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            class Session(ToneSession):
                def speak(self, text: str) -> Answers:
                    while True:
                        yield from super().speak("on and on.")

                async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
                    try:
                        await super().run(inputs, say)
                    finally:
                        Endless.closed += 1

            return Session(sample_rate, None, 1.0)

    async def main() -> None:
        async with serve(Endless(), limits=ServerLimits(max_requests=1)) as address:
            base_url = f"{address}/api/"

            async def endlessly() -> AsyncIterator[bytes]:
                while True:
                    yield bytes(3840)
                    await asyncio.sleep(0)

            request: dict[str, Any] = {"json": {"text": "a"}}
            if route == STT:
                request = {"content": endlessly(), "params": {"input_format": "pcm", "steps": "1"}}

            async def begin() -> None:
                async with httpx.AsyncClient(trust_env=False) as client:
                    async with client.stream("POST", base_url + route, **request) as response:
                        async for _ in response.aiter_lines():
                            pass

            going = asyncio.create_task(begin())
            while not going.done():
                await asyncio.wait([going], timeout=0.2)
                going.cancel()
            setup = {"type": "setup", "retry_for_s": 10}
            assert kinds(await converse(base_url, "asr", setup, END)) == ["ready", "end_of_stream"]
            assert Endless.closed == (route == TTS)

    run(main())


def test_an_hour_of_wav_needs_no_memory_for_it() -> None:
    """173 MB come in; the server, in this process too, keeps none of it."""

    def resident_bytes() -> int:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024

    async def main() -> tuple[int, int]:
        most = 0
        minute = tone(400) + bytes(48000 * 60 - 19200)

        async def hour() -> AsyncIterator[bytes]:
            nonlocal most
            yield WavWriter(24000).header
            for _ in range(60):
                yield minute
                most = max(most, resident_bytes())

        async with loopback_server() as base_url, httpx.AsyncClient(trust_env=False, timeout=100) as client:
            before = resident_bytes()
            num_texts = 0
            async with client.stream("POST", base_url + STT, content=hour()) as response:
                async for line in response.aiter_lines():
                    num_texts += '"type": "text"' in line
        assert num_texts == 60
        return before, most

    before, most = run(main())
    assert most - before < 50e6
