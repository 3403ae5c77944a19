"""The local server: a dialect in front, an engine behind. It needs the extra `server`."""

from speechwire.server.app import create_app, serve
from speechwire.server.limits import ServerLimits

__all__ = ["ServerLimits", "create_app", "serve"]
