"""The Gradium dialect: which paths it answers, how its clients prove themselves, and its state machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from speechwire.gradium import wire
from speechwire.gradium.protocol import ServerProtocol
from speechwire.gradium.wire import Product

__all__ = ["BASE_PATH", "Product", "credential", "open_protocol", "paths", "refusal", "shown_key", "token"]

BASE_PATH: Final = urlsplit(wire.BASE_URL).path.rstrip("/")
_ALIASES: Final = {wire.STT_ROUTE: (wire.STT_ROUTE_ALIAS,)}


def paths(base_path: str) -> Iterator[tuple[str, Product]]:
    """Yield the paths of the WebSockets below `base_path`, and which product each serves."""
    for product in wire.PRODUCTS:
        for route in (product.route, *_ALIASES.get(product.route, ())):
            yield f"{base_path}/{route}", product


def shown_key(headers: Mapping[str, str]) -> str | None:
    """Return the key that the client showed in a header."""
    scheme, _, key = headers.get(wire.AUTHORIZATION_HEADER, "").partition(" ")
    authorized = key.strip() if scheme.lower() == wire.AUTHORIZATION_SCHEME.lower() else ""
    return headers.get(wire.API_KEY_HEADER) or authorized or None


def token(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return what the client showed in place of a key: a token of one use, or a key all the same."""
    return None if shown_key(headers) else query.get(wire.TOKEN_PARAMETER)


def credential(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return what the client showed: a key, or the query parameter that browsers have to use."""
    return shown_key(headers) or token(headers, query)


def open_protocol(product: Product, key: str | None, *, accepted: bool) -> ServerProtocol:
    """Begin a connection whose client showed `key`; without a good one it will be told so, and closed."""
    return ServerProtocol(product, refusal=None if accepted else refusal(key))


def refusal(key: str | None) -> str:
    """Return the text that refuses a key that is missing or wrong."""
    return wire.NO_CREDENTIALS if key is None else wire.BAD_CREDENTIALS
