"""Processes of our own for libraries that hold Python's lock or are not safe with threads, and messages to them.

A message is one byte that says its kind, its length, and its bytes. A worker ends when its input does, so none outlives
the server, however that ends. It runs behind the server in the operating system's eyes, so that the audio of all
sessions leaves in time while some of them are at work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

from speechwire.server.engines import EngineError
from speechwire.server.engines.together import finish

__all__ = ["FAILURE", "Worker", "read_messages", "write_message"]

FAILURE = b"!"  # from a worker: what went wrong, as text

_HEAD = struct.Struct("<cI")
_NICENESS = 5


class Worker:
    """The server's end of one process. Use it from one task at a time in each direction."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._reading = asyncio.Lock()
        self._head: bytes | None = None  # of a message whose rest has not come yet

    @classmethod
    async def start(cls, module: str) -> Worker:
        """Start a process that runs a module as a program, found where this process would find it.

        Raises:
            EngineError: It cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                # Without it the working directory would come first, whatever modules are in there.
                "-P",
                "-m",
                module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # An interrupt at the terminal is for the server, which then stops its workers.
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )
        except OSError as error:
            raise EngineError(f"process of {module} cannot be started: {error.strerror or error}") from error
        # From here and not in the process, so that it does not load its models in the way of the sessions either.
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
        return cls(module.rpartition(".")[2], process)

    @property
    def has_ended(self) -> bool:
        """True once the process is gone; it serves nobody any more."""
        return self._process.returncode is not None

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a message, waiting until there is room for it.

        Raises:
            EngineError: The process has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(_HEAD.pack(kind, len(payload)) + payload)
        try:
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise await self._lost() from error

    async def receive(self) -> tuple[bytes, bytes]:
        """Return the kind and the payload of the next message. Cancelling loses nothing.

        Raises:
            EngineError: The process has ended, or says what went wrong.
        """
        assert self._process.stdout is not None
        try:
            async with self._reading:
                if self._head is None:
                    self._head = await self._process.stdout.readexactly(_HEAD.size)
                kind, length = _HEAD.unpack(self._head)
                payload = await self._process.stdout.readexactly(length)
                self._head = None
        except asyncio.IncompleteReadError as error:
            raise await self._lost() from error
        if kind == FAILURE:
            raise EngineError(payload.decode())
        return kind, payload

    async def stop(self) -> None:
        """End the process at once; returns when it is gone, also if the caller is cancelled meanwhile."""
        if self._process.returncode is None:
            # Not with the process's own method, which would take its exit status away from asyncio.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await finish(self._end())

    async def _end(self) -> None:
        # Reads what is still in the pipe, without which its end would not be seen; who waits for a message sees it
        # first.
        async with self._reading:
            await self._process.communicate()

    async def _lost(self) -> EngineError:
        await self.stop()
        return EngineError(f"process {self._name} ended with status {self._process.returncode}")


def read_messages() -> Iterator[tuple[bytes, bytes]]:
    """In a worker: yield the messages that come in until there are no more."""
    # Where the server is gone there is nobody to tell.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    source = sys.stdin.buffer
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        kind, length = _HEAD.unpack(head)
        payload = source.read(length)
        if len(payload) < length:
            return
        yield kind, payload


def write_message(kind: bytes, payload: bytes = b"") -> None:
    """In a worker: send a message. If that fails the server is gone, and so is the worker then."""
    sys.stdout.buffer.write(_HEAD.pack(kind, len(payload)) + payload)
    sys.stdout.buffer.flush()
