"""The one way in which an engine runs a program: text in, bytes out as they come, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, TypeVar, cast

from speechwire.server.engines import EngineError

__all__ = ["in_thread", "stream_program"]

T = TypeVar("T")

_READ_BYTES = 65536
_GRACE_S = 0.25
_POLL_S = 0.005


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Return what `function` does in a thread; also who is cancelled waits until the thread is out of it."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise


def stream_program(arguments: Sequence[str], text: str, *, timeout_s: float) -> Iterator[bytes]:
    """Run a program with `text` as its standard input and yield its standard output as it comes.

    The program and all that it starts are gone when the iterator ends, fails or is closed. There is no shell; `text`
    never becomes an argument.

    Args:
        arguments: The program's name, looked up in PATH, and its arguments.
        text: Sent as UTF-8.
        timeout_s: Seconds for which the program may keep the caller waiting in all; the caller's own time is free.

    Raises:
        EngineError: The program is not installed, took too long, or ended with a status other than 0.
    """
    name = arguments[0]
    try:
        # A session of its own makes a process group of it, so that a pipeline is killed as a whole.
        process = subprocess.Popen(  # noqa: S603
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise EngineError(f"program {name} cannot be started: {error.strerror or error}") from error
    with process, selectors.DefaultSelector() as selector:
        try:
            pipes = (process.stdin, process.stdout, process.stderr)
            stdin, stdout, stderr = (cast("IO[bytes]", pipe) for pipe in pipes)
            unsent = memoryview(text.encode())
            errors = bytearray()
            remaining_s = timeout_s
            # Only the writing could block: a pipe that is ready to read returns what it has.
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while selector.get_map():
                waited_from = time.monotonic()
                ready = selector.select(max(0.0, remaining_s))
                remaining_s -= time.monotonic() - waited_from
                if not ready:
                    raise EngineError(f"program {name} took more than {timeout_s:g} s")
                for key, _ in ready:
                    if key.fileobj is stdin:
                        with suppress(BrokenPipeError):
                            unsent = unsent[os.write(key.fd, unsent) :] if unsent else unsent
                            if unsent:
                                continue
                        # All is sent, or the program has stopped reading; its exit status tells the rest.
                        selector.unregister(stdin)
                        stdin.close()
                        continue
                    data = os.read(key.fd, _READ_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is stderr:
                        errors += data
                    else:
                        yield data
            try:
                status = process.wait(max(0.0, remaining_s))
            except subprocess.TimeoutExpired:
                raise EngineError(f"program {name} took more than {timeout_s:g} s") from None
            if status != 0:
                words = " ".join(errors.decode("utf-8", "replace").split()) or "no error text"
                raise EngineError(f"program {name} ended with status {status}: {words}")
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group, and leave no zombie; does nothing once it was waited for."""
    if process.returncode is not None:
        return
    # The leader stays unreaped until the group has been killed, so its id cannot belong to anyone else by then. On an
    # interrupt a shell waits for its pipeline before it ends itself, as Apertium's script does, which also deletes its
    # temporary file then; a process that ignores it is not asked a third time.
    for sent in (signal.SIGINT, signal.SIGTERM):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        deadline = time.monotonic() + _GRACE_S
        while not (has_ended := _has_ended(process)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if has_ended:
            break
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
