"""Kinds of values in a file that somebody wrote: what each may be, and an error that names the place if it is not.

A file's format is one value of these, so that the checker, a reference and a JSON Schema can all go by it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Choice", "Items", "Keys", "Kind", "Number", "Span", "Text", "wrong"]


def wrong(place: str, expected: str, got: object) -> ValueError:
    """Return the error that says what should stand in a place, and what does."""
    return ValueError(f"{place}: expected {expected}, got {reprlib.repr(got)}")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a range, both ends included; `whole` if it has no fraction."""

    about: str
    low: float
    high: float
    default: float | None = None
    whole: bool = False

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high or (self.whole and value % 1):  # type: ignore[operator]
            raise wrong(place, self.expected, value)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of at least one character, or one of several words."""

    about: str
    words: tuple[str, ...] = ()
    default: str | None = None

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return f"one of {', '.join(self.words)}" if self.words else "a quoted text"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        if not isinstance(value, str) or not value or (self.words and value not in self.words):
            raise wrong(place, self.expected, value)


@dataclass(frozen=True, slots=True)
class Span:
    """Two numbers in a range, the second above the first."""

    about: str
    low: float
    high: float
    default: None = None

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return f"two growing numbers from {self.low:g} to {self.high:g}"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        if not isinstance(value, list) or len(value) != 2:
            raise wrong(place, self.expected, value)
        for number, edge in enumerate(value):
            Number(self.about, self.low, self.high).check(edge, f"{place}[{number}]")
        if value[0] >= value[1]:
            raise wrong(place, self.expected, value)


@dataclass(frozen=True, slots=True)
class Keys:
    """An object.

    Args:
        about: What it tells.
        keys: Those that it may have.
        required: Those that it must have.
        alone: One that no other may stand beside.
        separator: What stands before a key in the place that an error names.
    """

    about: str
    keys: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    alone: str | None = None
    default: None = None
    separator: str = "."

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return f"an object with keys among {', '.join(self.keys)}"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        if not isinstance(value, dict):
            raise wrong(place, self.expected, value)
        for key in value:
            if key not in self.keys:
                raise wrong(place, f"keys among {', '.join(self.keys)}", key)
        for key in self.required:
            if key not in value:
                raise wrong(place, f"a key {key!r}", list(value))
        if self.alone in value and len(value) > 1:
            raise wrong(place, f"{self.alone!r} without other keys", list(value))
        for key, inner in value.items():
            self.keys[key].check(inner, f"{place}{self.separator}{key}")


@dataclass(frozen=True, slots=True)
class Choice:
    """An object whose key `by` tells which of several it is."""

    about: str
    by: str
    of: Mapping[str, Keys]
    default: None = None

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return f"an object with a key {self.by!r}, one of {', '.join(self.of)}"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        if not isinstance(value, dict) or self.by not in value:
            raise wrong(place, self.expected, value)
        Text("", tuple(self.of)).check(value[self.by], f"{place}.{self.by}")
        self.of[value[self.by]].check(value, place)


@dataclass(frozen=True, slots=True)
class Items:
    """A list of any length."""

    about: str
    item: Keys | Choice
    default: None = None

    @property
    def expected(self) -> str:
        """What has to be there, in words."""
        return "a list"

    def check(self, value: object, place: str) -> None:
        """Raise ValueError unless `value` fits."""
        if not isinstance(value, list):
            raise wrong(place, self.expected, value)
        for number, item in enumerate(value):
            self.item.check(item, f"{place}[{number}]")


Kind = Number | Text | Span | Keys | Choice | Items
