"""Threads of one model's own, for libraries that give Python's lock back while they compute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from speechwire.server.engines import EngineError
from speechwire.server.engines.together import finish

__all__ = ["ModelThread", "import_library", "reading"]

T = TypeVar("T")


class ModelThread:
    """The one thread in which a model computes, a call after the other, in the order in which they were made.

    One is enough: these libraries use all processors for one call. No thread runs before the first call.

    Args:
        name: The model's, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function` does in the thread.

        Cancelling takes a call back that still waits for its turn. Nobody can interrupt one that has begun, so who
        cancels it waits until the thread is out of it.

        Raises:
            EngineError: The function failed.
        """
        work = self._pool.submit(function, *args)
        waiting = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not work.cancel():
                await finish(asyncio.wait([waiting]))
            raise
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"{self._name} failed: {' '.join(str(error).split()) or repr(error)}") from error

    def stop(self) -> None:
        """End the thread; nothing may be under way any more."""
        self._pool.shutdown()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file or folder that a library is given, which its own errors do not.

    Raises:
        EngineError: The library cannot read it.
    """
    try:
        yield
    except Exception as error:
        raise EngineError(f"{path} cannot be loaded: {' '.join(str(error).split()) or repr(error)}") from error


def import_library(name: str, extra: str) -> Any:
    """Return an installed library.

    Raises:
        EngineError: It cannot be loaded; the message has the line that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise EngineError(
            f"python package {name} cannot be loaded ({error}); run pip install 'speechwire[{extra}]'"
        ) from error
