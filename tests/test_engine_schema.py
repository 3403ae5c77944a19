from __future__ import annotations

import math
import re
from typing import Any

import pytest

from speechwire.server.engines.schema import Choice, Items, Keys, Kind, Number, Span, Text

POINT = Keys("", {"x_s": Number("", 0, 10), "name": Text(""), "file": Text("")}, required=("x_s",))
LONE = Keys("", {"file": Text(""), "x_s": Number("", 0, 10)}, alone="file")
SHAPE = Choice("", "kind", {kind: Keys("", {"kind": Text("", (kind,))}) for kind in ("a", "b")})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Number("", 0, 10), 0),
        (Number("", 0, 10), 10.0),
        (Number("", 0, 10, whole=True), 3),
        (Number("", 0, 10, whole=True), 3.0),
        (Text(""), "no"),
        (Text("", ("a", "b")), "b"),
        (Span("", 0, 10), [0, 0.5]),
        (POINT, {"x_s": 1}),
        (POINT, {"x_s": 1, "name": "n", "file": "f"}),
        (LONE, {"file": "f"}),
        (LONE, {"x_s": 1}),
        (SHAPE, {"kind": "b"}),
        (Items("", POINT), []),
        (Items("", POINT), [{"x_s": 1}, {"x_s": 2}]),
    ],
)
def test_what_fits_passes(kind: Kind, value: object) -> None:
    kind.check(value, "here")


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Number("", 0, 10), 11, "here: expected a number from 0 to 10, got 11"),
        (Number("", 0, 10), -0.1, "here: expected a number from 0 to 10, got -0.1"),
        (Number("", 0, 10), math.nan, "here: expected a number from 0 to 10, got nan"),
        (Number("", 0, 10), math.inf, "here: expected a number from 0 to 10, got inf"),
        (Number("", 0, 10), True, "here: expected a number from 0 to 10, got True"),
        (Number("", 0, 10), "1e0", "here: expected a number from 0 to 10, got '1e0'"),
        (Number("", 0, 10), None, "here: expected a number from 0 to 10, got None"),
        (Number("", 0, 10, whole=True), 1.5, "here: expected a whole number from 0 to 10, got 1.5"),
        (Text(""), "", "here: expected a quoted text, got ''"),
        (Text(""), False, "here: expected a quoted text, got False"),
        (Text("", ("a", "b")), "c", "here: expected one of a, b, got 'c'"),
        (Span("", 0, 10), 1, "here: expected two growing numbers from 0 to 10, got 1"),
        (Span("", 0, 10), [1, 2, 3], "here: expected two growing numbers from 0 to 10, got [1, 2, 3]"),
        (Span("", 0, 10), [1, 1], "here: expected two growing numbers from 0 to 10, got [1, 1]"),
        (Span("", 0, 10), [1, "2"], "here[1]: expected a number from 0 to 10, got '2'"),
        (POINT, [], "here: expected an object with keys among x_s, name, file, got []"),
        (POINT, {"x_s": 1, "y_s": 2}, "here: expected keys among x_s, name, file, got 'y_s'"),
        (POINT, {"x_s": 1, 5: 2}, "here: expected keys among x_s, name, file, got 5"),
        (POINT, {"name": "n"}, "here: expected a key 'x_s', got ['name']"),
        (POINT, {"x_s": 11}, "here.x_s: expected a number from 0 to 10, got 11"),
        (LONE, {"x_s": 1, "file": "f"}, "here: expected 'file' without other keys, got ['x_s', 'file']"),
        (SHAPE, {}, "here: expected an object with a key 'kind', one of a, b, got {}"),
        (SHAPE, {"kind": "c"}, "here.kind: expected one of a, b, got 'c'"),
        (SHAPE, {"kind": ["a"]}, "here.kind: expected one of a, b, got ['a']"),
        (SHAPE, {"kind": "a", "x": 1}, "here: expected keys among kind, got 'x'"),
        (Items("", POINT), {}, "here: expected a list, got {}"),
        (Items("", POINT), [{"x_s": 1}, {"x_s": 11}], "here[1].x_s: expected a number from 0 to 10, got 11"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(kind: Kind, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        kind.check(value, "here")


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ValueError, match="got") as raised:
        Number("", 0, 1).check(list(range(10000)), "here")
    assert len(str(raised.value)) < 200
