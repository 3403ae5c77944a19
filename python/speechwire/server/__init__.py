"""The local server: a dialect in front, an engine behind. It needs the extra `server`.

Its names are loaded when they are asked for: the processes that an engine starts import a module from here, and no
server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechwire.server.app import create_app, serve
    from speechwire.server.limits import ServerLimits

__all__ = ["ServerLimits", "create_app", "serve"]

_ROOMS = {"ServerLimits": "limits", "create_app": "app", "serve": "app"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
