"""The engine that forwards to another service: what passes, and that no end of it is quiet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness import READY, Behaviour, Peer, converse, loopback_server, misbehaving_server, run
from speechwire.events import Audio, FailureKind, Flush, Start, Transcript
from speechwire.gradium import GradiumClient, Limits, ReconnectPolicy
from speechwire.server import ServerLimits, serve
from speechwire.server.engines import Answer, EngineError, Input
from speechwire.server.engines.gradium import GradiumEngine
from speechwire.server.engines.loopback import LoopbackEngine
from test_faults import before_ready, begin
from test_replay import speech
from test_resume import Service, live
from test_server import speech_like
from test_server_calls import CONNECTED, STOP, call, media, metric, noise, start

KEY = "gd_4c0ffee5ecre7"
START = Start("pcm_8000", "pcm_8000", target_language="es")
LIMITS = Limits(connect_s=0.5, ready_s=0.4, idle_s=0.5, send_s=0.5, close_s=0.3, keepalive_s=None)


def engine(base_url: str, reconnect: ReconnectPolicy | None = None) -> GradiumEngine:
    return GradiumEngine(GradiumClient(base_url=base_url, api_key=KEY, limits=LIMITS), reconnect)


@pytest.mark.parametrize("sample_rate", [8000, 24000])
def test_audio_and_texts_come_back_from_the_service_behind(sample_rate: int) -> None:
    pcm = speech_like(sample_rate).tobytes()

    async def main() -> list[Answer]:
        async with loopback_server() as base_url:
            session = engine(base_url).listen(START, sample_rate)
            assert session.input_sample_rate == session.output_sample_rate == sample_rate
            return await converse(session, *(Audio(pcm[place : place + 320]) for place in range(0, len(pcm), 320)))

    answers = run(main(), held_clock=True)
    assert b"".join(answer.audio for answer in answers if isinstance(answer, Audio)) == pcm
    assert next(answer.text for answer in answers if isinstance(answer, Transcript)) == "segment 1"


def test_a_rate_that_the_service_does_not_know_becomes_one_that_it_does() -> None:
    session = engine("http://127.0.0.1:1").listen(START, 11025)
    assert (session.input_sample_rate, session.output_sample_rate, session.busy_s) == (24000, 24000, 0.0)


def test_a_flush_is_answered_when_the_service_has_answered_it() -> None:
    pcm = speech_like(8000, 0.08).tobytes()  # one frame of the service's

    async def main() -> list[Answer]:
        async with loopback_server() as base_url:
            return await converse(engine(base_url).listen(START, 8000), Audio(pcm), Flush(7), Audio(pcm))

    answers = run(main(), held_clock=True)
    place = answers.index(Flush(7))
    assert b"".join(answer.audio for answer in answers[:place] if isinstance(answer, Audio)) == pcm
    assert b"".join(answer.audio for answer in answers[place:] if isinstance(answer, Audio)) == pcm


def test_the_service_is_asked_for_what_the_client_wants() -> None:
    setups: list[dict[str, Any]] = []

    async def behave(peer: Peer) -> None:
        await peer.accept()
        setups.append(json.loads(await peer.recv()))
        await peer.close(1011, "enough")

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            starts = (START, Start("pcm_8000", "pcm_8000", "en", None, voice_id="v"))
            for given in starts:
                with pytest.raises(EngineError, match="enough"):
                    await converse(engine(base_url).listen(given, 8000))

    run(main(), held_clock=True)
    assert [(s["input_format"], s["output_format"], s["voice_id"], json.loads(s["json_config"])) for s in setups] == [
        ("pcm_8000", "pcm_8000", "B36pbz5_UoWn4BDl", {"target_language": "es"}),
        ("pcm_8000", "pcm_8000", "v", {"language": "en"}),
    ]


def test_what_it_cannot_do_is_refused_before_there_is_a_connection() -> None:
    there = engine("http://127.0.0.1:1")
    for given, problem in (
        (Start("pcm_8000", None), "expected a request to interpret, got one to recognise"),
        (Start("pcm_8000", "pcm_8000"), "expected a target language or a voice, got neither"),
    ):
        with pytest.raises(EngineError, match=problem) as raised:
            there.listen(given, 8000)
        assert raised.value.kind is FailureKind.INPUT
    with pytest.raises(EngineError, match="got a text to speak"):
        there.speak(Start(None, "pcm_8000"), 8000)
    with pytest.raises(EngineError, match="unsupported target_language 'xx'") as raised:
        there.listen(Start("pcm_8000", "pcm_8000", target_language="xx"), 8000)
    assert raised.value.kind is FailureKind.INPUT


async def endless() -> AsyncIterator[Input]:
    while True:
        yield Audio(bytes(320))
        await asyncio.sleep(0.001)


async def reset(peer: Peer) -> None:
    await begin(peer)
    peer.reset()


async def vanish(peer: Peer) -> None:
    await peer.accept()
    await peer.recv()
    await peer.send(READY)
    await peer.recv()
    await peer.finish()


REVOKED = '{"type":"error","message":"API key is revoked or expired","code":1008}'
NUMBERS = '{"type":"text","text":7,"start_s":"x","stop_s":[]}'
FAULTS: dict[str, tuple[Behaviour, str]] = {
    "reset": (reset, "the service behind failed"),
    "vanish": (vanish, "the service behind failed"),
    "fall_silent": (before_ready(READY), "nothing came from the server for 0.5 s"),
    "refuse": (
        before_ready(REVOKED, close=(1008, "API key is revoked or expired")),
        "the service behind refused this server's key",
    ),
    "end_early": (before_ready(READY, '{"type":"end_of_stream"}', close=(1000, "")), "the service behind failed"),
    "talk_rubbish": (
        before_ready(READY, "rubbish"),
        "the service behind failed: malformed message from the server",
    ),
    "talk_of_numbers": (
        before_ready(READY, NUMBERS),
        "the service behind failed: malformed message from the server",
    ),
}


@pytest.mark.parametrize(("behave", "problem"), FAULTS.values(), ids=FAULTS)
def test_a_service_that_drops_out_ends_the_request_with_the_reason(behave: Behaviour, problem: str) -> None:
    async def say(_: Answer) -> None:
        pass

    async def main() -> None:
        async with misbehaving_server(behave) as base_url:
            with pytest.raises(EngineError, match=problem) as raised:
                await engine(base_url).listen(START, 8000).run(endless(), say)
            assert KEY not in str(raised.value)

    run(main(), held_clock=True)


@pytest.mark.parametrize(("behave", "problem"), FAULTS.values(), ids=FAULTS)
def test_a_service_that_drops_out_ends_the_call_with_the_reason(behave: Behaviour, problem: str) -> None:
    async def main() -> None:
        async with misbehaving_server(behave) as base_url, serve(engine(base_url)) as address:
            async with call(address) as far_end:
                await far_end.say(CONNECTED, start(), media(noise(0.02)), media(noise(0.02), 2))
                end = await far_end.listen()
            assert end is not None
            assert end[0] == 1011
            assert problem[:100] in end[1]
            assert await metric(address, 'calls_ended_total{framing="twilio",reason="engine"}') == 1

    run(main(), held_clock=True)


def test_no_service_at_all_ends_the_call() -> None:
    async def main() -> None:
        async with serve(engine("http://127.0.0.1:1")) as address, call(address) as far_end:
            await far_end.say(CONNECTED, start())
            end = await far_end.listen()
            assert end is not None
            assert end[0] == 1011
            assert "the service behind failed" in end[1]

    run(main(), held_clock=True)


def test_a_call_goes_through_two_servers() -> None:
    said = noise(1.0)

    async def main() -> None:
        async with (
            loopback_server() as base_url,
            serve(GradiumEngine(GradiumClient(base_url=base_url, api_key=KEY))) as address,
            call(address) as far_end,
        ):
            await far_end.say(CONNECTED, start(target_language="fr"))
            await far_end.speak(said)
            await far_end.hear(0.9)
            await far_end.say(STOP)
            await far_end.listen()
            assert said.startswith(bytes(far_end.heard))

    run(main())


def test_a_call_outlives_the_limit_of_the_service_behind() -> None:
    said = noise(25.0)

    async def main() -> None:
        async with (
            serve(LoopbackEngine(), limits=ServerLimits(max_session_s=10.0)) as behind,
            serve(engine(f"{behind}/api/", ReconnectPolicy(session_s=10.0))) as address,
            call(address) as far_end,
        ):
            await far_end.say(CONNECTED, start())
            async with asyncio.TaskGroup() as tasks:
                await far_end.speak(said[:1600])  # ahead, so that there is always something to be played
                tasks.create_task(far_end.speak(said[1600:], realtime=True))
                await far_end.hear(24.5)
            await far_end.say(STOP)
            assert await far_end.listen() == (1000, "the call is over")
            assert said.startswith(bytes(far_end.heard))
            assert await metric(behind, 'requests_ended_total{kind="interpreting",outcome="completed"}') == 2

    run(main(), held_clock=True, timeout_s=500)


def test_a_request_goes_on_when_connections_to_the_service_behind_break() -> None:
    spoken = speech(30, 3)
    service = Service("s2s", kills=[30, 5, 90])
    answers: list[Answer] = []

    async def inputs() -> AsyncIterator[Input]:
        async for chunk in live(spoken):
            yield Audio(chunk)

    async def say(answer: Answer) -> None:
        answers.append(answer)

    async def main() -> None:
        async with misbehaving_server(service) as base_url:
            await GradiumEngine(GradiumClient(base_url=base_url, api_key=KEY)).listen(START, 8000).run(inputs(), say)

    run(main(), held_clock=True, timeout_s=500)
    assert len(service.legs) == 4
    assert b"".join(answer.audio for answer in answers if isinstance(answer, Audio)) == spoken
