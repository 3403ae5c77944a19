"""Telephone calls over real sockets: their audio, how they end, and what they leave behind."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness import run
from speechwire.codec import ulaw_decode, ulaw_encode
from speechwire.errors import AudioError
from speechwire.events import Audio, FailureKind, Flush, Start
from speechwire.server import ServerLimits, serve
from speechwire.server.account import Account
from speechwire.server.app import _listen
from speechwire.server.call import MAX_UNSENT_MS, STALL_S, START_S, Call
from speechwire.server.dialects.telephony import LINES, CallEnd, close_code, parse_setup
from speechwire.server.engines import EngineError, EngineSession, Input, Say
from speechwire.server.engines.loopback import LoopbackEngine
from speechwire.server.limits import Places
from speechwire.server.metrics import Metrics
from speechwire.server.session import Disconnected, Shared
from speechwire.server.ticks import Ticks
from speechwire.server.voices import Voice

TWILIO = LINES[0]
SID = "MZ00000000000000000000000000000001"
FRAME_S = 0.02
CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
STOP = {"event": "stop", "sequenceNumber": "9", "streamSid": SID, "stop": {"accountSid": "AC1", "callSid": "CA1"}}


def start(**parameters: str) -> dict[str, Any]:
    """Return the message as Twilio's page on Media Streams shows it."""
    return {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC1",
            "streamSid": SID,
            "callSid": "CA1",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
        "streamSid": SID,
    }


def media(codes: bytes, number: int = 1) -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": str(number + 1),
        "media": {
            "track": "inbound",
            "chunk": str(number),
            "timestamp": str(20 * (number - 1)),
            "payload": base64.b64encode(codes).decode(),
        },
        "streamSid": SID,
    }


def noise(seconds: float, seed: int = 1, amplitude: int = 8000) -> bytes:
    """Return mu-law that no two frames have in common."""
    samples = np.random.default_rng(seed).integers(-amplitude, amplitude, round(8000 * seconds)).astype("<i2")
    return ulaw_encode(ulaw_decode(ulaw_encode(samples.tobytes())))


def frames(codes: bytes) -> list[bytes]:
    return [codes[start : start + 160] for start in range(0, len(codes), 160)]


class FarEnd:
    """The carrier's end of one call: says, and keeps what it hears and when."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._num_frames = 0
        self.heard = bytearray()
        self.arrivals_s: list[float] = []
        self.clears_s: list[float] = []
        self.num_marks = 0
        self.end: tuple[int, str] | None = None

    async def say(self, *messages: dict[str, Any] | str | bytes) -> None:
        for message in messages:
            await self._websocket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def speak(self, codes: bytes, *, realtime: bool = False) -> None:
        for frame in frames(codes):
            self._num_frames += 1
            await self.say(media(frame, self._num_frames))
            if realtime:
                await asyncio.sleep(FRAME_S)

    async def recv(self) -> bool:
        """Take the next message; False when the connection is closed."""
        try:
            await self._take(json.loads(await self._websocket.recv()))
        except ConnectionClosed as closed:
            frame = closed.rcvd
            self.end = (1006, "") if frame is None else (frame.code, frame.reason)
            return False
        return True

    async def _take(self, message: dict[str, Any]) -> None:
        assert message["streamSid"] == SID
        now = asyncio.get_running_loop().time()
        if message["event"] == "media":
            payload = base64.b64decode(message["media"]["payload"], validate=True)
            assert len(payload) == 160
            self.heard += payload
            self.arrivals_s.append(now)
        elif message["event"] == "clear":
            self.clears_s.append(now)
        else:
            assert message["event"] == "mark"
            self.num_marks += 1
            await self.say(message)

    async def hear(self, seconds: float) -> None:
        """Take messages until so much audio has come."""
        while len(self.heard) < round(8000 * seconds):
            assert await self.recv(), self.end

    async def listen(self) -> tuple[int, str] | None:
        """Take messages until the end; returns code and reason of the close frame."""
        while await self.recv():
            pass
        return self.end


@asynccontextmanager
async def call(address: str, path: str = "telephony/twilio", **options: Any) -> AsyncIterator[FarEnd]:
    url = f"{address.replace('http', 'ws', 1)}/api/{path}"
    # The library's own timers are of no use where time jumps.
    async with connect(url, compression=None, ping_interval=None, open_timeout=None, **options) as websocket:
        yield FarEnd(websocket)


async def outcome(address: str, *messages: dict[str, Any] | str | bytes, **options: Any) -> tuple[int, str] | None:
    """Say this and listen until the server closes."""
    async with call(address, **options) as far_end:
        await far_end.say(*messages)
        return await far_end.listen()


async def metric(address: str, name: str) -> float:
    """Return the sum of a number's samples."""
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{address}/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"speechwire_{name}"))


async def until_nothing_runs(address: str) -> None:
    while await metric(address, "requests_running"):
        pass


class ScriptedSession:
    """Does with its input and its answers what a test says."""

    input_sample_rate = output_sample_rate = 8000
    busy_s = 0.0

    def __init__(self, script: Callable[[AsyncIterator[Input], Say], Awaitable[None]]) -> None:
        self._script = script

    async def run(self, inputs: AsyncIterator[Input], say: Say) -> None:
        await self._script(inputs, say)


class ScriptedEngine(LoopbackEngine):
    def __init__(self, script: Callable[[AsyncIterator[Input], Say], Awaitable[None]]) -> None:
        self._script = script
        self.starts: list[Start] = []

    def listen(self, start: Start, sample_rate: int, voice: Voice | None = None) -> Any:
        self.starts.append(start)
        return ScriptedSession(self._script)


async def idle(inputs: AsyncIterator[Input], _: Say) -> None:
    async for _event in inputs:
        pass


# --- audio


def test_what_the_caller_says_comes_back_whole_and_in_order() -> None:
    said = noise(2.0)

    async def main() -> None:
        async with serve(LoopbackEngine()) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start())
            await far_end.speak(said)
            await far_end.hear(2.0)
            assert bytes(far_end.heard) == said
            # Some of it goes ahead, and then a frame leaves every 20 ms.
            later = far_end.arrivals_s[10:]
            assert np.allclose(np.diff(later), FRAME_S, atol=FRAME_S / 2)
            assert later[-1] - later[0] == pytest.approx(FRAME_S * (len(later) - 1), abs=FRAME_S / 2)
            await far_end.say(STOP)
            assert await far_end.listen() == (1000, "the call is over")
            assert far_end.num_marks
            assert await metric(address, 'calls_ended_total{framing="twilio",reason="hung_up"}') == 1
            assert await metric(address, 'requests_ended_total{kind="interpreting",outcome="completed"}') == 1
            assert await metric(address, "call_frames_total") == 100
            assert await metric(address, "call_late_total") == 0
            assert await metric(address, "audio_heard_seconds_total") == pytest.approx(2.0)

    run(main(), held_clock=True)


def test_a_speaker_in_real_time_is_heard_in_real_time() -> None:
    said = noise(1.0)

    async def main() -> None:
        async with serve(LoopbackEngine()) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(far_end.hear(1.0))
                began_s = asyncio.get_running_loop().time()
                await far_end.speak(said, realtime=True)
            assert far_end.arrivals_s[0] - began_s < 0.1
            assert far_end.arrivals_s[-1] - began_s < 1.2

    run(main(), held_clock=True)


def test_five_calls_at_once_hear_themselves_alone() -> None:
    async def one(address: str, number: int) -> None:
        said = noise(1.0, seed=number)
        async with call(address) as far_end:
            await far_end.say(CONNECTED, start())
            await far_end.speak(said)
            await far_end.hear(1.0)
            assert bytes(far_end.heard) == said
            await far_end.say(STOP)
            assert await far_end.listen() == (1000, "the call is over")

    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            await asyncio.gather(*(one(address, number) for number in range(5)))
            assert await metric(address, "calls_ended_total") == 5

    run(main(), held_clock=True)


def test_the_end_of_an_answer_is_heard_though_it_fills_no_frame() -> None:
    async def script(inputs: AsyncIterator[Input], say: Say) -> None:
        await say(Audio(ulaw_decode(noise(0.05))))
        await idle(inputs, say)

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start())
            await far_end.hear(0.06)
            assert bytes(far_end.heard[:400]) == noise(0.05)
            await asyncio.sleep(1.0)
            await far_end.say(STOP)
            await far_end.listen()
            assert len(far_end.heard) == 480

    run(main(), held_clock=True)


def test_answers_that_nobody_has_heard_yet_are_bounded() -> None:
    num_said = 0

    async def script(_: AsyncIterator[Input], say: Say) -> None:
        nonlocal num_said
        while True:
            await say(Audio(bytes(16000)))
            num_said += 1

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address:
            async with call(address) as far_end:
                await far_end.say(CONNECTED, start())
                await far_end.hear(3.0)
                assert num_said <= MAX_UNSENT_MS / 1000 + 3 + 1

    run(main(), held_clock=True)


# --- what a call may ask for


def test_parameters_tell_languages_and_voice() -> None:
    engine = ScriptedEngine(idle)

    async def main() -> None:
        async with serve(engine) as address:
            async with call(address, "telephony/twilio?target_language=de&language=pt") as far_end:
                await far_end.say(CONNECTED, start(language="fr", voice_id="v1"), media(noise(0.02)))
                await far_end.say(STOP)
                await far_end.listen()
            async with call(address) as far_end:
                await far_end.say(CONNECTED, start(), STOP)
                await far_end.listen()

    run(main())
    asked = [(given.source_language, given.target_language, given.voice_id) for given in engine.starts]
    assert asked[0] == ("fr", "de", "v1")  # what the call says goes before the address
    assert asked[1:] in ([], [(None, "es", None)])  # it may have been over before it began


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"barge_in": "yes"}, "expected barge_in to be true or false, got 'yes'"),
        ({"target_language": "spanish"}, "expected target_language to be a code of two letters, got 'spanish'"),
        ({"language": "e" * 300}, f"expected language to be a code of two letters, got '{'e' * 256}…'"),
        ({"voice_id": "v" * 257}, "expected voice_id of at most 256 characters, got 257"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(parameters: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        parse_setup(parameters, TWILIO)
    assert str(raised.value) == problem

    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            end = await outcome(address, CONNECTED, start(**parameters))
            assert end is not None
            assert end[0] == 1008
            assert problem.startswith(end[1][:100])

    run(main())


KEY = "a-key-that-is-secret"


@pytest.mark.parametrize(
    ("parameters", "path", "headers"),
    [
        ({"key": KEY}, "telephony/twilio", {}),
        ({}, f"telephony/twilio?key={KEY}", {}),
        ({}, "telephony/twilio", {"x-api-key": KEY}),
        ({}, "telephony/twilio", {"authorization": f"Api-Key {KEY}"}),
    ],
)
def test_a_key_lets_a_call_in(
    parameters: dict[str, str], path: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "speechwire")

    async def main() -> None:
        async with serve(LoopbackEngine(), api_keys=["other", KEY]) as address:
            async with call(address, path, additional_headers=headers) as far_end:
                await far_end.say(CONNECTED, start(**parameters))
                await far_end.speak(noise(0.1))
                await far_end.hear(0.1)

    run(main())
    assert KEY not in caplog.text


def test_a_token_lets_one_call_in() -> None:
    account = Account()

    async def main() -> None:
        async with serve(LoopbackEngine(), api_keys=[KEY], account=account) as address:
            token, _ = account.tokens.issue()
            async with call(address) as far_end:
                await far_end.say(CONNECTED, start(token=token))
                await far_end.speak(noise(0.1))
                await far_end.hear(0.1)
            assert await outcome(address, CONNECTED, start(token=token)) == (1008, "the key is missing or wrong")

    run(main())


@pytest.mark.parametrize("parameters", [{}, {"key": "wrong"}, {"key": ""}, {"token": "wrong"}, {"key": KEY[:-1]}])
def test_without_a_good_key_nothing_is_interpreted(
    parameters: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "speechwire")
    engine = ScriptedEngine(idle)

    async def main() -> None:
        async with serve(engine, api_keys=[KEY]) as address:
            end = await outcome(address, CONNECTED, start(**parameters), media(noise(0.02)))
            assert end == (1008, "the key is missing or wrong")
            assert await metric(address, 'calls_ended_total{framing="twilio",reason="refused"}') == 1
            assert not await metric(address, "requests_ended_total")

    run(main())
    assert not engine.starts
    assert "wrong'" not in caplog.text


# --- ends


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("no json", "JSON"),
        ("[]", "object"),
        ('{"event":"start"}', "start"),
        ('{"event":"start","start":7}', "start"),
        ('{"event":"start","start":{"streamSid":"MZ1","customParameters":7}}', "customParameters"),
        (b"\xff\xfe", ""),
        (json.dumps({"event": "media", "media": {"payload": "!"}}), "payload"),
        (json.dumps(media(bytes(200_000))), "expected a message of at most 131072 bytes, got 266"),
    ],
)
def test_a_first_message_that_makes_no_sense_is_refused(message: str | bytes, reason: str) -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            end = await outcome(address, message)
            assert end is not None
            assert end[0] == 1002
            assert reason.lower() in end[1].lower()
            assert await metric(address, 'calls_ended_total{framing="twilio",reason="protocol"}') == 1

    run(main())


def test_a_far_end_that_never_starts_is_given_up() -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            assert await outcome(address, CONNECTED) == (1002, "expected the start of a call within 10 s, got none")
            assert asyncio.get_running_loop().time() == pytest.approx(START_S, abs=0.1)

    run(main(), held_clock=True)


def test_a_message_that_makes_no_sense_ends_a_call() -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            end = await outcome(address, CONNECTED, start(), media(noise(0.02)), "{")
            assert end is not None
            assert end[0] == 1002
            await until_nothing_runs(address)

    run(main())


STAGES: dict[str, list[dict[str, Any]]] = {
    "opened": [],
    "connected": [CONNECTED],
    "started": [CONNECTED, start()],
    "speaking": [CONNECTED, start(), *(media(frame) for frame in frames(noise(1.0)))],
    "over": [CONNECTED, start(), media(noise(0.02)), STOP],
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_far_end_that_goes_leaves_nothing(stage: str, how: str) -> None:
    async def main() -> None:
        async with serve(LoopbackEngine(), limits=ServerLimits(max_requests=1)) as address:
            for _ in range(3):
                async with call(address) as far_end:
                    await far_end.say(*STAGES[stage])
                    if how == "reset":
                        far_end._websocket.transport.abort()
            while await metric(address, "calls_ended_total") < 3:
                pass
            await until_nothing_runs(address)
            # Its place is free.
            async with call(address) as far_end:
                await far_end.say(CONNECTED, start())
                await far_end.speak(noise(0.1))
                await far_end.hear(0.1)

    run(main())


@pytest.mark.parametrize("stage", [[], [CONNECTED, start(), media(noise(0.02))]])
@pytest.mark.parametrize(("code", "reason"), [(1000, "hung_up"), (1001, "hung_up"), (1011, "gone")])
def test_a_connection_that_is_closed_in_good_order_is_a_call_that_is_over(
    stage: list[dict[str, Any]], code: int, reason: str
) -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            async with call(address) as far_end:
                await far_end.say(*stage)
                await far_end._websocket.close(code)
            while not await metric(address, "calls_ended_total"):
                pass
            assert await metric(address, f'calls_ended_total{{framing="twilio",reason="{reason}"}}') == 1
            outcome = "completed" if reason == "hung_up" else "dropped"
            ended = await metric(address, f'requests_ended_total{{kind="interpreting",outcome="{outcome}"}}')
            assert ended == (1 if stage else 0)

    run(main())


def failing(error: Exception) -> Callable[[AsyncIterator[Input], Say], Awaitable[None]]:
    async def script(inputs: AsyncIterator[Input], say: Say) -> None:
        async for _ in inputs:
            await say(Audio(ulaw_decode(noise(0.02))))
            raise error

    return script


async def ends_at_once(inputs: AsyncIterator[Input], _: Say) -> None:
    await anext(aiter(inputs))


@pytest.mark.parametrize(
    ("script", "end"),
    [
        (failing(EngineError("the words are out")), (1011, "the words are out")),
        (failing(EngineError("no such pair", FailureKind.INPUT)), (1008, "no such pair")),
        (failing(AudioError("half a sample")), (1008, "half a sample")),
        (ends_at_once, (1011, "the engine ended before the call")),
    ],
)
def test_an_engine_that_fails_ends_the_call_with_its_reason(script: Any, end: tuple[int, str]) -> None:
    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address:
            assert await outcome(address, CONNECTED, start(), media(noise(0.02))) == end
            await until_nothing_runs(address)
            assert await metric(address, 'requests_ended_total{kind="interpreting",outcome="failed"}') == 1

    run(main())


def test_an_engine_that_fails_while_it_waits_for_room_ends_the_call_with_its_reason() -> None:
    async def script(_: AsyncIterator[Input], say: Say) -> None:
        saying = asyncio.ensure_future(say(Audio(bytes(16000 * 100))))
        await asyncio.sleep(1.0)
        saying.cancel()
        await asyncio.sleep(20.0)  # it takes its time to end, and meanwhile there is room again
        raise EngineError("the words are out")

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address:
            assert await outcome(address, CONNECTED, start()) == (1011, "the words are out")

    run(main(), held_clock=True, timeout_s=60)


def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serve(ScriptedEngine(failing(ZeroDivisionError("a secret")))) as address:
            end = await outcome(address, CONNECTED, start(), media(noise(0.02)))
            assert end == (1011, "internal error")

    run(main())
    assert "a secret" in caplog.text


def test_what_nobody_foresaw_before_the_start_ends_the_call_too(caplog: pytest.LogCaptureFixture) -> None:
    def is_accepted(_: str | None, __: str | None) -> bool:
        raise ZeroDivisionError("a secret")

    async def main() -> None:
        connection, metrics = DeafConnection(CONNECTED, start()), Metrics()
        shared = Shared(LoopbackEngine(), Places(), metrics, ServerLimits(), lambda _: None)
        await Call(connection, TWILIO, {}, shared, Ticks(), is_accepted).run()
        assert connection.closed
        assert 'calls_ended_total{framing="twilio",reason="engine"} 1' in metrics.text()

    run(main())
    assert "a secret" in caplog.text


def test_the_log_tells_which_call_ended_and_takes_no_line_from_it(caplog: pytest.LogCaptureFixture) -> None:
    beginning = start()
    beginning["start"]["callSid"] = "CA1\nforged"

    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            await outcome(address, CONNECTED, beginning, STOP)

    with caplog.at_level("INFO", "speechwire.server"):
        run(main())
    (line,) = [line for line in caplog.messages if "ended" in line]
    assert line == r"twilio call 'CA1\nforged' ended: hung_up: the call is over"


def test_one_call_too_many_is_told_to_come_back() -> None:
    async def main() -> None:
        async with serve(LoopbackEngine(), limits=ServerLimits(max_requests=1)) as address:
            async with call(address) as first:
                await first.say(CONNECTED, start())
                await first.speak(noise(0.1))
                await first.hear(0.1)
                assert await outcome(address, CONNECTED, start()) == (1013, "too many requests run")
            assert await metric(address, 'calls_ended_total{framing="twilio",reason="busy"}') == 1
            assert await metric(address, 'requests_ended_total{kind="interpreting",outcome="refused"}') == 1

    run(main())


def test_a_call_lasts_as_long_as_it_may() -> None:
    async def main() -> None:
        async with serve(ScriptedEngine(idle), limits=ServerLimits(max_session_s=10, max_call_s=60)) as address:
            assert await outcome(address, CONNECTED, start()) == (1008, "the call took too long")
            assert asyncio.get_running_loop().time() == pytest.approx(60, abs=0.1)

    run(main(), held_clock=True, timeout_s=100)


def test_an_engine_that_falls_behind_ends_the_call() -> None:
    async def script(_: AsyncIterator[Input], __: Say) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start())
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(far_end.listen())
                for _ in range(9):
                    await far_end.speak(noise(1.0))
                await asyncio.sleep(0.1)
                assert not listening.done()
                with_room = asyncio.create_task(far_end.speak(noise(2.0)))
                end = await listening
                await asyncio.gather(with_room, return_exceptions=True)
            assert end == (1011, "the engine is more than 10 s behind the caller")

    run(main())


def test_a_server_that_stops_ends_its_calls() -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            websocket = await connect(
                f"{address.replace('http', 'ws', 1)}/api/telephony/twilio", compression=None, ping_interval=None
            )
            far_end = FarEnd(websocket)
            await far_end.say(CONNECTED, start())
            await far_end.speak(noise(0.1))
            await far_end.hear(0.1)
        end = await far_end.listen()
        assert end is not None
        assert end[0] in (1012, 1006)
        await websocket.close()

    run(main())


class DeafConnection:
    """A far end that takes the first of its frames and then nothing."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = [*map(json.dumps, messages)]
        self.num_sent = 0
        self.closed = False

    async def accept(self) -> None:
        pass

    async def recv(self) -> str:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: str | bytes) -> None:
        self.num_sent += 1
        if self.num_sent > 10:
            await asyncio.Event().wait()

    async def close(self, code: int, reason: str) -> None:
        self.closed = True


def test_a_far_end_that_takes_nothing_is_given_up_and_counted() -> None:
    num_said = 0

    async def script(_: AsyncIterator[Input], say: Say) -> None:
        nonlocal num_said
        while True:
            await say(Audio(bytes(16000)))
            num_said += 1

    async def main() -> None:
        connection, metrics = DeafConnection(CONNECTED, start()), Metrics()
        places = Places(max_requests=1)
        shared = Shared(ScriptedEngine(script), places, metrics, ServerLimits(), lambda _: None)
        await Call(connection, TWILIO, {}, shared, Ticks(), lambda *_: True).run()
        assert STALL_S <= asyncio.get_running_loop().time() < 2 * STALL_S
        assert not connection.closed  # who takes no audio takes no close frame
        assert num_said <= MAX_UNSENT_MS / 1000 + 2
        assert 'calls_ended_total{framing="twilio",reason="stalled"} 1' in metrics.text()
        async with places.hold(0.0, recognises=True):
            pass

    run(main(), held_clock=True)


def test_a_socket_that_nobody_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(host: str, port: int) -> socket.socket:
        listener = _listen(host, port)
        # As much as the system would hold takes minutes of the call. Where those take long, the system cuts the
        # connection first, by its own clock.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        return listener

    async def script(_: AsyncIterator[Input], say: Say) -> None:
        while True:
            await say(Audio(bytes(16000)))

    monkeypatch.setattr("speechwire.server.app._listen", listen)

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address:
            url = urlsplit(address)
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, (url.hostname, url.port))
            async with call(address, sock=deaf) as far_end:
                await far_end.say(CONNECTED, start())
                far_end._websocket.transport.pause_reading()
                while not await metric(address, 'calls_ended_total{framing="twilio",reason="stalled"}'):  # noqa: ASYNC110
                    await asyncio.sleep(5.0)
                far_end._websocket.transport.abort()

    run(main(), held_clock=True, timeout_s=1000)


def test_every_end_has_a_code() -> None:
    assert {end: close_code(end) for end in CallEnd} == {
        CallEnd.HUNG_UP: 1000, CallEnd.GONE: 1011, CallEnd.PROTOCOL: 1002, CallEnd.REFUSED: 1008, CallEnd.BUSY: 1013,
        CallEnd.DURATION: 1008, CallEnd.STALLED: 1011, CallEnd.BEHIND: 1011, CallEnd.ENGINE: 1011,
        CallEnd.STOPPED: 1011,
    }  # fmt: skip


# --- barge-in


def answers_once(told: list[Input]) -> Callable[[AsyncIterator[Input], Say], Awaitable[None]]:
    """Say 3 s to the first second of input, go on with it in pieces, and say 1 s after a flush."""

    async def script(inputs: AsyncIterator[Input], say: Say) -> None:
        heard_s = 0.0
        async for event in inputs:
            told.append(event)
            if isinstance(event, Flush):
                await say(Audio(ulaw_decode(noise(1.0, seed=3))))  # owed for the time before
                await say(event)
                await say(Audio(ulaw_decode(noise(1.0, seed=4))))
            elif isinstance(event, Audio):
                before_s, heard_s = heard_s, heard_s + len(event.audio) / 16000
                if before_s < 1.0 <= heard_s:
                    await say(Audio(ulaw_decode(noise(3.0, seed=2))))

    return script


SILENCE = ulaw_encode(bytes(2 * 160))


@pytest.mark.parametrize("barge_in", ["true", "false"])
def test_who_speaks_while_an_answer_is_played_silences_it_if_that_was_asked_for(barge_in: str) -> None:
    told: list[Input] = []

    async def main() -> None:
        async with serve(ScriptedEngine(answers_once(told))) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start(barge_in=barge_in))
            await far_end.speak(SILENCE * 50)
            await far_end.hear(1.0)
            began_s = asyncio.get_running_loop().time()
            speech = noise(0.2, seed=5)
            await far_end.speak(speech)
            if barge_in == "false":
                await far_end.hear(3.0)
                assert bytes(far_end.heard) == noise(3.0, seed=2)
                assert not far_end.clears_s
                assert not any(isinstance(event, Flush) for event in told)
                return
            while not far_end.clears_s:
                assert await far_end.recv()
            assert far_end.clears_s[0] - began_s < FRAME_S
            before = bytes(far_end.heard)
            assert noise(3.0, seed=2).startswith(before)
            await far_end.hear(len(before) / 8000 + 1.0)
            # Nothing of the old answer, nor of what the engine still owed for it; all of the next.
            assert bytes(far_end.heard[len(before) :]) == noise(1.0, seed=4)
            # The engine is told where speech begins, and gets all of it.
            audio = b"".join(event.audio if isinstance(event, Audio) else b"FLUSH" for event in told)
            assert audio == ulaw_decode(SILENCE * 50) + b"FLUSH" + ulaw_decode(speech)

    run(main(), held_clock=True)


def test_an_engine_that_knows_no_flush_goes_on_after_a_pause() -> None:
    async def script(inputs: AsyncIterator[Input], say: Say) -> None:
        await say(Audio(ulaw_decode(noise(2.0, seed=2))))
        async for event in inputs:
            if isinstance(event, Flush):
                break
        await say(Audio(ulaw_decode(noise(1.0, seed=3))))  # the rest of it
        await asyncio.sleep(1.0)
        await say(Audio(ulaw_decode(noise(1.0, seed=4))))
        await idle(inputs, say)

    async def main() -> None:
        async with serve(ScriptedEngine(script)) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start(barge_in="true"))
            await far_end.hear(0.5)
            await far_end.speak(noise(0.2, seed=5))
            while not far_end.clears_s:
                assert await far_end.recv()
            before = len(far_end.heard)
            await far_end.hear(before / 8000 + 1.0)
            assert bytes(far_end.heard[before:]) == noise(1.0, seed=4)

    run(main(), held_clock=True)


def test_speech_while_nothing_is_played_interrupts_nothing() -> None:
    async def main() -> None:
        async with serve(ScriptedEngine(answers_once([]))) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start(barge_in="true"))
            await far_end.speak(noise(0.5, seed=5))
            await far_end.speak(SILENCE * 25)
            await far_end.hear(3.0)
            while far_end.num_marks < 2 or len(far_end.heard) < 24000:
                assert await far_end.recv()
            await asyncio.sleep(1.0)
            await far_end.speak(noise(0.2, seed=6))
            await far_end.say(STOP)
            await far_end.listen()
            assert not far_end.clears_s

    run(main(), held_clock=True)


def test_a_session_is_typed_as_the_engines_are() -> None:
    session: EngineSession = ScriptedSession(idle)
    assert session.output_sample_rate == 8000


def test_a_connection_that_was_never_accepted_ends_its_call() -> None:
    class Gone(DeafConnection):
        async def accept(self) -> None:
            raise Disconnected

    async def main() -> None:
        metrics = Metrics()
        shared = Shared(LoopbackEngine(), Places(), metrics, ServerLimits(), lambda _: None)
        await Call(Gone(), TWILIO, {}, shared, Ticks(), lambda *_: True).run()
        assert 'reason="gone"} 1' in metrics.text()

    run(main())
