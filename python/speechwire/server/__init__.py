"""The local server: a dialect in front, an engine behind. It needs the extra `server`."""

from speechwire.server.app import create_app, serve

__all__ = ["create_app", "serve"]
