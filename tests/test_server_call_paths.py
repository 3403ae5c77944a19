"""Whole calls on the paths besides Twilio's: each far end says something, and hears the same back with its marks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import connect

from harness import run
from speechwire.codec import ulaw_decode
from speechwire.server import serve
from speechwire.server.engines.loopback import LoopbackEngine
from test_server_calls import metric, noise
from test_telephony_framings import (
    ASTERISK_JSON_START,
    ASTERISK_START,
    PLIVO_START,
    TELNYX_START,
    VONAGE_CONNECTED,
)

SECONDS = 1.0


@dataclass(frozen=True)
class Line:
    """How a far end speaks.

    Args:
        path: Of the server.
        start: Its first message.
        frame_bytes: 20 ms of its audio.
        build: Makes a message of audio and its number.
    """

    path: str
    start: str
    frame_bytes: int
    build: Callable[[bytes, int], str | bytes]


def in_json(**fields: Any) -> Callable[[bytes, int], str]:
    def build(audio: bytes, number: int) -> str:
        counts = {"chunk": str(number), "timestamp": str(20 * number), "payload": base64.b64encode(audio).decode()}
        return json.dumps({"event": "media", "media": {"track": "inbound", **counts}, **fields})

    return build


LINES = {
    "telnyx": Line("telnyx", TELNYX_START.replace("PCMA", "PCMU"), 160, in_json(stream_id="32de0dea")),
    "plivo": Line("plivo", PLIVO_START, 160, in_json(streamId="87654321")),
    "vonage at 16 kHz": Line("vonage", VONAGE_CONNECTED.replace("8000", "16000"), 640, lambda audio, _: audio),
    "chan_websocket in words": Line("chan_websocket", ASTERISK_START, 160, lambda audio, _: audio),
    "chan_websocket in JSON": Line(
        "chan_websocket",
        ASTERISK_JSON_START.replace("slin16", "slin").replace("640", "320"),
        320,
        lambda audio, _: audio,
    ),
}


def read(message: str | bytes) -> tuple[bytes, str | None]:
    """Return the audio of what a far end was told, and how it says that a mark has been played."""
    if isinstance(message, bytes):
        return message, None
    if message.startswith("MARK_MEDIA "):
        return b"", f"MEDIA_MARK_PROCESSED correlation_id:{message.split()[1]}"
    fields = json.loads(message)
    match fields.get("event") or fields.get("action") or fields.get("command"):
        case "media" | "playAudio":
            return base64.b64decode(fields["media"]["payload"], validate=True), None
        case "mark":
            return b"", message
        case "checkpoint":
            return b"", json.dumps({"event": "playedStream", "streamId": fields["streamId"], "name": fields["name"]})
        case "notify":
            return b"", json.dumps({"event": "websocket:notify", "payload": fields["payload"]})
        case "MARK_MEDIA":
            return b"", json.dumps({"event": "MEDIA_MARK_PROCESSED", "correlation_id": fields["correlation_id"]})
    raise AssertionError(message)


@pytest.mark.parametrize("name", LINES)
def test_what_the_caller_says_comes_back_on_every_path(name: str) -> None:
    line = LINES[name]
    codes = noise(SECONDS)
    # Linear PCM at 8 kHz is twice as many bytes; at 16 kHz as much sound again.
    said = codes if line.frame_bytes == 160 else ulaw_decode(codes) * (line.frame_bytes // 320)

    async def main() -> None:
        heard, num_marks = b"", 0
        async with serve(LoopbackEngine()) as address:
            url = f"{address.replace('http', 'ws', 1)}/api/telephony/{line.path}"
            async with connect(url, compression=None, ping_interval=None, open_timeout=None) as websocket:
                await websocket.send(line.start)
                for number, start in enumerate(range(0, len(said), line.frame_bytes), start=1):
                    await websocket.send(line.build(said[start : start + line.frame_bytes], number))
                while len(heard) < len(said) or num_marks < 10:
                    audio, mark = read(await websocket.recv())
                    assert len(audio) in (0, line.frame_bytes)
                    heard += audio
                    if mark is not None:
                        num_marks += 1
                        await websocket.send(mark)
            assert heard == said
            while not await metric(address, f'calls_ended_total{{framing="{line.path}",reason="hung_up"}}'):
                pass

    run(main(), held_clock=True)


@pytest.mark.parametrize(
    ("path", "offered", "agreed"),
    [
        ("telephony/chan_websocket", ["other", "media"], "media"),
        ("telephony/chan_websocket", ["other"], None),
        ("telephony/chan_websocket", None, None),
        ("telephony/vonage", ["media"], None),
        ("speech/s2s", ["media"], None),
    ],
)
def test_only_the_subprotocol_of_asterisk_is_agreed_to(path: str, offered: Any, agreed: str | None) -> None:
    async def main() -> None:
        async with serve(LoopbackEngine()) as address:
            url = f"{address.replace('http', 'ws', 1)}/api/{path}"
            async with connect(url, subprotocols=offered, compression=None, open_timeout=None) as websocket:
                assert websocket.subprotocol == agreed

    run(main())
