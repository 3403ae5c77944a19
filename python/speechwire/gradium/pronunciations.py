"""Pronunciation dictionaries: rules that rewrite words before they are spoken. A setup names one as `pronunciation_id`.

A rule is `{"original": ..., "rewrite": ..., "case_sensitive": False}`; the service adds an `id` to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from speechwire.gradium import rest_wire

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient

__all__ = ["create", "delete", "get", "list_page", "update"]


async def create(
    client: GradiumClient,
    name: str,
    rules: Iterable[Mapping[str, Any]],
    *,
    language: str,
    description: str | None = None,
) -> dict[str, Any]:
    """Make a dictionary and return it, with its `uid`.

    Args:
        client: Whose account it will belong to.
        name: For people.
        rules: In the order in which they are tried.
        language: Two-letter code of the texts that it is for.
        description: For people.

    Raises:
        ServerError: The service refused; `code` is 422 for a field that it does not like.
    """
    body = rest_wire.given(name=name, language=language, description=description, rules=list(rules))
    dictionary: dict[str, Any] = await client.post(rest_wire.PRONUNCIATIONS_ROUTE, json=body)
    return dictionary


async def get(client: GradiumClient, uid: str) -> dict[str, Any]:
    """Return a dictionary; ServerError with `code` 404 if there is no such one."""
    dictionary: dict[str, Any] = await client.get(rest_wire.item_route(rest_wire.PRONUNCIATIONS_ROUTE, uid))
    return dictionary


async def list_page(
    client: GradiumClient, *, limit: int = 100, offset: int = 0, language: str | None = None
) -> dict[str, Any]:
    """Return some of the dictionaries.

    Args:
        client: Whose dictionaries to list.
        limit: How many at most, 1 to 1000.
        offset: How many to leave out before them.
        language: Two-letter code of the only language to list.

    Returns:
        `dictionaries`, and in `total` how many there are on all pages.
    """
    query = rest_wire.given(limit=limit, offset=offset, language=language)
    page: dict[str, Any] = await client.get(rest_wire.PRONUNCIATIONS_ROUTE, params=query)
    return page


async def update(
    client: GradiumClient,
    uid: str,
    *,
    name: str | None = None,
    rules: Iterable[Mapping[str, Any]] | None = None,
    language: str | None = None,
    description: str | None = None,
) -> dict[str, Any] | None:
    """Change what is given of a dictionary and return it; None if nothing was given. Given rules replace all."""
    changes = rest_wire.given(
        name=name, language=language, description=description, rules=None if rules is None else list(rules)
    )
    if not changes:
        return None
    dictionary: dict[str, Any] = await client.put(
        rest_wire.item_route(rest_wire.PRONUNCIATIONS_ROUTE, uid), json=changes
    )
    return dictionary


async def delete(client: GradiumClient, uid: str) -> bool:
    """Delete a dictionary; returns True, and raises ServerError with `code` 404 if there is no such one."""
    await client.delete(rest_wire.item_route(rest_wire.PRONUNCIATIONS_ROUTE, uid))
    return True
