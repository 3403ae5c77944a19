"""The server over real sockets: what clients get for good input and for bad."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness import loopback_server, run
from speechwire.codec import Resampler, alaw_decode, alaw_encode, ulaw_decode, ulaw_encode
from speechwire.errors import ServerError
from speechwire.events import Audio, FailureKind, Start
from speechwire.gradium import GradiumClient, wire
from speechwire.gradium.protocol import ServerProtocol
from speechwire.server import serve
from speechwire.server.account import Usage
from speechwire.server.dialects.gradium_rest import Meter
from speechwire.server.engines import EngineError, Input, Say
from speechwire.server.engines.loopback import LoopbackEngine, LoopbackSession
from speechwire.server.inbox import MAX_BYTES
from speechwire.server.limits import Places, ServerLimits
from speechwire.server.metrics import Metrics
from speechwire.server.session import Disconnected, Session, Shared
from speechwire.server.voices import Voice

RATES = (8000, 16000, 22050, 24000, 44100, 48000)


def speech_like(sample_rate: int, seconds: float = 1.0) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return tones that any telephone passes, with pauses."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    tones = sum(np.sin(2 * np.pi * hz * t + hz) for hz in (200, 460, 1130, 2310, 2890))
    return np.asarray(3000 * tones * (np.sin(2 * np.pi * 1.5 * t) > -0.5), np.int16)


async def translate(base_url: str, audio: bytes, input_format: str, output_format: str) -> bytes:
    client = GradiumClient(base_url=base_url, api_key="k")
    setup = {"input_format": input_format, "output_format": output_format, "voice_id": "v"}
    return (await client.s2s(setup, audio)).raw_data


@pytest.mark.parametrize("audio_format", [*(f"pcm_{rate}" for rate in RATES), "ulaw_8000", "mulaw_8000", "alaw_8000"])
def test_loopback_returns_the_samples_that_were_sent(audio_format: str) -> None:
    encode = {"ulaw_8000": ulaw_encode, "mulaw_8000": ulaw_encode, "alaw_8000": alaw_encode}.get(audio_format, bytes)
    pcm = speech_like(int(audio_format.rpartition("_")[2])).tobytes()
    sent = encode(pcm)

    async def main() -> bytes:
        async with loopback_server() as base_url:
            return await translate(base_url, sent, audio_format, audio_format)

    assert run(main()) == sent


def snr_db(reference: np.ndarray[Any, Any], signal: np.ndarray[Any, Any]) -> float:
    noise = signal.astype(np.float64) - reference
    return float(10 * np.log10(np.sum(reference**2) / np.sum(noise**2)))


@pytest.mark.parametrize(("input_rate", "output_rate"), list(permutations(RATES, 2)))
def test_loopback_between_rates_is_a_faithful_resampling(input_rate: int, output_rate: int) -> None:
    pcm = speech_like(input_rate)

    async def main() -> bytes:
        async with loopback_server() as base_url:
            return await translate(base_url, pcm.tobytes(), f"pcm_{input_rate}", f"pcm_{output_rate}")

    delay = round(Resampler(input_rate, output_rate).delay_ms * output_rate / 1000)
    returned = np.frombuffer(run(main()), np.int16)[delay:]
    reference = soxr.resample(pcm.astype(np.float64), input_rate, output_rate, quality="VHQ")
    assert abs(len(returned) - len(reference)) <= 1
    # The two filters differ where the tones are switched; compare where they are steady, as ever for resamplers.
    inner = slice(output_rate // 20, output_rate // 4)
    assert snr_db(reference[inner], returned[inner]) >= 60.0


def test_wav_comes_back_with_its_header_in_a_message_of_its_own() -> None:
    pcm = speech_like(48000, 0.2).tobytes()

    async def main() -> list[dict[str, Any]]:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            stream = await client.s2s_stream({"input_format": "pcm_48000", "output_format": "wav"}, pcm)
            return [message async for message in stream.iter_events() if message["type"] == "audio"]

    header, *frames = run(main())
    assert (header["start_s"], header["stop_s"]) == (0.0, 0.0)
    assert len(header["audio"]) == 44
    assert header["audio"][4:8] == header["audio"][40:44] == b"\xff\xff\xff\xff"
    assert b"".join(frame["audio"] for frame in frames) == pcm
    assert [len(frame["audio"]) for frame in frames] == [7680, 7680, 3840]
    assert frames[1]["start_s"] == frames[0]["stop_s"] == 0.08


@pytest.mark.parametrize(
    ("output_format", "sample_rate", "frame_size"),
    [("pcm", 48000, 3840), ("wav", 48000, 3840), ("pcm_16000", 16000, 1280), ("alaw_8000", 8000, 640)],
)
def test_ready_announces_the_true_rate(output_format: str, sample_rate: int, frame_size: int) -> None:
    async def main() -> dict[str, Any]:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            async with client.s2s_realtime(output_format=output_format, wait_for_ready_on_start=True) as s2s:
                assert s2s.ready is not None
                return s2s.ready

    ready = run(main())
    assert (ready["sample_rate"], ready["frame_size"]) == (sample_rate, frame_size)
    assert ready["audio_stream_names"] == ready["text_stream_names"] == []


SETUP = '{"type":"setup","input_format":"pcm","output_format":"pcm"}'
WAV_SETUP = '{"type":"setup","input_format":"wav","output_format":"pcm"}'
BAD_INPUT: list[tuple[str, list[str | bytes], int, str]] = [
    ("not JSON", ["{"], 1002, "Message validation error"),
    ("binary frame", [b"\x00"], 1002, "got a binary frame"),
    ("audio before setup", ['{"type":"audio","audio":"AAAA"}'], 1002, "Session not found. Send setup first."),
    ("unknown type first", ['{"type":"applause"}'], 1002, "Session not found. Send setup first."),
    ("bad format", ['{"type":"setup","input_format":"mp3"}'], 1008, "unsupported input format 'mp3'"),
    ("bad language", ['{"type":"setup","json_config":{"target_language":"xx"}}'], 1011, "target_language 'xx'"),
    ("bad base64", [SETUP, '{"type":"audio","audio":"AAA*"}'], 1002, "Message validation error"),
    ("setup twice", [SETUP, SETUP], 1002, "Session already active"),
    ("no RIFF", [WAV_SETUP, '{"type":"audio","audio":"' + "A" * 400 + '"}'], 1008, "RIFF"),
    ("half a sample", [SETUP, '{"type":"audio","audio":"AA=="}', '{"type":"end_of_stream"}'], 1008, "1 byte"),
    ("oversized", [SETUP, '{"type":"audio","audio":"' + "A" * (41 << 20) + '"}'], 1002, "expected at most 41943040"),
]


@pytest.mark.parametrize(("name", "messages", "code", "says"), BAD_INPUT, ids=[row[0] for row in BAD_INPUT])
def test_bad_input_gets_an_error_and_a_close_and_the_server_stays_up(
    name: str, messages: list[str | bytes], code: int, says: str
) -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with connect(url, max_size=None) as websocket:
                for message in messages:
                    await websocket.send(message)
                answers: list[dict[str, Any]] = []
                with pytest.raises(ConnectionClosed) as caught:
                    while True:
                        answers.append(json.loads(await websocket.recv()))
            error = answers[-1]
            assert error["type"] == "error"
            assert error["code"] == code
            assert says in error["message"]
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code
            assert error["message"].startswith(caught.value.rcvd.reason.rstrip())
            assert await translate(base_url, bytes(3840), "pcm_8000", "pcm_8000") == bytes(3840)

    run(main())


def test_a_message_beyond_all_limits_is_refused_and_the_server_stays_up() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with connect(url, compression=None) as websocket:
                with pytest.raises(ConnectionClosed) as caught:
                    await websocket.send("x" * (65 << 20))
                    await websocket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
            assert await translate(base_url, bytes(3840), "pcm_8000", "pcm_8000") == bytes(3840)

    run(main())


@pytest.mark.parametrize(
    ("headers", "query", "refusal"),
    [
        ({"x-api-key": "one"}, "", None),
        ({"x-api-key": "two"}, "", None),
        ({}, "?token=one", None),
        ({}, "", "No authentication provided"),
        ({"x-api-key": "three"}, "", "API key is revoked or expired"),
        ({}, "?token=three", "API key is revoked or expired"),
    ],
)
def test_keys(headers: dict[str, str], query: str, refusal: str | None) -> None:
    async def main() -> dict[str, Any]:
        async with loopback_server(api_keys=["one", "two"]) as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s" + query
            async with connect(url, additional_headers=headers) as websocket:
                await websocket.send(SETUP)
                answer: dict[str, Any] = json.loads(await websocket.recv())
                return answer

    answer = run(main())
    if refusal is None:
        assert answer["type"] == "ready"
    else:
        assert answer == {"type": "error", "message": refusal, "code": 1008}


def test_unknown_path_is_not_found() -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k", s2s_route="speech/nowhere")
            with pytest.raises(RuntimeError, match="HTTP 404"):
                await client.s2s({}, bytes(3840))

    run(main())


def test_setup_input_and_end_in_one_segment() -> None:
    async def main() -> list[str]:
        async with loopback_server() as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with connect(url) as websocket:
                audio = base64.b64encode(bytes(1000)).decode()
                await asyncio.gather(
                    websocket.send(SETUP),
                    websocket.send(f'{{"type":"audio","audio":"{audio}"}}'),
                    websocket.send('{"type":"end_of_stream"}'),
                )
                return [json.loads(message)["type"] async for message in websocket]

    kinds = run(main())
    assert kinds[0] == "ready"
    assert kinds[-1] == "end_of_stream"
    assert "audio" in kinds


def test_end_without_input_is_no_error() -> None:
    async def main() -> bytes:
        async with loopback_server() as base_url:
            return await translate(base_url, b"", "pcm", "wav")

    assert len(run(main())) == 44


def test_end_without_input_is_no_error_with_the_default_formats_either() -> None:
    async def main() -> list[str]:
        async with loopback_server() as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with connect(url) as websocket:
                await websocket.send('{"type":"setup"}')
                await websocket.send('{"type":"end_of_stream"}')
                return [json.loads(message)["type"] async for message in websocket]

    assert run(main()) == ["ready", "audio", "end_of_stream"]


def test_requests_on_one_connection_do_not_mix() -> None:
    sent = {"a": bytes(range(1, 200)) * 50, "b": bytes(range(3, 250)) * 40}

    async def main() -> dict[str, bytes]:
        received = {"a": b"", "b": b""}
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            setup = {"input_format": "pcm_8000", "output_format": "pcm_8000", "close_ws_on_eos": False}
            async with client.s2s_realtime(send_setup_on_start=False) as s2s:
                for name in sent:
                    await s2s.send_setup({**setup, "client_req_id": name})
                for start in range(0, 10000, 333):  # odd, so that samples are cut
                    for name, pcm in sent.items():
                        await s2s.send_audio(pcm[start : start + 333], name)
                for name in sent:
                    await s2s.send_eos(name)
                ended = 0
                while ended < 2:
                    message = await s2s.recv()
                    assert message is not None
                    if message["type"] == "audio":
                        received[message["client_req_id"]] += message["audio"]
                    ended += message["type"] == "end_of_stream"
        return received

    assert run(main()) == {name: pcm[: len(pcm) & ~1] for name, pcm in sent.items()}


def test_a_pulled_request_may_have_a_name() -> None:
    async def main() -> bytes:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            setup = {"input_format": "pcm_8000", "output_format": "pcm_8000", "client_req_id": "a"}
            return (await client.s2s(setup, bytes(3840))).raw_data

    assert run(main()) == bytes(3840)


class QuickConnection:
    """A client that sends its messages and takes every answer at once."""

    def __init__(self, messages: list[str]) -> None:
        self._messages = messages
        self.sent: list[str] = []

    async def accept(self) -> None:
        """Nothing to shake."""

    async def recv(self) -> str:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: str) -> None:
        self.sent.append(message)

    async def close(self, code: int, reason: str) -> None:
        """Nothing to close."""


def test_the_loop_gets_its_turns_within_a_long_message() -> None:
    audio = base64.b64encode(bytes(1 << 20)).decode()
    connection = QuickConnection([SETUP, f'{{"type":"audio","audio":"{audio}"}}', '{"type":"end_of_stream"}'])
    most_between_turns = 0

    async def main() -> None:
        nonlocal most_between_turns
        shared = Shared(LoopbackEngine(), Places(), Metrics(), ServerLimits(), lambda _: None)
        session = Session(connection, ServerProtocol(wire.S2S), Meter(Usage(), wire.S2S), shared)
        task = asyncio.create_task(session.run())
        while not task.done():
            before = len(connection.sent)
            await asyncio.sleep(0)
            most_between_turns = max(most_between_turns, len(connection.sent) - before)
        await task

    run(main())
    assert len(connection.sent) > 250
    assert most_between_turns < 10


class VanishedConnection(QuickConnection):
    """A client that takes none of its answers, and has gone after its messages."""

    async def recv(self) -> str:
        if not self._messages:
            await asyncio.sleep(0.05)
            raise Disconnected
        return await super().recv()

    async def send(self, message: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("num_messages", [15, 16])
def test_a_client_that_goes_while_the_box_of_its_request_is_full_is_noticed(num_messages: int) -> None:
    audio = base64.b64encode(bytes(MAX_BYTES // 16)).decode()
    connection = VanishedConnection([SETUP, *[f'{{"type":"audio","audio":"{audio}"}}'] * num_messages])

    async def main() -> None:
        shared = Shared(LoopbackEngine(), Places(), Metrics(), ServerLimits(), lambda _: None)
        await Session(connection, ServerProtocol(wire.S2S), Meter(Usage(), wire.S2S), shared).run()
        assert asyncio.get_running_loop().time() < 1

    run(main(), held_clock=True, timeout_s=100)


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        (FailureKind.INTERNAL, 1011, "it has gone"),
        (FailureKind.INPUT, 1008, "it has gone"),
        (FailureKind.BUSY, 1008, "Concurrency limit exceeded"),
    ],
)
def test_an_engine_says_whose_fault_its_failure_is(kind: FailureKind, code: int, says: str) -> None:
    class FailingEngine(LoopbackEngine):
        def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> LoopbackSession:
            raise EngineError("it has gone", kind)

    async def main() -> ServerError:
        async with serve(FailingEngine()) as address:
            with pytest.raises(ServerError) as raised:
                await translate(f"{address}/api/", bytes(960), "pcm_24000", "pcm_24000")
            return raised.value

    error = run(main())
    assert (error.code, error.reason) == (code, says)


class StuckSession(LoopbackSession):
    """Notes whether it was closed, which takes it a while."""

    def __init__(self, closed: list[bool], *, answers: bool) -> None:
        super().__init__(8000)
        self._closed = closed
        self._answers = answers

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        try:
            while self._answers:
                await say(Audio(bytes(1 << 20)))
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)
            self._closed.append(True)


class StuckEngine(LoopbackEngine):
    def __init__(self, *, answers: bool) -> None:
        self.closed: list[bool] = []
        self._answers = answers

    async def stop(self) -> None:
        assert self.closed

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> StuckSession:
        return StuckSession(self.closed, answers=self._answers)


def test_stopping_waits_for_an_engine_and_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechwire.server.app.SHUTDOWN_S", 0)
    engine = StuckEngine(answers=False)

    async def main() -> None:
        async with serve(engine) as address:
            websocket = await connect(address.replace("http", "ws", 1) + "/api/speech/s2s")
            await websocket.send(SETUP)
            await websocket.recv()
            await websocket.send('{"type":"audio","audio":"AAAA"}')
            await asyncio.sleep(0.1)
        await websocket.close()

    run(main(), held_clock=True)
    assert engine.closed == [True]


def test_a_server_that_is_cancelled_waits_for_an_engine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechwire.server.app.SHUTDOWN_S", 0)
    engine = StuckEngine(answers=False)

    async def run_server(address: asyncio.Future[str]) -> None:
        async with serve(engine) as at:
            address.set_result(at)
            await asyncio.Event().wait()

    async def main() -> None:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(run_server(address))
        websocket = await connect((await address).replace("http", "ws", 1) + "/api/speech/s2s")
        await websocket.send(SETUP)
        await websocket.recv()
        server.cancel()
        await asyncio.wait([server])
        assert server.cancelled()
        await websocket.close()

    run(main(), held_clock=True)
    assert engine.closed == [True]  # and before the engine was stopped, which it checks


def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechwire.server.session.SEND_S", 0.3)
    engine = StuckEngine(answers=True)

    async def main() -> None:
        async with serve(engine) as address:
            websocket = await connect(address.replace("http", "ws", 1) + "/api/speech/s2s", max_queue=1)
            await websocket.send(SETUP)
            await websocket.send('{"type":"audio","audio":"AAAA"}')
            async with asyncio.timeout(100):
                while not engine.closed:  # noqa: ASYNC110 - it is a list
                    await asyncio.sleep(0.05)
            websocket.transport.abort()
            await websocket.wait_closed()

    run(main())
    assert engine.closed == [True]


def test_one_connection_serves_one_request_after_another() -> None:
    async def main() -> list[str]:
        kinds = []
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            async with client.s2s_realtime(output_format="pcm_24000", close_ws_on_eos=False) as s2s:
                for number in range(3):
                    if number:
                        await s2s.send_setup({})
                    await s2s.send_audio(bytes(3840))
                    await s2s.send_eos()
                    while (message := await s2s.recv()) is not None:
                        kinds.append(message["type"])
                        if message["type"] == "end_of_stream":
                            break
        return kinds

    assert run(main()) == ["ready", "audio", "end_of_stream"] * 3


def test_setup_may_be_sent_later_and_by_hand() -> None:
    async def main() -> tuple[str, int]:
        async with loopback_server() as base_url:
            client = GradiumClient(base_url=base_url, api_key="k")
            async with client.s2s_realtime(sample_rate=16000, send_setup_on_start=False) as s2s:
                await s2s.send_setup({"input_format": "pcm_8000", "output_format": "pcm_8000"})
                await s2s.wait_for_ready()
                await s2s.send_audio(np.zeros(1600, np.int16))
                await s2s.send_eos()
                num_bytes = sum([len(message["audio"]) async for message in s2s if message["type"] == "audio"])
                assert s2s.ready is not None
                return str(s2s.ready["model_name"]), num_bytes

    model_name, num_bytes = run(main())
    assert model_name == "default"
    delay = round(Resampler(16000, 8000).delay_ms * 8)
    assert num_bytes == 2 * (800 + delay)


def test_ulaw_negative_zero_is_the_one_code_that_changes() -> None:
    codes = bytes(range(256))
    assert [code for code in codes if ulaw_encode(ulaw_decode(bytes([code])))[0] != code] == [0x7F]
    assert alaw_encode(alaw_decode(codes)) == codes
