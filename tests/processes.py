"""Which processes a test has left behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["MARK", "Processes"]

MARK = "SPEECHWIRE_TEST_PROCESS"


class Processes:
    """The processes started since: found by a mark in their environment, whoever their parent is by now."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._children_before = self._find_children()

    def find(self) -> list[str]:
        """Return their command lines."""
        return [*self._find().values()]

    def kill(self, name: str) -> int:
        """Kill those whose command line has this name in it; returns how many.

        Programs of one pipeline end with the first of them that is killed: the others may be gone by themselves.
        """
        killed = 0
        for pid, command in self._find().items():
            if name in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        return killed

    def _find(self) -> dict[int, str]:
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_marked = f"\0{self._mark}\0".encode() in b"\0" + (path / "environ").read_bytes()
                if is_marked and int(path.name) != os.getpid():
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def assert_none_left(self) -> None:
        assert self._find_children() - self._children_before == set()
        # Grandchildren were killed with their group; the kernel may need a moment to be done with them.
        deadline = time.monotonic() + 5
        while (left := self.find()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []

    @staticmethod
    def _find_children() -> set[str]:
        """Includes zombies, whose environment can no longer be read."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.add(path.parent.name)
        return found
