"""Several tasks of one session, each ahead of the next."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["together"]


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
