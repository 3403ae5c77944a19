"""The page for browsers in a real one: a token instead of a key, a microphone, text and sound in return."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from harness import loopback_server, run
from speechwire.codec import WavWriter
from test_server import speech_like

PAGE = Path(__file__).parent.parent / "examples" / "browser.html"
PROGRAM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), "")
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses its sandbox to root, which continuous integration is
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)

pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium; `make test-programs` installs it")


class Page:
    """A page in the browser, over the DevTools protocol."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._ids = count(1)
        self._session: dict[str, str] = {}

    async def open(self, address: str) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        await self._call("Page.enable")
        await self._call("Page.navigate", url=address)
        while (await self._recv()).get("method") != "Page.loadEventFired":
            pass

    async def fill(self, element: str, value: str) -> None:
        await self._evaluate(f"document.getElementById({element!r}).value = {value!r}")

    async def click(self, element: str) -> None:
        await self._evaluate(f"document.getElementById({element!r}).click()")

    async def read(self, element: str) -> str:
        text: str = await self._evaluate(f"document.getElementById({element!r}).textContent")
        return text

    async def wait_for(self, element: str, pattern: str) -> str:
        """Wait until the text of an element matches, and return it."""
        text: str = await self._evaluate(f"""
            new Promise((resolve) => {{
              const element = document.getElementById({element!r});
              const look = () => /{pattern}/.test(element.textContent) && resolve(element.textContent);
              new MutationObserver(look).observe(element, {{ subtree: true, childList: true, characterData: true }});
              look();
            }})""")
        return text

    async def _evaluate(self, expression: str) -> Any:
        answer = await self._call("Runtime.evaluate", expression=expression, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters} | self._session))
        while (answer := await self._recv()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def _recv(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._devtools.recv())
        return message


@asynccontextmanager
async def browser(profile: Path, microphone: Path, address: str) -> AsyncIterator[Page]:
    """Start the browser with a recording for a microphone, and open a page."""
    flags = [*FLAGS, f"--user-data-dir={profile}", f"--use-file-for-fake-audio-capture={microphone}"]
    # Debian's program is a shell script around the browser, so the two get a process group of their own.
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *flags, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stderr is not None
        found = None
        while found is None:
            line = (await process.stderr.readline()).decode()
            assert line, "the browser has ended"
            found = re.search(r"DevTools listening on (ws://\S+)", line)
        async with connect(found[1], max_size=None, proxy=None) as devtools:
            page = Page(devtools)
            await page.open(address)
            yield page
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def token(base_url: str, api_key: str) -> str:
    """Fetch a token as the server behind the page does."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(base_url + "api-keys/token", headers={"x-api-key": api_key})
        value: str = answer.raise_for_status().json()["token"]
        return value


def test_page_translates_the_microphone_with_a_token_of_one_use(tmp_path: Path) -> None:
    microphone = tmp_path / "microphone.wav"
    pcm = np.concatenate([speech_like(48000, 0.5), np.zeros(48000, np.int16)]).tobytes()
    writer = WavWriter(48000, data_bytes=len(pcm))
    microphone.write_bytes(writer.feed(pcm))

    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            async with browser(tmp_path / "profile", microphone, PAGE.as_uri()) as page:
                assert await page.read("state") == "not connected"
                await page.fill("server", base_url.replace("http", "ws", 1) + "speech/s2s")
                await page.fill("token", await token(base_url, "secret"))
                await page.click("start")
                assert await page.wait_for("state", "listening|closed|Error") == "listening"
                assert "segment 1" in await page.wait_for("text", "segment")
                await page.click("stop")
                assert await page.wait_for("state", "closed") == "closed with 1000"
                assert float(await page.read("heard")) > 0.0

                await page.click("start")
                refused = await page.wait_for("state", "closed with (?!1000)")
                assert refused == "closed with 1008 API key is revoked or expired"

                await page.fill("token", await token(base_url, "secret"))
                await page.click("start")
                assert await page.wait_for("state", "listening|closed with (?!1008)") == "listening"

    run(main())
