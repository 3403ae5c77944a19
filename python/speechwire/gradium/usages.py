"""What the account has used, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechwire.gradium import rest_wire

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient

__all__ = ["get", "summary"]


async def get(client: GradiumClient) -> dict[str, Any]:
    """Return the balance.

    Returns:
        `remaining_credits` and `allocated_credits`, whole numbers; `billing_period`, such as "11-2026";
        `next_rollover_date`, a date or None; `plan_name`.
    """
    credits: dict[str, Any] = await client.get(rest_wire.CREDITS_ROUTE)  # noqa: A001 - what they are
    return credits


async def summary(client: GradiumClient) -> dict[str, Any]:
    """Return the totals.

    Returns:
        `consumed_credits`, `sessions`, and for `ingress` and `egress` each the `_messages`, the `_text_size` and the
        `_audio_duration` in seconds.
    """
    totals: dict[str, Any] = await client.get(rest_wire.SUMMARY_ROUTE)
    return totals
