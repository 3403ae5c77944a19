"""A loopback server in a process of its own, and what a row of every bench needs to say about the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechwire.codec import build_info


@contextmanager
def loopback_server() -> Iterator[tuple[str, int]]:
    """Run `speechwire serve`; yields the base URL and the process id."""
    command = [sys.executable, "-m", "speechwire.cli", "serve", "--engine", "loopback", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"expected the server to listen, got {line!r}")
            yield f"{line.split()[-1]}/api/", process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def describe_machine() -> str:
    """Return one line on the machine and the build; refuses a debug build, whose times mean nothing."""
    build = build_info()
    if build["profile"] != "release":
        raise SystemExit("this is a debug build; build with --release")
    features = " ".join(str(feature) for feature in build["cpu_features"])
    return f"{platform.machine()}, {os.cpu_count()} CPUs ({features}), Python {platform.python_version()}"
