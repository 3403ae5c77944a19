"""The three products on one server over raw WebSockets, and the bounds that hold for all of them."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import loopback_server, run
from speechwire.codec import Transcoder, WavWriter
from speechwire.events import Audio, Start, Transcript
from speechwire.server import ServerLimits, serve
from speechwire.server.account import Account
from speechwire.server.engines import Input, Say
from speechwire.server.engines.loopback import Answers, LoopbackEngine, LoopbackSession, ToneSession
from speechwire.server.voices import Voice


def tone(duration_ms: int, amplitude: int = 9000, sample_rate: int = 24000) -> bytes:
    step = 2 * math.pi * 220 / sample_rate
    return array(
        "h", (round(amplitude * math.sin(step * n)) for n in range(duration_ms * sample_rate // 1000))
    ).tobytes()


def audio(pcm: bytes, **fields: Any) -> dict[str, Any]:
    return {"type": "audio", "audio": base64.b64encode(pcm).decode(), **fields}


def url(base_url: str, route: str) -> str:
    return f"{base_url.replace('http', 'ws', 1)}speech/{route}"


@asynccontextmanager
async def connection(base_url: str, route: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url(base_url, route), max_size=None, compression=None, **options) as websocket:
        yield websocket


async def say(websocket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await websocket.send(json.dumps(message))


async def answers(websocket: ClientConnection) -> list[dict[str, Any]]:
    """Return all that still comes until the connection is closed."""
    received = []
    try:
        while True:
            received.append(json.loads(await websocket.recv()))
    except ConnectionClosed:
        return received


async def converse(base_url: str, route: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    async with connection(base_url, route) as websocket:
        await say(websocket, *messages)
        return await answers(websocket)


END = {"type": "end_of_stream"}


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


# --- recognition


@pytest.mark.parametrize("route", ["asr", "stt"])
def test_recognition_gives_steps_and_texts_and_no_audio(route: str) -> None:
    pcm = bytes(24000) + tone(800) + bytes(48000)

    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            setup = {"type": "setup", "input_format": "pcm", "json_config": {"delay_in_frames": 0}}
            return await converse(base_url, route, setup, audio(pcm), END)

    ready, *messages = run(main())
    assert (ready["sample_rate"], ready["frame_size"], ready["delay_in_frames"]) == (24000, 1920, 0)
    assert set(kinds(messages)) == {"step", "text", "end_text", "end_of_stream"}
    steps = [message for message in messages if message["type"] == "step"]
    assert [step["step_idx"] for step in steps] == list(range(28))
    assert [entry["horizon_s"] for entry in steps[0]["vad"]] == [0.5, 1.0, 2.0, 3.0]
    at = kinds(messages).index("text")
    assert messages[at] == {"type": "text", "text": "segment 1", "start_s": 0.5, "stream_id": 0}
    assert messages[at + 1] == {"type": "end_text", "stop_s": 1.3, "stream_id": 0}
    assert messages[at - 1]["type"] == messages[at + 2]["type"] == "step"
    assert messages[-1] == END


@pytest.mark.parametrize(("delay_in_frames", "num_steps"), [(0, 20), (10, 27), (80, None)])
def test_recognition_holds_a_text_back_for_its_delay(delay_in_frames: int, num_steps: int | None) -> None:
    pcm = bytes(24000) + tone(800) + bytes(3 * 48000)

    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            setup = {"type": "setup", "input_format": "pcm", "json_config": {"delay_in_frames": delay_in_frames}}
            return await converse(base_url, "asr", setup, audio(pcm), END)

    messages = run(main())[1:]
    before = kinds(messages).index("text")
    # Known when 300 ms of silence have gone by, at 1.6 s; given out at 1.3 s and the delay, or at the end.
    assert before == (len(messages) - 3 if num_steps is None else num_steps - 1)


@pytest.mark.parametrize("flush_id", [0, 7, "a string", {"x": [1]}, None])
def test_a_flush_is_answered_when_all_texts_have_been_given(flush_id: Any) -> None:
    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            async with connection(base_url, "asr") as websocket:
                await say(websocket, {"type": "setup", "input_format": "pcm"}, audio(tone(400)))
                await say(websocket, {"type": "flush", "flush_id": flush_id})
                first: list[dict[str, Any]] = []
                while not first or first[-1]["type"] != "flushed":
                    first.append(json.loads(await websocket.recv()))
                await say(websocket, audio(tone(400)), END)
                return first + await answers(websocket)

    messages = run(main())
    assert [kind for kind in kinds(messages) if kind != "step"] == [
        "ready", "text", "end_text", "flushed", "text", "end_text", "end_of_stream",
    ]  # fmt: skip
    flushed = kinds(messages).index("flushed")
    assert messages[flushed] == {"type": "flushed", "flush_id": flush_id}
    # What the detector has not got to a whole step of is flushed too, and the steps go on as if nothing had been.
    assert [message["step_idx"] for message in messages if message["type"] == "step"] == list(range(10))
    texts = [(message["text"], message["start_s"]) for message in messages if message["type"] == "text"]
    assert texts == [("segment 1", 0.0), ("segment 2", 0.4)]


@pytest.mark.parametrize("input_format", ["pcm_8000", "pcm_44100", "ulaw_8000", "alaw_8000", "wav"])
def test_recognition_hears_every_format(input_format: str) -> None:
    pcm = bytes(9600) + tone(400) + bytes(28800)
    if input_format == "wav":
        sent = WavWriter(24000).feed(pcm)
    else:
        transcoder = Transcoder("pcm_24000", input_format)
        sent = b"".join([*transcoder.feed(pcm), *transcoder.flush()])

    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            return await converse(base_url, "asr", {"type": "setup", "input_format": input_format}, audio(sent), END)

    messages = run(main())
    (text,) = [message for message in messages if message["type"] == "text"]
    assert text["start_s"] == pytest.approx(0.2, abs=0.021)
    assert 14 <= kinds(messages).count("step") <= 15


# --- synthesis


def test_synthesis_speaks_each_word_before_its_audio() -> None:
    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            setup = {"type": "setup", "output_format": "pcm_8000", "voice_id": "v"}
            texts = ({"type": "text", "text": text} for text in ("Gate twelve", "is open."))
            return await converse(base_url, "tts", setup, *texts, END)

    ready, *messages = run(main())
    assert (ready["sample_rate"], ready["frame_size"]) == (8000, 640)
    words = [
        (message["text"], message["start_s"], message["stop_s"]) for message in messages if message["type"] == "text"
    ]
    assert words == [("Gate", 0.0, 0.16), ("twelve", 0.24, 0.48), ("is", 0.56, 0.64), ("open.", 0.72, 0.88)]
    position = 0.0
    for message in messages:
        if message["type"] == "text":
            assert position <= message["start_s"]
        elif message["type"] == "audio":
            assert message["start_s"] == pytest.approx(position)
            assert message["stop_s"] == pytest.approx(position + 0.08)
            assert len(base64.b64decode(message["audio"])) == 1280
            position = message["stop_s"]
    assert position == pytest.approx(0.96)
    assert messages[-1] == END


def test_synthesis_speaks_when_a_sentence_is_complete_or_flushed() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            async with connection(base_url, "tts") as websocket:

                async def words_until(text: str | None) -> list[str]:
                    words = []
                    while True:
                        message = json.loads(await websocket.recv())
                        if message["type"] == "text":
                            words.append(message["text"])
                        if (message["type"], message.get("text")) in (("text", text), ("flushed", None)):
                            return words

                await say(websocket, {"type": "setup", "output_format": "pcm_8000"})
                await say(websocket, {"type": "text", "text": "One two"})
                await say(websocket, {"type": "text", "text": "three. Four"})
                assert await words_until("three.") == ["One", "two", "three."]
                await say(websocket, {"type": "flush", "flush_id": 1})
                assert await words_until(None) == ["Four"]
                await say(websocket, {"type": "text", "text": "five <flush> six"})
                assert await words_until("five") == ["five"]
                await say(websocket, {"type": "text", "text": 'seven <break time="0.5s" /> eight'}, END)
                rest = await answers(websocket)
                assert "flushed" not in kinds(rest)
                words = {message["text"]: message for message in rest if message["type"] == "text"}
                assert list(words) == ["six", "seven", "eight"]
                assert words["eight"]["start_s"] - words["seven"]["stop_s"] == pytest.approx(0.5, abs=0.081)

    run(main())


def test_synthesis_takes_its_speed_and_its_default_format() -> None:
    async def main() -> list[list[dict[str, Any]]]:
        async with loopback_server() as base_url:
            text = {"type": "text", "text": "abcdefgh"}
            return [
                await converse(base_url, "tts", {"type": "setup", "json_config": {"padding_bonus": bonus}}, text, END)
                for bonus in (-4.0, 0.0, 4.0)
            ]

    for messages, seconds in zip(run(main()), (0.16, 0.32, 0.64), strict=True):
        assert [message["stop_s"] for message in messages if message["type"] == "text"] == [seconds]
        header = messages[1]
        assert (header["start_s"], header["stop_s"], base64.b64decode(header["audio"])[:4]) == (0.0, 0.0, b"RIFF")


def test_opus_goes_both_ways() -> None:
    pcm = tone(800, sample_rate=48000) + bytes(7680)
    encoder = Transcoder("pcm_48000", "opus")
    sent = b"".join([*encoder.feed(pcm), *encoder.flush()])

    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            setup = {"type": "setup", "input_format": "opus", "output_format": "opus"}
            pieces = [audio(sent[start : start + 333]) for start in range(0, len(sent), 333)]
            return await converse(base_url, "s2s", setup, *pieces, END)

    ready, header, *messages = run(main())
    assert (ready["sample_rate"], ready["frame_size"]) == (48000, 3840)
    assert (header["start_s"], header["stop_s"]) == (0.0, 0.0)
    pages = [message for message in messages if message["type"] == "audio"]
    assert pages[0]["stop_s"] == pages[1]["start_s"] == 0.08
    assert pages[-1]["stop_s"] == pytest.approx(0.88)
    stream = b"".join(base64.b64decode(message["audio"]) for message in [header, *pages])
    decoder = Transcoder("opus", "pcm_48000")
    received = b"".join([*decoder.feed(stream), *decoder.flush()])
    assert len(received) == len(pcm)
    loudness = [max(map(abs, array("h", received[start : start + 7680]))) for start in range(0, len(received), 7680)]
    assert min(loudness[1:9]) > 6000
    assert loudness[-1] < 3000


@pytest.mark.parametrize("route", ["tts", "asr", "s2s"])
def test_an_end_without_input_is_no_error(route: str) -> None:
    async def main() -> list[str]:
        async with loopback_server() as base_url:
            return kinds(await converse(base_url, route, {"type": "setup"}, END))

    assert run(main()) == (["ready", "end_of_stream"] if route == "asr" else ["ready", "audio", "end_of_stream"])


# --- paths and keys


@pytest.mark.parametrize("base_path", ["", "/", "/v2/api"])
def test_the_base_path_is_what_it_is_set_to(base_path: str) -> None:
    async def main() -> None:
        async with serve(LoopbackEngine(), base_path=base_path) as address:
            base_url = f"{address}{base_path.rstrip('/')}/"
            assert kinds(await converse(base_url, "tts", {"type": "setup"}, END))[-1] == "end_of_stream"
            with pytest.raises(InvalidStatus, match="404"):
                await converse(f"{address}/api/", "tts")

    run(main())


def test_a_base_path_begins_with_a_slash() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=r"^expected a base path that begins with '/', got 'api'$"):
            async with serve(LoopbackEngine(), base_path="api"):
                pass

    run(main())


@pytest.mark.parametrize(
    ("authorization", "kind"),
    [("Api-Key secret", "ready"), ("api-key  secret", "ready"), ("Api-Key other", "error"), ("Bearer secret", "error")],
)
def test_a_key_may_stand_in_the_authorization_header(authorization: str, kind: str) -> None:
    async def main() -> str:
        async with loopback_server(api_keys=["secret"]) as base_url:
            headers = {"Authorization": authorization}
            async with connection(base_url, "tts", additional_headers=headers) as websocket:
                await say(websocket, {"type": "setup"})
                return str(json.loads(await websocket.recv())["type"])

    assert run(main()) == kind


# --- many requests on one connection


def test_a_hundred_requests_on_one_connection_do_not_mix() -> None:
    """Each has a voice, a speed and a format of its own, and comes in pieces between those of all others."""
    chance = random.Random(20261121)
    formats = ("pcm_8000", "pcm_16000", "pcm_24000", "ulaw_8000", "alaw_8000", "wav")
    requests: dict[str, tuple[dict[str, Any], list[str]]] = {
        f"request {number}": (
            {
                "type": "setup",
                "voice_id": f"voice {number}",
                "output_format": formats[number % len(formats)],
                "json_config": {"padding_bonus": number % 5 - 2},
                "close_ws_on_eos": False,
            },
            [f"word{number} " + "x" * (number % 7 + 1) + "." for _ in range(number % 4 + 1)],
        )
        for number in range(100)
    }

    def without_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        skipped = ("client_req_id", "request_id")
        return [{key: value for key, value in message.items() if key not in skipped} for message in messages]

    async def main() -> None:
        async with loopback_server() as base_url:
            alone = {}
            for name, (setup, texts) in requests.items():
                said = [{"type": "text", "text": text} for text in texts]
                alone[name] = await converse(base_url, "tts", {**setup, "close_ws_on_eos": True}, *said, END)
            together: dict[str, list[dict[str, Any]]] = {name: [] for name in requests}
            left = {
                name: [setup, *({"type": "text", "text": text} for text in texts), END]
                for name, (setup, texts) in requests.items()
            }
            async with connection(base_url, "tts") as websocket:

                async def talk() -> None:
                    while left:
                        name = chance.choice(list(left))
                        await say(websocket, {**left[name].pop(0), "client_req_id": name})
                        if not left[name]:
                            del left[name]
                    await say(websocket, END)  # closes when all have ended

                talking = asyncio.create_task(talk())
                for message in await answers(websocket):
                    together[message["client_req_id"]].append(message)
                await talking
                assert websocket.close_code == 1000
            for name, messages in together.items():
                assert without_ids(messages) == without_ids(alone[name]), name
            assert len({json.dumps(without_ids(messages)) for messages in together.values()}) == 100

    run(main())


class GatedEngine(LoopbackEngine):
    """Interprets on worker threads; a request in Spanish waits there until it is let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.opened = 0
        self.closed = 0

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> LoopbackSession:
        self.opened += 1
        return GatedSession(self, sample_rate, gated=start.target_language == "es")


class GatedSession(LoopbackSession):
    def __init__(self, engine: GatedEngine, sample_rate: int, *, gated: bool) -> None:
        super().__init__(sample_rate)
        self._engine = engine
        self._gated = gated

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        async def gated() -> AsyncIterator[Input]:
            async for event in inputs:
                if self._gated:
                    self._engine.waiting.set()
                    await self._engine.gate.wait()
                yield event

        try:
            await super().run(gated(), say)
        finally:
            self._engine.closed += 1


def s2s_setup(name: str, language: str) -> dict[str, Any]:
    return {
        "type": "setup", "input_format": "pcm_24000", "output_format": "pcm_24000", "close_ws_on_eos": False,
        "client_req_id": name, "json_config": {"target_language": language},
    }  # fmt: skip


def test_a_slow_request_does_not_hold_up_the_others_on_its_connection() -> None:
    engine = GatedEngine()

    async def main() -> None:
        async with serve(engine) as address:
            async with connection(f"{address}/api/", "s2s") as websocket:
                await say(websocket, s2s_setup("slow", "es"), audio(bytes(3840), client_req_id="slow"))
                await engine.waiting.wait()
                await say(websocket, s2s_setup("quick", "fr"))
                for _ in range(50):
                    await say(websocket, audio(bytes(3840), client_req_id="quick"))
                await say(websocket, {**END, "client_req_id": "quick"}, {**END, "client_req_id": "slow"}, END)
                received = []
                while (message := json.loads(await websocket.recv()))["type"] != "end_of_stream":
                    received.append((message["client_req_id"], message["type"]))
                assert message["client_req_id"] == "quick"
                assert received[0] == ("slow", "ready")
                assert received[1:] == [("quick", "ready")] + [("quick", "audio")] * 50
                engine.gate.set()
                assert kinds(await answers(websocket)) == ["audio", "end_of_stream"]

    run(main())
    assert (engine.opened, engine.closed) == (2, 2)


def test_a_full_request_stops_the_reading() -> None:
    engine = GatedEngine()

    async def main() -> None:
        async with serve(engine) as address:
            async with connection(f"{address}/api/", "s2s") as websocket:
                await say(websocket, s2s_setup("slow", "es"))
                pcm = bytes(1 << 20)
                sending = asyncio.create_task(say(websocket, *[audio(pcm, client_req_id="slow")] * 30))
                await engine.waiting.wait()
                # 40 MiB of base64 do not fit into the sockets of the system.
                assert not (await asyncio.wait([sending], timeout=0.3))[0]
                engine.gate.set()
                ended = asyncio.create_task(answers(websocket))
                await sending
                await say(websocket, {**END, "client_req_id": "slow"}, END)
                received = await ended
                num_bytes = sum(len(base64.b64decode(m["audio"])) for m in received if m["type"] == "audio")
                assert num_bytes == 30 << 20

    run(main())


def test_an_error_ends_its_request_and_its_name_is_free_at_once() -> None:
    engine = GatedEngine()

    async def main() -> None:
        async with serve(engine) as address:
            async with connection(f"{address}/api/", "s2s") as websocket:
                await say(websocket, s2s_setup("other", "fr"), s2s_setup("slow", "es"))
                await say(websocket, audio(bytes(3840), client_req_id="slow"))
                await engine.waiting.wait()
                await say(websocket, s2s_setup("slow", "es"))
                assert {json.loads(await websocket.recv())["type"] for _ in range(2)} == {"ready"}
                assert "already active" in json.loads(await websocket.recv())["message"]
                # The engine is still inside the old one.
                await say(websocket, s2s_setup("slow", "fr"), audio(b"\1" * 3840, client_req_id="slow"))
                await say(websocket, {**END, "client_req_id": "slow"}, {**END, "client_req_id": "other"})
                received = await answers(websocket)
                slow = [message for message in received if message["client_req_id"] == "slow"]
                assert kinds(slow) == ["ready", "audio", "end_of_stream"]
                assert base64.b64decode(slow[1]["audio"]) == b"\1" * 3840
                engine.gate.set()

    run(main())
    assert (engine.opened, engine.closed) == (3, 3)


@pytest.mark.parametrize("abrupt", [False, True])
def test_a_client_that_goes_while_its_engine_is_at_work_leaves_nothing(*, abrupt: bool) -> None:
    engine = GatedEngine()

    async def main() -> None:
        async with serve(engine, limits=ServerLimits(max_requests=1)) as address:
            base_url = f"{address}/api/"
            async with connection(base_url, "s2s") as websocket:
                await say(websocket, s2s_setup("slow", "es"), audio(bytes(3840), client_req_id="slow"))
                await engine.waiting.wait()
                if abrupt:
                    websocket.transport.abort()
                    await websocket.wait_closed()
            engine.gate.set()
            setup = {**s2s_setup("next", "fr"), "retry_for_s": 20}
            ended = [{**END, "client_req_id": "next"}, END]
            assert kinds(await converse(base_url, "s2s", setup, *ended)) == ["ready", "end_of_stream"]

    run(main())
    assert (engine.opened, engine.closed) == (2, 2)


# --- limits, on a clock that the test holds


def test_a_request_may_last_as_long_as_the_limit_and_no_longer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with loopback_server() as base_url:
            async with connection(base_url, "tts", ping_interval=None) as websocket:
                await say(websocket, {"type": "setup", "output_format": "pcm_8000"})
                await websocket.recv()
                started = loop.time()
                await asyncio.sleep(299)
                await say(websocket, {"type": "text", "text": "still here."})
                assert json.loads(await websocket.recv())["type"] == "text"
                received = await answers(websocket)
                assert loop.time() - started == pytest.approx(300, abs=1)
                assert received[-1] == {"type": "error", "message": "session duration limit exceeded", "code": 1008}
                assert websocket.close_code == 1008

    run(main(), held_clock=True, timeout_s=1000)


def test_the_limit_of_one_request_is_not_that_of_its_connection() -> None:
    async def main() -> None:
        async with loopback_server(limits=ServerLimits(max_session_s=10)) as base_url:
            async with connection(base_url, "tts", ping_interval=None) as websocket:
                for number in range(3):
                    fields = {"client_req_id": str(number), "close_ws_on_eos": False}
                    await say(websocket, {"type": "setup", "output_format": "pcm_8000", **fields})
                    await asyncio.sleep(6)
                received = await answers(websocket)
                # The first two are over by now, and the last to end closes the connection.
                assert [(m["type"], m["client_req_id"]) for m in received] == [
                    ("ready", "0"), ("ready", "1"), ("error", "0"), ("ready", "2"), ("error", "1"), ("error", "2"),
                ]  # fmt: skip

    run(main(), held_clock=True, timeout_s=1000)


def test_a_long_input_is_cut_by_the_limit_too() -> None:
    class Endless(LoopbackEngine):
        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            return EndlessSession(sample_rate, None, 1.0)

    class EndlessSession(ToneSession):
        def flush(self) -> Answers:
            while True:
                yield Transcript("on", 0.0, 0.0)

    async def main() -> None:
        async with serve(Endless(), limits=ServerLimits(max_session_s=0.3)) as address:
            received = await converse(f"{address}/api/", "tts", {"type": "setup", "output_format": "pcm_8000"}, END)
            assert received[-1]["message"] == "session duration limit exceeded"

    run(main())


def test_too_many_requests_wait_or_are_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with loopback_server(limits=ServerLimits(max_requests=2)) as base_url:

            async def hold(seconds: float) -> None:
                async with connection(base_url, "tts", ping_interval=None) as websocket:
                    await say(websocket, {"type": "setup", "output_format": "pcm_8000"})
                    assert json.loads(await websocket.recv())["type"] == "ready"
                    await asyncio.sleep(seconds)
                    await say(websocket, END)
                    await answers(websocket)

            holding = [asyncio.create_task(hold(seconds)) for seconds in (20, 40)]
            await asyncio.sleep(1)
            setup = {"type": "setup", "output_format": "pcm_8000"}
            started = loop.time()
            (refused,) = await converse(base_url, "tts", setup, END)
            assert refused == {"type": "error", "message": "Concurrency limit exceeded", "code": 1008}
            assert loop.time() - started < 1
            (refused,) = await converse(base_url, "asr", {**setup, "retry_for_s": 5}, END)
            assert refused["message"] == "Concurrency limit exceeded"
            assert loop.time() - started == pytest.approx(5, abs=1)
            # Who goes while waiting leaves no trace; who stays gets the place that becomes free.
            async with connection(base_url, "tts", ping_interval=None) as websocket:
                await say(websocket, {**setup, "retry_for_s": 60})
                await asyncio.sleep(1)
            served = await converse(base_url, "tts", {**setup, "retry_for_s": 30}, END)
            assert kinds(served) == ["ready", "end_of_stream"]
            assert loop.time() - started == pytest.approx(19, abs=1)
            await asyncio.wait(holding)
            for _ in range(5):  # the place is free before the end is told
                assert kinds(await converse(base_url, "tts", setup, END)) == ["ready", "end_of_stream"]

    run(main(), held_clock=True, timeout_s=1000)


def test_a_request_that_waits_for_a_place_does_not_hold_up_the_one_that_has_it() -> None:
    async def main() -> None:
        async with loopback_server(limits=ServerLimits(max_requests=1)) as base_url:
            async with connection(base_url, "s2s", ping_interval=None) as websocket:
                await say(websocket, s2s_setup("first", "es"), {**s2s_setup("second", "es"), "retry_for_s": 100})
                await say(websocket, *[audio(bytes(3840), client_req_id="second")] * 60)
                await say(websocket, {**END, "client_req_id": "first"}, END)
                received = await answers(websocket)
                assert [(m["type"], m["client_req_id"]) for m in received] == [
                    ("ready", "first"), ("error", "second"), ("end_of_stream", "first"),
                ]  # fmt: skip
                assert received[1]["message"] == "Concurrency limit exceeded"
                assert asyncio.get_running_loop().time() < 1
            # What fits into the box may be sent while waiting.
            async with connection(base_url, "s2s", ping_interval=None) as websocket:
                await say(websocket, s2s_setup("first", "es"), {**s2s_setup("second", "es"), "retry_for_s": 100})
                await say(websocket, *[audio(bytes(3840), client_req_id="second")] * 10)
                await say(websocket, {**END, "client_req_id": "second"}, {**END, "client_req_id": "first"}, END)
                received = await answers(websocket)
                second = [m for m in received if m["client_req_id"] == "second"]
                assert kinds(second) == ["ready", *["audio"] * 10, "end_of_stream"]

    run(main(), held_clock=True, timeout_s=1000)


def test_a_connection_runs_so_many_requests_and_no_more() -> None:
    async def main() -> None:
        async with loopback_server() as base_url, connection(base_url, "tts") as websocket:
            names = [str(number) for number in range(300)]
            setup = {"type": "setup", "output_format": "pcm_8000", "close_ws_on_eos": False}
            await say(websocket, *[{**setup, "client_req_id": name} for name in names])
            await say(websocket, *[{**END, "client_req_id": name} for name in names], END)
            received = await answers(websocket)
            refused = [message for message in received if message["type"] == "error"]
            assert {message["message"] for message in refused} == {"Concurrency limit exceeded"}
            assert [message["client_req_id"] for message in refused] == names[256:]
            assert kinds(received).count("end_of_stream") == 256

    run(main())


def test_a_request_with_a_free_place_may_begin_with_more_than_its_box_holds() -> None:
    async def main() -> None:
        async with loopback_server(limits=ServerLimits(max_requests=1)) as base_url:
            text = {"type": "text", "text": 'a <break time="0.1s" /> ' * 100}
            received = await converse(base_url, "tts", {"type": "setup", "output_format": "pcm_8000"}, text, END)
            assert kinds(received).count("text") == 100
            assert received[-1] == END

    run(main())


# --- going away


@pytest.mark.parametrize("stage", ["before setup", "waiting", "open", "mid-input", "mid-output", "ended"])
@pytest.mark.parametrize("abrupt", [False, True])
def test_a_client_that_goes_leaves_nothing(stage: str, *, abrupt: bool) -> None:
    class Counting(LoopbackEngine):
        opened = closed = 0

        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            type(self).opened += 1
            return CountingSession(sample_rate, None, 1.0)

    class CountingSession(ToneSession):
        def flush(self) -> Answers:
            yield from super().flush()
            while stage == "mid-output":
                yield Audio(bytes(7680))

        async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
            try:
                await super().run(inputs, say)
            finally:
                Counting.closed += 1

    async def main() -> None:
        engine = Counting()
        async with serve(engine, limits=ServerLimits(max_requests=1)) as address:
            base_url = f"{address}/api/"
            setup = {"type": "setup", "output_format": "pcm_8000", "retry_for_s": 10}
            async with connection(base_url, "tts") as first, connection(base_url, "tts", close_timeout=1) as websocket:
                if stage == "waiting":
                    await say(first, setup)
                    await first.recv()
                if stage != "before setup":
                    await say(websocket, setup)
                if stage not in ("before setup", "waiting"):
                    await websocket.recv()
                if stage in ("mid-input", "mid-output", "ended"):
                    await say(websocket, {"type": "text", "text": "One. Two"})
                if stage in ("mid-output", "ended"):
                    await say(websocket, END)
                    await websocket.recv()
                if abrupt:
                    websocket.transport.abort()
                    await websocket.wait_closed()
                else:
                    await websocket.close()
                if stage == "waiting":
                    await say(first, END)
                    await answers(first)
            # The place is free again.
            assert kinds(await converse(base_url, "asr", setup, END)) == ["ready", "end_of_stream"]
            assert Counting.opened == Counting.closed == (0 if stage == "before setup" else 1)

    run(main())


def test_a_client_that_has_gone_is_not_written_to(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            for _ in range(5):
                async with connection(base_url, "tts") as websocket:
                    await say(websocket, {"type": "setup", "output_format": "pcm"})
                    await say(websocket, {"type": "text", "text": "hello there. " * 20000})
                    for _ in range(50):
                        await websocket.recv()
                    websocket.transport.abort()
                    await websocket.wait_closed()

    run(main())
    # asyncio warns of "socket.send() raised exception." after some messages.
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_stopping_the_server_ends_what_runs() -> None:
    class Counting(LoopbackEngine):
        closed = 0

        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            return CountingSession(sample_rate, None, 1.0)

    class CountingSession(ToneSession):
        async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
            try:
                await super().run(inputs, say)
            finally:
                Counting.closed += 1

    async def main() -> None:
        async with serve(Counting(), limits=ServerLimits(max_requests=1)) as address:
            websockets = [await connect(url(f"{address}/api/", "tts")) for _ in range(3)]
            for websocket in websockets:
                await say(websocket, {"type": "setup", "output_format": "pcm_8000", "retry_for_s": 60})
            assert json.loads(await websockets[0].recv())["type"] == "ready"
        for websocket in websockets:
            await answers(websocket)

    run(main())
    assert Counting.closed == 1


def test_an_engine_that_breaks_is_an_internal_error() -> None:
    class Broken(LoopbackEngine):
        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            return BrokenSession(sample_rate, None, 1.0)

    class BrokenSession(ToneSession):
        def speak(self, text: str) -> Answers:
            raise TimeoutError("its own")

        def flush(self) -> Iterator[Transcript]:
            raise AssertionError("not reached")

    async def main() -> None:
        async with serve(Broken()) as address:
            messages = ({"type": "setup", "output_format": "pcm_8000"}, {"type": "text", "text": "One."}, END)
            received = await converse(f"{address}/api/", "tts", *messages)
            assert received[1] == {"type": "error", "message": "internal error", "code": 1011}

    run(main())


def test_what_passes_through_is_booked() -> None:
    account = Account()

    async def main() -> None:
        async with loopback_server(account=account) as base_url:
            setup = {"type": "setup", "input_format": "pcm", "output_format": "pcm"}
            await converse(base_url, "tts", setup, {"type": "text", "text": "Good day."}, END)
            await converse(base_url, "asr", setup, audio(tone(400)), audio(tone(400)), END)
            await converse(base_url, "s2s", setup, audio(bytes(48000)), END)

    run(main())
    usage = account.usage
    assert usage.sessions == 3
    assert (usage.ingress_messages, usage.ingress_text_size) == (4, 9)
    assert usage.ingress_audio_s == pytest.approx(1.8, abs=0.01)
    assert usage.egress_text_size == len("Good") + len("day.") + len("segment 1")
    assert usage.egress_audio_s == pytest.approx(0.4 + 1.0, abs=0.01)
    assert usage.spent == pytest.approx(9 * 1 + 0.8 * 3 + 1.0 * 30, abs=0.5)


def test_a_voice_of_the_catalogue_reaches_the_engine() -> None:
    voices: list[Voice | None] = []

    class Asking(LoopbackEngine):
        def speak(self, start: Start, sample_rate: int, voice: Voice | None = None) -> ToneSession:
            voices.append(voice)
            return super().speak(start, sample_rate, voice)

    async def main() -> None:
        async with serve(Asking()) as address:
            for voice_id in ("ubuXFxVQwVYnZQhy", "nobody", None):
                await converse(f"{address}/api/", "tts", {"type": "setup", "voice_id": voice_id}, END)

    run(main())
    known, *unknown = voices
    assert known is not None
    assert known.locale == "en-gb"
    assert unknown == [None, None]
