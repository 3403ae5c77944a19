"""What clients that are not ours rely on: the types of the official Rust client, the habits of LiveKit and gradbot."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from harness import loopback_server, run
from speechwire.codec import WavReader, WavWriter
from speechwire.server import ServerLimits, serve
from speechwire.server.engines import Engine
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.loopback import LoopbackEngine
from test_server import speech_like

Message = dict[str, Any]


def is_string(value: object) -> bool:
    return isinstance(value, str)


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    return is_integer(value) and 0 <= value < 2**32  # type: ignore[operator]


def is_number(value: object) -> bool:
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def are_strings(value: object) -> bool:
    return isinstance(value, list) and all(map(is_string, value))


def are_predictions(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and is_number(entry.get("horizon_s")) and is_number(entry.get("inactivity_prob"))
        for entry in value
    )


# What the official Rust client refuses to do without, and of which JSON type it has to be. It knows no other messages,
# and no speech-to-speech: for that the rules of synthesis are taken.
READY = {
    "model_name": is_string,
    "sample_rate": is_count,
    "frame_size": is_count,
    "text_stream_names": are_strings,
    "request_id": is_string,
}
SPAN = {"start_s": is_number, "stop_s": is_number, "stream_id": is_count}
COMMON: dict[str, dict[str, Callable[[object], bool]]] = {
    "error": {"code": is_integer, "message": is_string},
    "end_of_stream": {},
}
SPOKEN = COMMON | {
    "ready": READY | {"audio_stream_names": are_strings},
    "audio": SPAN | {"audio": is_string},
    "text": SPAN | {"text": is_string},
}
RULES = {
    "tts": SPOKEN,
    "s2s": SPOKEN,
    "asr": COMMON
    | {
        "ready": READY | {"delay_in_frames": is_number},
        "step": {
            "step_idx": is_count,
            "step_duration_s": is_number,
            "total_duration_s": is_number,
            "vad": are_predictions,
        },
        "text": {"text": is_string, "start_s": is_number, "stream_id": is_count},
        "end_text": {"stop_s": is_number, "stream_id": is_count},
    },
}


def check(route: str, message: Message) -> None:
    rules = RULES[route].get(message["type"])
    assert rules is not None, f"unknown to the Rust client: {message}"
    for name, is_right in rules.items():
        assert is_right(message.get(name)), f"{name} in {message}"


def audio(pcm: bytes, **fields: str) -> Message:
    return {"type": "audio", "audio": base64.b64encode(pcm).decode()} | fields


def named(name: str, messages: list[Message]) -> list[Message]:
    return [message | {"client_req_id": name} for message in messages]


SPEECH = Path(__file__).parent.parent / "examples" / "train_station.wav"
PCM = np.concatenate([speech_like(24000, 0.5), np.zeros(24000 * 3, np.int16)]).tobytes()
END: Message = {"type": "end_of_stream"}
SETUP: dict[str, Message] = {
    "tts": {"type": "setup", "output_format": "pcm", "voice": None, "voice_id": "YTpq7expH9539ERJ"},
    "asr": {"type": "setup", "input_format": "pcm"},
    "s2s": {"type": "setup", "input_format": "pcm", "json_config": {"target_language": "es"}},
}
INPUT: dict[str, list[Message]] = {
    "tts": [{"type": "text", "text": "Gate twelve is open. <flush>"}, {"type": "text", "text": "Please come."}],
    "asr": [audio(PCM)],
    "s2s": [audio(PCM)],
}
ROUTES = ("tts", "asr", "s2s")
EXPECTED = {
    "tts": {"ready", "text", "audio", "end_of_stream"},
    "asr": {"ready", "step", "text", "end_text", "end_of_stream"},
    "s2s": {"ready", "text", "audio", "end_of_stream"},
}


def url(base_url: str, route: str) -> str:
    return f"{base_url.replace('http', 'ws', 1)}speech/{route}"


async def exchange(base_url: str, route: str, messages: list[Message]) -> list[Message]:
    """Send everything and return the answers up to the close, as a client that takes frames of 1 MiB at most."""
    async with connect(url(base_url, route)) as websocket:

        async def send() -> None:
            with suppress(ConnectionClosed):  # the answers say why
                for message in messages:
                    await websocket.send(json.dumps(message))

        sending = asyncio.create_task(send())
        answers: list[Message] = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                data = await websocket.recv()
                assert isinstance(data, str), "a binary frame"
                answers.append(json.loads(data))
        await sending
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == (answers[-1]["code"] if answers[-1]["type"] == "error" else 1000)
    return answers


@pytest.mark.parametrize("engine", [LoopbackEngine, LocalEngine])
@pytest.mark.parametrize("route", ROUTES)
def test_every_message_has_what_the_rust_client_requires(route: str, engine: type[Engine]) -> None:
    speech = [audio(PCM)] if engine is LoopbackEngine else [audio(WavReader().feed(SPEECH.read_bytes()))]

    async def main() -> list[Message]:
        async with serve(engine()) as address:
            return await exchange(
                f"{address}/api/", route, [SETUP[route], *(INPUT["tts"] if route == "tts" else speech), END]
            )

    answers = run(main())
    for answer in answers:
        check(route, answer)
    assert {answer["type"] for answer in answers} == EXPECTED[route]


@pytest.mark.parametrize("output_format", ["wav", "opus", "ulaw_8000", "pcm_22050"])
@pytest.mark.parametrize("route", ["tts", "s2s"])
def test_every_format_has_the_same_messages(route: str, output_format: str) -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            setup = SETUP[route] | {"output_format": output_format}
            return await exchange(base_url, route, [setup, *INPUT[route], END])

    answers = run(main())
    for answer in answers:
        check(route, answer)
    assert {answer["type"] for answer in answers} == EXPECTED[route]


@pytest.mark.parametrize("route", ROUTES)
def test_every_message_of_a_named_request_has_its_name(route: str) -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            setup = SETUP[route] | {"close_ws_on_eos": False}
            requests = [named(name, [setup, *INPUT[route], END]) for name in ("a", "b")]
            interleaved = [message for pair in zip(*requests, strict=True) for message in pair]
            return await exchange(base_url, route, [*interleaved, END])

    answers = run(main())
    for answer in answers:
        check(route, answer)
    for name in ("a", "b"):
        own = [answer["type"] for answer in answers if answer["client_req_id"] == name]
        assert (own[0], own[-1]) == ("ready", "end_of_stream")
        assert set(own) == EXPECTED[route]


BAD: list[Message] = [
    {"type": "setup", "input_format": "mp3", "output_format": "mp3"},
    {"type": "setup", "json_config": "{"},
    {"type": "setup", "json_config": {"language": "xx"}},
    {"type": "end_of_stream"},
    {"type": "applause"},
]


@pytest.mark.parametrize("route", ROUTES)
def test_every_error_has_what_the_rust_client_requires_and_is_followed_by_the_close(route: str) -> None:
    async def main() -> list[list[Message]]:
        async with loopback_server() as base_url:
            return [await exchange(base_url, route, [message]) for message in BAD]

    for (error,) in run(main()):
        assert error["type"] == "error"
        check(route, error)


@pytest.mark.parametrize("route", ROUTES)
def test_error_of_a_named_request_has_its_name_and_leaves_the_others_alone(route: str) -> None:
    setup = SETUP[route] | {"close_ws_on_eos": False}
    bad = setup | {"input_format": "mp3", "output_format": "mp3"}

    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            requests = [*named("a", [setup]), *named("b", [bad]), *named("a", [*INPUT[route], END])]
            return await exchange(base_url, route, requests)

    answers = run(main())
    for answer in answers:
        check(route, answer)
    assert [answer["client_req_id"] for answer in answers if answer["type"] == "error"] == ["b"]
    own = [answer["type"] for answer in answers if answer["client_req_id"] == "a"]
    assert (own[0], own[-1]) == ("ready", "end_of_stream")
    assert set(own) == EXPECTED[route]


@pytest.mark.parametrize("flush_id", [1, "1"])
def test_flushed_comes_only_for_a_flush_and_with_its_id_as_it_was(flush_id: object) -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            flush = {"type": "flush", "flush_id": flush_id}
            return await exchange(base_url, "asr", [SETUP["asr"], *INPUT["asr"], flush, END])

    flushed = [answer for answer in run(main()) if answer["type"] == "flushed"]
    assert flushed == [{"type": "flushed", "flush_id": flush_id}]


def test_ready_of_recognition_tells_its_delay_under_both_names() -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            setup = SETUP["asr"] | {"json_config": {"delay_in_frames": 16}}
            return await exchange(base_url, "asr", [setup, END])

    ready = run(main())[0]
    assert ready["delay_in_frames"] == ready["delay_in_tokens"] == 16
    assert (ready["sample_rate"], ready["frame_size"]) == (24000, 1920)


def final_transcripts(answers: list[Message]) -> list[str]:
    """Cut the texts into turns as LiveKit's plugin does: by the third probability, and the older name of the delay."""
    delay, left, texts, turns = answers[0]["delay_in_tokens"], None, [], []
    for answer in answers:
        if answer["type"] == "text":
            texts.append(answer["text"])
        elif answer["type"] == "step" and texts:
            if answer["vad"][2]["inactivity_prob"] <= 0.9:
                left = None
            elif left is None:
                left = delay
            else:
                left -= 1
                if left == 0:
                    turns.append(" ".join(texts))
                    texts, left = [], None
    return turns


def test_third_probability_ends_every_turn_once() -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            return await exchange(base_url, "asr", [SETUP["asr"], audio(PCM), audio(PCM), END])

    answers = run(main())
    assert {len(answer["vad"]) for answer in answers if answer["type"] == "step"} == {4}
    assert final_transcripts(answers) == ["segment 1", "segment 2"]


@pytest.mark.parametrize("route", ROUTES)
def test_client_that_just_closes_leaves_its_place_to_the_next(route: str) -> None:
    async def main() -> Message:
        async with serve(LoopbackEngine(), limits=ServerLimits(max_requests=1)) as address:
            base_url = f"{address}/api/"
            # Without a bound of its own this client notices the server's close although it reads no answers.
            async with connect(url(base_url, route), max_queue=None) as websocket:
                for message in (SETUP[route], *INPUT[route]):
                    await websocket.send(json.dumps(message))
                assert json.loads(await websocket.recv())["type"] == "ready"
            answers = await exchange(base_url, route, [SETUP[route] | {"retry_for_s": 20}, END])
            return answers[0]

    assert run(main())["type"] == "ready"


def test_words_may_come_one_by_one_with_spaces_behind() -> None:
    words = ["Gate", "twelve", "is", "open,", "please", "come", "soon."]

    async def main() -> tuple[list[Message], list[Message]]:
        async with loopback_server() as base_url:
            single = [{"type": "text", "text": f"{word} "} for word in words]
            whole = [{"type": "text", "text": " ".join(words)}]
            return (
                await exchange(base_url, "tts", [SETUP["tts"], *single, END]),
                await exchange(base_url, "tts", [SETUP["tts"], *whole, END]),
            )

    single, whole = run(main())
    assert single[1:] == whole[1:]
    assert [answer["text"] for answer in whole if answer["type"] == "text"] == words


def test_synthesis_is_48_khz_in_frames_of_80_ms() -> None:
    async def main() -> list[Message]:
        async with loopback_server() as base_url:
            return await exchange(base_url, "tts", [SETUP["tts"], *INPUT["tts"], END])

    ready, *answers = run(main())
    chunks = [answer for answer in answers if answer["type"] == "audio"]
    assert (ready["sample_rate"], ready["frame_size"]) == (48000, 3840)
    assert {len(base64.b64decode(chunk["audio"])) for chunk in chunks} == {7680}
    assert [chunk["start_s"] for chunk in chunks] == pytest.approx([0.08 * n for n in range(len(chunks))])
    assert [chunk["stop_s"] for chunk in chunks] == pytest.approx([0.08 * (n + 1) for n in range(len(chunks))])


def test_whole_file_in_one_message_comes_back_in_small_ones() -> None:
    second = np.concatenate([speech_like(48000, 0.5), np.zeros(24000, np.int16)])
    pcm = np.tile(second, 30).tobytes()
    file = WavWriter(48000, data_bytes=len(pcm)).feed(pcm)

    async def main() -> tuple[list[Message], list[Message]]:
        async with loopback_server() as base_url:
            wav = {"type": "setup"}  # WAV in and out is the default
            return (
                await exchange(base_url, "s2s", [wav, audio(file), END]),
                await exchange(base_url, "asr", [wav, audio(file), END]),
            )

    interpreted, recognised = run(main())
    returned = b"".join(base64.b64decode(answer["audio"]) for answer in interpreted if answer["type"] == "audio")
    assert WavReader().feed(returned) == pcm
    assert max(len(json.dumps(answer)) for answer in interpreted) < 16 * 1024
    texts = [answer["text"] for answer in recognised if answer["type"] == "text"]
    assert texts == [f"segment {number}" for number in range(1, 31)]
    assert texts == [answer["text"] for answer in interpreted if answer["type"] == "text"]
    steps = [answer for answer in recognised if answer["type"] == "step"]
    assert [step["step_idx"] for step in steps] == list(range(30 * 1000 // 80))
    assert steps[-1]["total_duration_s"] == pytest.approx(30.0)


async def one_write(address: str, messages: list[Message]) -> list[Message]:
    """Connect, hand all messages to the socket in one piece, and return the answers."""
    uri = parse_uri(address)
    protocol = ClientProtocol(uri, max_size=None)
    reader, writer = await asyncio.open_connection(uri.host, uri.port)
    try:
        protocol.send_request(protocol.connect())
        writer.write(b"".join(protocol.data_to_send()))
        while not protocol.events_received():
            protocol.receive_data(await reader.read(65536))
        for message in messages:
            protocol.send_text(json.dumps(message).encode())
        frames = b"".join(protocol.data_to_send())
        assert len(frames) < 60_000  # what fits one segment on loopback
        writer.write(frames)
        answers = []
        while data := await reader.read(65536):
            protocol.receive_data(data)
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode is Opcode.TEXT:
                    answers.append(json.loads(bytes(event.data)))
            writer.write(b"".join(protocol.data_to_send()))
        return answers
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("route", ROUTES)
def test_setup_input_and_end_may_come_in_one_segment(route: str) -> None:
    short: dict[str, list[Message]] = {"tts": INPUT["tts"], "asr": [audio(PCM[:30_000])], "s2s": [audio(PCM[:30_000])]}

    async def main() -> tuple[list[Message], list[Message]]:
        async with loopback_server() as base_url:
            messages = [SETUP[route], *short[route], END]
            return await one_write(url(base_url, route), messages), await exchange(base_url, route, messages)

    at_once, one_by_one = run(main())
    assert at_once[0]["type"] == "ready"
    assert at_once[1:] == one_by_one[1:]
    assert {answer["type"] for answer in at_once} == EXPECTED[route]
