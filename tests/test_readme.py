"""What the README claims is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from test_cli import SAMPLE, serving, speechwire

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_readme_is_no_manual() -> None:
    assert len(README.splitlines()) < 150


def test_transcript_is_what_the_demo_prints(tmp_path: Path) -> None:
    done = speechwire("translate", SAMPLE, "-o", tmp_path / "translated.wav", "--to", "es")
    shown = CONSOLE[0].splitlines()
    assert shown[0] == "$ make demo"
    assert done.stderr.splitlines() + done.stdout.splitlines()[:-1] == shown[1:-1]
    # The last line ends with how long it took.
    assert done.stdout.splitlines()[-1].split(" in ")[0].endswith(shown[-1].split(" in ")[0].removeprefix("translated"))


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run(number: int) -> None:
    with serving("--engine", "loopback") as (address, _):
        code = PYTHON[number].replace("http://127.0.0.1:8000", address)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 0, done.stderr
    if "gradium" in code:
        assert "segment 1" in done.stdout


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
