from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.codec import decode_message, encode_audio_message
from speechwire.errors import WireError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def reference(text: str | bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    if "audio" in fields:
        fields["audio"] = base64.b64decode(fields["audio"], validate=True)
    return fields


@given(st.binary(max_size=400), st.none() | TEXT)
def test_encoded_message_is_what_json_and_base64_write(audio: bytes, client_req_id: str | None) -> None:
    fields = {"type": "audio", "audio": base64.b64encode(audio).decode()}
    if client_req_id is not None:
        fields["client_req_id"] = client_req_id
    text = encode_audio_message(audio, client_req_id)
    assert json.loads(text) == fields
    assert text.isascii()
    assert decode_message(text) == reference(text)


def test_encoded_message_has_no_spaces() -> None:
    assert encode_audio_message(b"\x01\x02") == '{"type":"audio","audio":"AQI="}'
    assert encode_audio_message(b"", "a") == '{"type":"audio","audio":"","client_req_id":"a"}'


@given(st.dictionaries(TEXT, VALUES, max_size=6), st.none() | st.binary(max_size=200), st.booleans())
def test_decoded_message_is_what_json_and_base64_read(
    fields: dict[str, Any], audio: bytes | None, ensure_ascii: bool
) -> None:
    fields.pop("audio", None)
    if audio is not None:
        fields["audio"] = base64.b64encode(audio).decode()
    for indent in (None, 1):
        text = json.dumps(fields, ensure_ascii=ensure_ascii, indent=indent)
        expected = reference(text)
        for given_text in (text, text.encode(), bytearray(text.encode())):
            message = decode_message(given_text)
            assert message == expected
            assert list(message) == list(expected)
            assert repr(message) == repr(expected)


@given(st.text(alphabet='{}[]":,0123456789.eE+-\\utrfalsn \n', max_size=16))
def test_any_text_is_read_like_json_or_refused(text: str) -> None:
    text = '{"a":' + text + "}"
    try:
        expected = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    except ValueError:
        with pytest.raises(WireError):
            decode_message(text)
    else:
        if "\\ud" not in text:
            assert decode_message(text) == expected


def test_audio_at_a_deeper_level_stays_a_string() -> None:
    assert decode_message('{"a":{"audio":"AQI="},"b":[{"audio":1}]}') == {"a": {"audio": "AQI="}, "b": [{"audio": 1}]}


def test_message_without_audio_is_a_plain_dictionary() -> None:
    assert decode_message("{}") == {}


def test_escaped_slashes_of_base64_are_read() -> None:
    assert decode_message(r'{"audio":"\/\/\/\/"}') == {"audio": b"\xff\xff\xff"}


def test_last_of_equal_fields_counts() -> None:
    assert decode_message('{"a":1,"a":2,"audio":7,"audio":"AQI="}') == {"a": 2, "audio": b"\x01\x02"}


def test_numbers_are_exact() -> None:
    message = decode_message('{"a":-0,"b":123456789012345678901234567890,"c":-0.0,"d":1e400,"e":0.1,"f":1E2}')
    assert message["a"] == 0
    assert isinstance(message["a"], int)
    assert message["b"] == 123456789012345678901234567890
    assert math.copysign(1, message["c"]) == -1
    assert message["d"] == math.inf
    assert message["e"] == 0.1
    assert isinstance(message["f"], float)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected a JSON object, got the end at byte 0"),
        ("[]", "expected a JSON object, got '[' at byte 0"),
        ('"a"', "expected a JSON object, got '\"' at byte 0"),
        ("{}{}", "expected the end of the message, got '{' at byte 2"),
        ("{'a':1}", "expected a field name, got '\\'' at byte 1"),
        ('{"a":1,}', "expected a field name, got '}' at byte 7"),
        ('{"a":NaN}', "expected a value, got 'N' at byte 5"),
        ('{"a":-Infinity}', "expected a digit, got 'I' at byte 6"),
        ('{"a":"\n"}', "expected no control character in a string, got byte 0x0a at byte 6"),
        ('{"a":"', "expected '\"', got the end at byte 6"),
        ('{"a":"\\ud83d"}', "expected a pair of surrogates, got the lone surrogate \\ud83d at byte 6"),
        (b'{"a":"\xc3"}', "expected UTF-8, got byte 0xc3 at byte 6"),
        (b"\xef\xbb\xbf{}", "expected a JSON object, got byte 0xef at byte 0"),
        ('{"audio":null}', 'expected a base64 string, got null in "audio" at byte 0'),
        ('{"audio":"AQI"}', "expected base64 of a multiple of 4 characters, got 3 characters at byte 10"),
        ('{"audio":"AQ-_"}', "expected base64 characters, got '-' at byte 12"),
        ('{"audio":"AQI=\\n"}', "expected base64 of a multiple of 4 characters, got 5 characters at byte 10"),
        ('{"audio":"AQJ="}', "expected base64 with canonical padding, got other padding at byte 13"),
        ('{"a":"\ud800"}', "expected text that is Unicode, got a lone surrogate"),
        ('{"a":' + "9" * 5000 + "}", "expected an integer that Python converts, got one of 5000 digits"),
        ("{" + '"a":{' * 200, "expected at most 128 levels of nesting, got '{' at byte 640"),
    ],
)
def test_bad_message_is_refused(text: str | bytes, error: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_message(text)
    assert str(caught.value) == error


def test_id_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(WireError, match=r"^expected text that is Unicode, got a lone surrogate$"):
        encode_audio_message(b"", "\ud800")


def test_nesting_up_to_the_limit_is_read() -> None:
    text = '{"a":' + "[" * 127 + "]" * 127 + "}"
    assert decode_message(text) == json.loads(text)


def test_large_audio_survives() -> None:
    audio = bytes(range(256)) * 1000
    assert decode_message(encode_audio_message(audio))["audio"] == audio


def test_messages_are_strings_of_their_own() -> None:
    first, second = encode_audio_message(b"\1" * 30), encode_audio_message(b"\2" * 30)
    blank = " " * len(first)
    assert first != second
    assert blank == " " * len(first)
    for text in (first, second):
        assert text.isascii()
        assert hash(text) == hash(json.dumps(json.loads(text), separators=(",", ":")))
        assert {text: 1}[json.dumps(json.loads(text), separators=(",", ":"))] == 1


def test_messages_hold_under_the_debug_allocator() -> None:
    code = (
        "import base64, json, os\n"
        "from speechwire.codec import decode_message, encode_audio_message\n"
        "for size in [*range(70), 1000, 3840, 100_000]:\n"
        "    audio = os.urandom(size)\n"
        "    for request_id in (None, 'a', '\\u00e9\\n'):\n"
        "        text = encode_audio_message(audio, request_id)\n"
        "        assert base64.b64decode(json.loads(text)['audio']) == audio\n"
        "        assert decode_message(text)['audio'] == audio\n"
    )
    environment = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=100)
