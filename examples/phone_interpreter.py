"""Interpret telephone calls: Twilio asks one route what to do with a call, and streams its audio to another.

python examples/phone_interpreter.py --simulate examples/train_station.wav -o heard.wav
python examples/phone_interpreter.py --public-host calls.example.com --port 8000

The first needs no telephone: a simulated caller says what is in the file, and what he hears is written to another. The
second is to be reached from outside as https://calls.example.com, and the number's webhook "a call comes in" to be set
to https://calls.example.com/voice. Speech is interpreted on this machine, or by the service if GRADIUM_API_KEY is set.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
import time
from pathlib import Path
from xml.etree import ElementTree

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.client import ClientConnection, connect

from speechwire.codec import Transcoder, WavWriter, ulaw_decode
from speechwire.gradium import GradiumClient, Limits
from speechwire.server import create_app
from speechwire.server.engines import Engine
from speechwire.server.engines.gradium import GradiumEngine
from speechwire.server.engines.local import LocalEngine

FRAME_S = 0.02
QUIET_S = 4.0  # what a simulated caller waits for after the last that he heard
SILENCE = b"\xff" * 160


def interpreter() -> Engine:
    """Return what interprets."""
    if os.environ.get("GRADIUM_API_KEY"):
        # A speaker may pause for as long as he likes.
        return GradiumEngine(GradiumClient(limits=Limits(idle_s=None)))
    return LocalEngine()


def build_app(public_url: str, language: str, target_language: str) -> Starlette:
    """Return the whole application: the server, and the route that sends calls to its media stream."""
    # Only who was sent by the route below may open a media stream.
    key = secrets.token_urlsafe()
    app = create_app(interpreter(), api_keys=[key])

    async def answer_call(_: Request) -> Response:
        # A program that is open to the world checks here that Twilio has signed the request (X-Twilio-Signature).
        response = ElementTree.Element("Response")
        stream = ElementTree.SubElement(ElementTree.SubElement(response, "Connect"), "Stream")
        stream.set("url", f"{public_url.replace('http', 'ws', 1)}/api/telephony/twilio")
        wanted = {"key": key, "language": language, "target_language": target_language}
        for name, value in wanted.items():
            ElementTree.SubElement(stream, "Parameter", name=name, value=value)
        return Response(ElementTree.tostring(response, "utf-8", xml_declaration=True), media_type="text/xml")

    app.router.routes.insert(0, Route("/voice", answer_call, methods=["GET", "POST"]))
    return app


def configure(app: Starlette, host: str, port: int) -> uvicorn.Config:
    """Return how to serve it; at INFO the addresses would be logged, and keys may stand in them."""
    return uvicorn.Config(
        app, host=host, port=port, ws="websockets-sansio", ws_per_message_deflate=False, log_level="warning"
    )


class Caller:
    """What Twilio does for a caller."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self._begin_s = 0.0
        self._last_heard_s = 0.0

    async def speak(self, websocket: ClientConnection, frames: list[bytes], parameters: dict[str, str]) -> None:
        """Say all frames, be silent while there is something to hear, and hang up."""
        self._begin_s = time.monotonic()
        await websocket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        start = {"streamSid": "MZ1", "callSid": "CA1", "customParameters": parameters}
        await websocket.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": start}))
        number = 0
        quiet_since_s = self._begin_s + len(frames) * FRAME_S
        while time.monotonic() < max(self._last_heard_s, quiet_since_s) + QUIET_S:
            payload = base64.b64encode(frames[number] if number < len(frames) else SILENCE).decode()
            media = {"chunk": str(number + 1), "timestamp": str(20 * number), "payload": payload}
            await websocket.send(json.dumps({"event": "media", "streamSid": "MZ1", "media": media}))
            number += 1
            await asyncio.sleep(self._begin_s + number * FRAME_S - time.monotonic())
        await websocket.send(json.dumps({"event": "stop", "streamSid": "MZ1"}))

    async def hear(self, websocket: ClientConnection) -> None:
        """Play what comes, one frame behind the other, until the call is over."""
        async for text in websocket:
            message = json.loads(text)
            if message["event"] == "media":
                self._last_heard_s = time.monotonic()
                silent_frames = int((self._last_heard_s - self._begin_s) / FRAME_S) - len(self.heard) // 160
                self.heard += max(0, silent_frames) * SILENCE + base64.b64decode(message["media"]["payload"])
            elif message["event"] == "mark":
                await websocket.send(json.dumps(message))


async def simulate(app: Starlette, port: int, frames: list[bytes]) -> bytes:
    """Make one call from inside of this program; returns what the caller hears."""
    caller = Caller()
    server = uvicorn.Server(configure(app, "127.0.0.1", port))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"http://127.0.0.1:{port}/voice")
        stream = ElementTree.fromstring(answer.text).find("Connect/Stream")  # noqa: S314 - it is our own
        assert stream is not None
        parameters = {item.get("name", ""): item.get("value", "") for item in stream}
        async with connect(stream.get("url", ""), compression=None) as websocket, asyncio.TaskGroup() as call:
            call.create_task(caller.hear(websocket))
            call.create_task(caller.speak(websocket, frames, parameters))
        server.should_exit = True
    return ulaw_decode(caller.heard)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", type=Path, metavar="FILE.wav")
    parser.add_argument("-o", "--output", type=Path, default=Path("heard.wav"))
    parser.add_argument("--public-host", default="127.0.0.1:8000")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--from", dest="language", default="en")
    parser.add_argument("--to", dest="target_language", default="es")
    arguments = parser.parse_args()
    if arguments.simulate is not None:
        app = build_app(f"http://127.0.0.1:{arguments.port}", arguments.language, arguments.target_language)
        transcoder = Transcoder("wav", "ulaw_8000", frame_ms=20)
        frames = [*transcoder.feed(arguments.simulate.read_bytes()), *transcoder.flush()]
        pcm = asyncio.run(simulate(app, arguments.port, frames))
        arguments.output.write_bytes(WavWriter(8000, data_bytes=len(pcm)).header + pcm)
        print(f"{arguments.output}: {len(frames) * FRAME_S:.2f} s said, {len(pcm) / 16000:.2f} s heard")
    else:
        app = build_app(f"https://{arguments.public_host}", arguments.language, arguments.target_language)
        uvicorn.Server(configure(app, arguments.host, arguments.port)).run()


if __name__ == "__main__":
    main()
