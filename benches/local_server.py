"""A loopback server in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def loopback_server(*options: str) -> Iterator[tuple[str, int]]:
    """Run `speechwire serve`; yields the base URL and the process id. What it logs is shown if it fails."""
    command = [sys.executable, "-m", "speechwire.cli", "serve", "--engine", "loopback", "--port", "0", *options]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"expected the server to listen, got {line!r}")
            yield f"{line.split()[-1]}/api/", process.pid
        finally:
            process.terminate()
            if process.wait():
                log.seek(0)
                sys.stderr.write(log.read())


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
