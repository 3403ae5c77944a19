"""The S2S guide's handshake from a terminal: `wscat` as it is published, with a person's typing, against our server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pty
import re
import shutil
import subprocess
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import loopback_server, run
from speechwire.codec import Resampler
from test_server import speech_like

VERSION = "6.1.0"
CACHE = Path(__file__).parent.parent / "target" / f"wscat-{VERSION}"
# As the guide has it.
SETUP = (
    '{"type":"setup","model_name":"default","input_format":"pcm","output_format":"pcm",'
    '"voice_id":"YTpq7expH9539ERJ","json_config":{"target_language":"en"}}'
)
FRAME_BYTES = 3840

pytestmark = [
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which fetches wscat, is not installed"),
    pytest.mark.timeout(600),  # what fetches it too
]


class Terminal:
    """A program at a terminal: what it shows, and the keyboard."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""
        self._changed = asyncio.Event()
        self._is_over = False
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux's way to say that the program has left its terminal
            data = b""
        # Without what colours the text and moves the cursor; a sequence that is cut waits for its rest.
        self._shown = re.sub(r"\x1b\[\d*[A-Za-z]", "", self._shown + data.decode())
        if not data:
            self._is_over = True
            self.close()
        self._changed.set()

    async def shows(self, pattern: str) -> re.Match[str]:
        """Wait for a line that is a prompt and what matches, and forget what came before its end."""
        # A carriage return begins a line too: wscat wipes what is half typed away, and writes over it.
        while (found := re.search(rf"(?:^|[\r\n])(?:> )*{pattern}[\r\n]", self._shown)) is None:
            assert not self._is_over, f"expected {pattern!r}, got {self._shown[-500:]!r}"
            self._changed.clear()
            await self._changed.wait()
        self._shown = self._shown[found.end() :]
        return found

    async def message(self) -> dict[str, Any]:
        """Wait for the next message from the server."""
        message: dict[str, Any] = json.loads((await self.shows("< (.*?)"))[1])
        return message

    async def type(self, line: str) -> None:
        """Type a line and Enter, no faster than the program reads."""
        keys = line.encode() + b"\n"
        while keys:
            keys = keys[await asyncio.to_thread(os.write, self._descriptor, keys) :]

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)


@pytest.fixture(scope="module")
def wscat() -> Path:
    program = CACHE / "node_modules" / ".bin" / "wscat"
    if not program.exists():
        arguments = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(CACHE), f"wscat@{VERSION}"]
        # The registry may fail to answer once or twice.
        patience = ["--fetch-retries=5", "--fetch-timeout=30000"]
        subprocess.run(["npm", "install", *patience, *arguments], check=True, timeout=500)
    return program


@asynccontextmanager
async def at_a_terminal(program: Path, *arguments: str) -> AsyncIterator[Terminal]:
    """Run a program at a terminal that does not echo; it has to end by itself."""
    ours, theirs = pty.openpty()
    try:
        settings = termios.tcgetattr(theirs)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, settings)
        environment = os.environ | {"TERM": "dumb"}
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
    finally:
        os.close(theirs)
    terminal = Terminal(ours)
    try:
        yield terminal
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()
        os.close(ours)


def test_handshake_typed_into_wscat(wscat: Path) -> None:
    pcm = speech_like(24000, 0.4).tobytes()

    async def main() -> bytes:
        async with loopback_server(api_keys=["your_api_key"]) as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with at_a_terminal(wscat, "-c", url, "-H", "x-api-key: your_api_key") as terminal:
                await terminal.shows(r"Connected \(press CTRL\+C to quit\)")
                await terminal.type(SETUP)
                ready = await terminal.message()
                assert ready["type"] == "ready"
                assert (ready["model_name"], ready["sample_rate"], ready["frame_size"]) == ("default", 48000, 3840)
                for start in range(0, len(pcm), FRAME_BYTES):
                    audio = base64.b64encode(pcm[start : start + FRAME_BYTES]).decode()
                    await terminal.type(json.dumps({"type": "audio", "audio": audio}))
                await terminal.type('{"type":"end_of_stream"}')
                received = []
                while (message := await terminal.message())["type"] != "end_of_stream":
                    if message["type"] == "audio":
                        received.append(base64.b64decode(message["audio"]))
                await terminal.shows(r'Disconnected \(code: 1000, reason: ""\)')
        return b"".join(received)

    resampler = Resampler(24000, 48000)
    expected = resampler.feed(pcm) + resampler.flush()
    assert np.array_equal(np.frombuffer(run(main()), np.int16), np.frombuffer(expected, np.int16))


def test_wscat_shows_why_a_key_is_refused(wscat: Path) -> None:
    async def main() -> dict[str, Any]:
        async with loopback_server(api_keys=["your_api_key"]) as base_url:
            url = base_url.replace("http", "ws", 1) + "speech/s2s"
            async with at_a_terminal(wscat, "-c", url, "-H", "x-api-key: another") as terminal:
                await terminal.shows(r"Connected \(press CTRL\+C to quit\)")
                await terminal.type(SETUP)
                error = await terminal.message()
                await terminal.shows(r'Disconnected \(code: 1008, reason: "API key is revoked or expired"\)')
                return error

    assert run(main()) == {"type": "error", "message": "API key is revoked or expired", "code": 1008}
