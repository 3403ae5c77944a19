"""The records of the REST interface, against literal values; and what is refused, and in which words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.errors import WireError
from speechwire.gradium import rest_wire, wire
from speechwire.gradium.rest_wire import Field, FieldsRefused, parse_fields


def test_fields_of_a_query_come_as_text() -> None:
    query = {"skip": "2", "limit": "0", "include_catalog": "1", "other": "x"}
    assert parse_fields("query", rest_wire.VOICE_QUERY, query) == {"skip": 2, "limit": 0, "include_catalog": True}


@pytest.mark.parametrize(("text", "expected"), [("0", False), ("1", True), ("false", False), ("TRUE", True)])
def test_booleans_of_a_query(text: str, expected: bool) -> None:
    assert parse_fields("query", rest_wire.VOICE_QUERY, {"include_catalog": text})["include_catalog"] is expected


def test_null_means_absent() -> None:
    assert parse_fields("body", rest_wire.VOICE_CHANGES, {"name": None, "start_s": 2}) == {"start_s": 2.0}


def test_every_problem_is_named_with_its_place() -> None:
    body = {
        "name": "x" * 201,
        "language": "it",
        "rules": [{"original": "a", "rewrite": ""}, {"original": 3}, "r", {"case_sensitive": "maybe", "rewrite": "b"}],
    }
    with pytest.raises(FieldsRefused) as caught:
        parse_fields("body", rest_wire.PRONUNCIATION, body)
    assert [(problem["loc"], problem["msg"]) for problem in caught.value.problems] == [
        (["body", "name"], "expected a length of 1 to 200, got 201"),
        (["body", "language"], "expected one of en, fr, de, es, pt, got 'it'"),
        (["body", "rules", 1, "original"], "expected a str, got int"),
        (["body", "rules", 1, "rewrite"], "Field required"),
        (["body", "rules", 2], "expected an object"),
        (["body", "rules", 3, "original"], "Field required"),
        (["body", "rules", 3, "case_sensitive"], "expected true or false, got 'maybe'"),
    ]


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), "soon", True, [], {}, 10**400])
def test_number_that_is_none(value: object) -> None:
    with pytest.raises(FieldsRefused):
        parse_fields("body", rest_wire.VOICE, {"name": "n", "start_s": value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TABLES = [
    rest_wire.VOICE,
    rest_wire.VOICE_CHANGES,
    rest_wire.VOICE_QUERY,
    rest_wire.PROMOTION,
    rest_wire.DRAFT,
    rest_wire.DRAFT_QUERY,
    rest_wire.PRONUNCIATION,
    rest_wire.PRONUNCIATION_CHANGES,
    rest_wire.PRONUNCIATION_QUERY,
]


@given(table=st.sampled_from(TABLES), data=st.data())
def test_any_value_is_taken_or_refused(table: tuple[Field, ...], data: st.DataObject) -> None:
    values = {field.name: data.draw(json_values) for field in table}
    try:
        found = parse_fields("body", table, values)
    except FieldsRefused as error:
        json.dumps(error.problems)
    else:
        assert all(isinstance(found[field.name], field.type) for field in table if field.name in found)


def test_times() -> None:
    assert rest_wire.format_time(1762075800.9) == "2025-11-02T09:30:00Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-02T09:30:00Z", datetime(2025, 11, 2, 9, 30, tzinfo=UTC)),
        ("2025-11-02T10:30:00.5+01:00", datetime(2025, 11, 2, 9, 30, 0, 500000, tzinfo=UTC)),
        ("2025-11-02T09:30:00", datetime(2025, 11, 2, 9, 30, tzinfo=UTC)),
    ],
)
def test_token_expires_at_an_aware_time(text: str, expected: datetime) -> None:
    token, expires_at = rest_wire.parse_token({"token": "tmp_1", "expires_at": text})
    assert (token, expires_at) == ("tmp_1", expected)
    assert expires_at.tzinfo is not None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"token": "t"},
        {"expires_at": "2025-11-02T09:30:00Z"},
        {"token": 3, "expires_at": "2025-11-02T09:30:00Z"},
        {"token": "tmp_secret", "expires_at": "soon"},
    ],
)
def test_token_that_is_incomplete(answer: object) -> None:
    with pytest.raises(WireError) as caught:
        rest_wire.parse_token(answer)
    assert "tmp_secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [{"embeddings": 3}, {"embeddings": [3]}])
def test_drafts_that_are_none(answer: object) -> None:
    with pytest.raises(WireError, match="expected a list of drafts"):
        rest_wire.parse_drafts(answer)


@pytest.mark.parametrize("answer", [None, [], {}, {"embeddings": None}, {"embeddings": []}])
def test_no_drafts(answer: object) -> None:
    assert rest_wire.parse_drafts(answer) == []


@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(0, 200)))
def test_lines_are_the_same_whatever_the_chunks(parts: list[bytes], cuts: list[int]) -> None:
    body = b"\n".join(parts)
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    lines = rest_wire.Lines()
    found = [line for start, stop in pairwise(bounds) for line in lines.feed(body[start:stop])] + lines.flush()
    assert found == [line for line in body.split(b"\n") if line.strip()]
    assert lines.num_waiting_bytes == 0


@pytest.mark.parametrize(
    ("now", "period", "rollover"),
    [
        (datetime(2026, 11, 21, tzinfo=UTC), "11-2026", "2026-12-01"),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "12-2026", "2027-01-01"),
    ],
)
def test_credits_name_their_month(now: datetime, period: str, rollover: str) -> None:
    assert rest_wire.build_credits(70, 100, now.timestamp()) == {
        "remaining_credits": 70,
        "allocated_credits": 100,
        "billing_period": period,
        "next_rollover_date": rollover,
        "plan_name": "local",
    }


def test_voice_has_what_lists_and_single_answers_require() -> None:
    voice = rest_wire.build_voice({"uid": "u", "name": "n"})
    assert {"uid", "name", "is_catalog", "is_pro_clone", "start_s", "filename"} <= voice.keys()
    catalogue = rest_wire.build_catalog_voice(rest_wire.CATALOG[0])
    assert (catalogue["uid"], catalogue["language"], catalogue["is_catalog"]) == ("YTpq7expH9539ERJ", "en", True)
    assert {"category": "gender", "value": "feminine"} in catalogue["tags"]


def test_default_voices_stand_in_the_catalogue() -> None:
    locales = {voice.uid: voice.locale for voice in rest_wire.CATALOG}
    assert all(locales[uid].startswith(language) for language, uid in wire.DEFAULT_VOICES.items())
    assert len(locales) == len(rest_wire.CATALOG) == 12


def test_route_of_an_item_stays_below_its_collection() -> None:
    assert rest_wire.item_route(rest_wire.VOICES_ROUTE, "-uP9MuGtBqAvEyxI") == "voices/-uP9MuGtBqAvEyxI"
    assert rest_wire.item_route(rest_wire.EMBEDDINGS_ROUTE, "a/../b?c") == "voice-generator/embeddings/a%2F..%2Fb%3Fc"
    for uid in ("", ".", ".."):
        with pytest.raises(ValueError, match="expected the id"):
            rest_wire.item_route(rest_wire.VOICES_ROUTE, uid)


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"detail": "Voice not found"}', (None, "Voice not found")),
        (
            "application/json",
            b'{"detail": [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"},'
            b' {"loc": ["query", "limit"], "msg": "too small"}]}',
            (None, "body.name: Field required; query.limit: too small"),
        ),
        ("application/json", b'{"detail": null, "error": "no such key", "code": 401}', (401, "no such key")),
        ("application/json", b'["first", {"detail": "second"}, {"msg": "third"}]', (None, "first; second; third")),
        ("application/json", b"[]", (None, "")),
        ("application/json", b'{"detail": {"reason": "odd"}}', (None, '{"reason": "odd"}')),
        ("application/json", b"null", (None, "null")),
        ("application/json", b'{"detail": tr', (None, '{"detail": tr')),
        ("application/json", b"[" * 9000, (None, "[" * 9000)),
        ("application/json", b"[" * 500 + b"]" * 500, (None, "[" * 497 + "]" * 497)),
        (
            "text/plain",
            b"error from server 1008: API key is revoked or expired",
            (1008, "API key is revoked or expired"),
        ),
        (
            "text/plain; charset=utf-8",
            b"error from server Some(1008): no such voice\nIf this goes on, write to support.\n",
            (1008, "no such voice"),
        ),
        ("application/json", b'{"detail": "error from server 1011: oops"}', (1011, "oops")),
        (
            "text/plain",
            b"unsupported content type for SST 'audio/mpeg'",
            (None, "unsupported content type for SST 'audio/mpeg'"),
        ),
        ("text/html", b"<html><body><h1>502 Bad Gateway</h1></body></html>", (None, "")),
        ("", b"<!doctype html>", (None, "")),
        ("", b"", (None, "")),
        ("text/plain", b"\xff\xfe broken", (None, "\ufffd\ufffd broken")),
    ],
)
def test_refusals_in_every_known_shape(content_type: str, body: bytes, expected: tuple[Any, str]) -> None:
    assert rest_wire.parse_refusal(content_type, body) == expected


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_refusal_of_any_body_is_one_line(body: bytes) -> None:
    _, reason = rest_wire.parse_refusal("application/json", body)
    assert len(reason.splitlines()) <= 1
