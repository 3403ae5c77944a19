"""What the pages under docs claim is what the code says."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import gradium_tables
import script_tables
from harness import loopback_server

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
