"""Tasks of one session that run together, and work that is done to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["finish", "together"]

T = TypeVar("T")


async def together(*stages: Coroutine[Any, Any, None]) -> None:
    """Run until all have ended; where one fails the others end, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for stage in stages:
                tasks.create_task(stage)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def finish(work: Awaitable[T]) -> T:
    """Return what `work` returns. Who is cancelled meanwhile, however often, is so when it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is there to be told
        raise
