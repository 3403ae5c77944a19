"""What the pages under docs claim is what the code says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import textwrap
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

import gradium_tables
import script_tables
from harness import loopback_server
from speechwire.codec import ulaw_encode
from test_telephony_framings import TWILIO_START

DOCS = Path(__file__).parent.parent / "docs"


def test_tables_are_those_of_the_code() -> None:
    page = (DOCS / "gradium.md").read_text()
    assert gradium_tables.fill(page) == page, "run make docs"


def test_reference_and_schema_of_scenarios_are_those_of_the_code() -> None:
    page = script_tables.PAGE.read_text()
    assert gradium_tables.fill(page, script_tables.SECTIONS) == page, "run make docs"
    assert script_tables.SCHEMA.read_text() == script_tables.schema_file(), "run make docs"


def test_links_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (DOCS / link).exists(), f"{page.name}: {link}"


def test_a_stage_of_ones_own_translates() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "local.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=DOCS.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "I WANT TO BUY A TICKET FOR TOMORROW." in done.stdout


PYTHON = re.findall(r"```python\n(.*?)```", (DOCS / "gradium.md").read_text(), re.DOTALL)


def test_python_blocks_of_the_gradium_page_run() -> None:
    # They await, and go on with what the one before has made.
    body = "".join(PYTHON).replace('api_key="your-key"', 'base_url=sys.argv[1], api_key="k"')
    code = f"import asyncio, sys\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())"

    async def main() -> tuple[int | None, str, str]:
        async with loopback_server() as base_url:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", "-c", code, base_url,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, errors = await process.communicate()
            return process.returncode, output.decode(), errors.decode()

    status, output, errors = asyncio.run(main())
    assert status == 0, errors
    assert "segment" in output


def test_call_of_the_telephony_page_says_back_what_it_hears() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "telephony.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    frame = b64encode(ulaw_encode(bytes(range(160)) * 2)).decode()

    async def main() -> list[bytes]:
        heard: list[bytes] = []
        async with serve(names["answer_call"], "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}") as caller:
                await caller.send(TWILIO_START)
                for chunk in range(1, 26):
                    media = {"track": "inbound", "chunk": str(chunk), "timestamp": str(20 * chunk), "payload": frame}
                    await caller.send(json.dumps({"event": "media", "media": media}))
                while len(heard) < 20:
                    message = json.loads(await caller.recv())
                    if message["event"] == "media":
                        heard.append(b64decode(message["media"]["payload"]))
        return heard

    heard = asyncio.run(main())
    assert {len(codes) for codes in heard} == {160}
    assert len(set(b"".join(heard))) > 10
