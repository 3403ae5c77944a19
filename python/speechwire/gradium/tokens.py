"""Tokens of one use, for browsers, which cannot send the key in a header and should not have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from speechwire.gradium import rest_wire

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient

__all__ = ["TemporaryToken", "issue"]


@dataclass(frozen=True, slots=True)
class TemporaryToken:
    """Lets one WebSocket in, as `?token=` in its address.

    Args:
        token: Not shown by repr.
        expires_at: When it is of no use any more, in UTC or with its own zone.
    """

    token: str = field(repr=False)
    expires_at: datetime


async def issue(client: GradiumClient) -> TemporaryToken:
    """Return a new token."""
    token, expires_at = rest_wire.parse_token(await client.get(rest_wire.TOKEN_ROUTE))
    return TemporaryToken(token, expires_at)
