"""What the server remembers besides its sessions: records by id, tokens of one use, and what was used up.

All of it is in memory, bounded, and gone with the process. The clock and the randomness come from outside, for tests.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

__all__ = ["Account", "Full", "Shelf", "Tokens", "Usage"]

MAX_VOICES: Final = 1000
MAX_DRAFTS: Final = 1000
MAX_DICTIONARIES: Final = 100
MAX_TOKENS: Final = 1000
ALLOCATED_CREDITS: Final = 1_000_000


class Full(Exception):
    """A shelf holds as much as it may; `most` is how much that is."""

    def __init__(self, most: int) -> None:
        super().__init__(f"expected at most {most} records, got one more")
        self.most = most


class Shelf:
    """Records by id, in the order in which they came, until they expire.

    Args:
        most: How many records there may be at once.
        clock: Returns the time in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._rows: dict[str, tuple[Mapping[str, Any], float]] = {}

    def put(self, uid: str, row: Mapping[str, Any], *, expires_at_s: float = math.inf) -> None:
        """Add a record, or replace the one with this id.

        Raises:
            Full: There is no room for another.
        """
        self._drop_expired()
        if uid not in self._rows and len(self._rows) >= self._most:
            raise Full(self._most)
        self._rows[uid] = (row, expires_at_s)

    def get(self, uid: str) -> Mapping[str, Any] | None:
        """Return a record, or None."""
        self._drop_expired()
        row, _ = self._rows.get(uid, (None, 0.0))
        return row

    def pop(self, uid: str) -> Mapping[str, Any] | None:
        """Remove a record and return it, or None."""
        self._drop_expired()
        row, _ = self._rows.pop(uid, (None, 0.0))
        return row

    def rows(self) -> list[Mapping[str, Any]]:
        """Return all records, oldest first."""
        self._drop_expired()
        return [row for row, _ in self._rows.values()]

    def _drop_expired(self) -> None:
        now = self._clock()
        for uid in [uid for uid, (_, expires_at_s) in self._rows.items() if expires_at_s <= now]:
            del self._rows[uid]


class Tokens:
    """Credentials that let one connection in, within a short time.

    Args:
        clock: Returns Unix time in seconds.
        new_id: Returns an unguessable text, different at every call.
        lifetime_s: How long a token may wait for its use.
    """

    def __init__(self, clock: Callable[[], float], new_id: Callable[[], str], lifetime_s: float = 60.0) -> None:
        self._clock = clock
        self._new_id = new_id
        self._lifetime_s = lifetime_s
        self._issued = Shelf(MAX_TOKENS, clock)

    def issue(self) -> tuple[str, float]:
        """Return a new token and the Unix time at which it expires.

        Raises:
            Full: Too many wait for their use.
        """
        token = self._new_id()
        expires_at_s = self._clock() + self._lifetime_s
        self._issued.put(_digest(token), {}, expires_at_s=expires_at_s)
        return token, expires_at_s

    def redeem(self, token: str) -> bool:
        """Use a token up; False if it is unknown, expired, or used before."""
        # Looked up by its digest: how long that takes tells nothing about the tokens that are there.
        return self._issued.pop(_digest(token)) is not None


def _digest(token: str) -> str:
    return sha256(token.encode(errors="surrogatepass")).hexdigest()


@dataclass(slots=True)
class Usage:
    """Counts what passes through; a session calls it for every message.

    Text is counted in characters, audio in seconds. `price` is in credits for one of them, 0.0 where the product is
    paid for by something else.
    """

    allocated_credits: int = ALLOCATED_CREDITS
    sessions: int = 0
    ingress_messages: int = 0
    ingress_text_size: int = 0
    ingress_audio_s: float = 0.0
    egress_messages: int = 0
    egress_text_size: int = 0
    egress_audio_s: float = 0.0
    spent: float = 0.0

    @property
    def consumed_credits(self) -> int:
        """Credits spent, rounded up to whole ones."""
        # Sums of 80 ms are not exact: 30.000000000000004 is 30.
        return math.ceil(round(self.spent, 6))

    @property
    def remaining_credits(self) -> int:
        """Credits left, never less than 0: sessions are not cut when there are none."""
        return max(0, self.allocated_credits - self.consumed_credits)

    def count_session(self) -> None:
        """A request was accepted."""
        self.sessions += 1

    def count_ingress_text(self, num_characters: int, price: float = 0.0) -> None:
        """A message brought text to be spoken."""
        self.ingress_messages += 1
        self.ingress_text_size += num_characters
        self.spent += num_characters * price

    def count_ingress_audio(self, seconds: float, price: float = 0.0) -> None:
        """A message brought audio."""
        self.ingress_messages += 1
        self.ingress_audio_s += seconds
        self.spent += seconds * price

    def count_egress_text(self, num_characters: int) -> None:
        """A message with text was sent."""
        self.egress_messages += 1
        self.egress_text_size += num_characters

    def count_egress_audio(self, seconds: float) -> None:
        """A message with audio was sent."""
        self.egress_messages += 1
        self.egress_audio_s += seconds


class Account:
    """Everything that belongs to the server's only account.

    Args:
        clock: Returns Unix time in seconds.
        new_id: Returns an unguessable text of 16 characters out of A-Z, a-z, 0-9, "-" and "_", different at every call.
        draft_delay_s: How long the voice designer takes.
        draft_lifetime_s: How long a draft is kept.
        token_lifetime_s: How long a token may wait for its use.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(12),
        draft_delay_s: float = 1.0,
        draft_lifetime_s: float = 30 * 86400.0,
        token_lifetime_s: float = 60.0,
    ) -> None:
        self.clock = clock
        self.new_id = new_id
        self.draft_delay_s = draft_delay_s
        self.draft_lifetime_s = draft_lifetime_s
        self.voices = Shelf(MAX_VOICES, clock)
        self.drafts = Shelf(MAX_DRAFTS, clock)
        self.dictionaries = Shelf(MAX_DICTIONARIES, clock)
        self.tokens = Tokens(clock, new_id, token_lifetime_s)
        self.usage = Usage()
