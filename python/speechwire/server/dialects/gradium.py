"""The Gradium dialect: which paths it answers, how its clients prove themselves, and its state machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from speechwire.gradium import wire
from speechwire.gradium.protocol import ServerProtocol

__all__ = ["PATHS", "credential", "open_protocol", "token"]

PATHS: Final = (urlsplit(wire.BASE_URL).path + wire.S2S_ROUTE,)


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return the key that the client showed: the header, or the query parameter that browsers have to use."""
    return headers.get(wire.API_KEY_HEADER) or query.get(wire.TOKEN_PARAMETER)


def token(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return what the client showed in place of a key: a token of one use, or a key all the same."""
    return None if headers.get(wire.API_KEY_HEADER) else query.get(wire.TOKEN_PARAMETER)


def open_protocol(key: str | None, *, accepted: bool) -> ServerProtocol:
    """Begin a connection whose client showed `key`; without a good one it will be told so, and closed."""
    if accepted:
        return ServerProtocol(wire.S2S)
    return ServerProtocol(wire.S2S, refusal=wire.NO_CREDENTIALS if key is None else wire.BAD_CREDENTIALS)
