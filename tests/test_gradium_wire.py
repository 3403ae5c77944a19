"""Every message of the wire, against literal text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from speechwire.errors import WireError
from speechwire.gradium import wire


def test_setup_writes_json_config_as_a_string_and_leaves_the_fields_alone() -> None:
    fields = {"voice_id": "v", "json_config": {"target_language": "es"}, "retry_for_s": 3}
    message = json.loads(wire.build_setup(fields))
    assert message == {
        "type": "setup",
        "voice_id": "v",
        "json_config": '{"target_language": "es"}',
        "retry_for_s": 3,
    }
    assert fields["json_config"] == {"target_language": "es"}
    assert "type" not in fields


def test_setup_passes_a_json_config_string_as_it_is() -> None:
    assert json.loads(wire.build_setup({"json_config": "{}"}))["json_config"] == "{}"


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (wire.build_audio(b"\x00\x00\xff\xff"), {"type": "audio", "audio": "AAD//w=="}),
        (wire.build_audio(b"", 'a"b'), {"type": "audio", "audio": "", "client_req_id": 'a"b'}),
        (wire.build_end_of_stream(), {"type": "end_of_stream"}),
        (wire.build_end_of_stream("u7"), {"type": "end_of_stream", "client_req_id": "u7"}),
        (wire.build_flushed("4", "u7"), {"type": "flushed", "flush_id": "4", "client_req_id": "u7"}),
        (
            wire.build_ready("r", "default", 8000, 640),
            {
                "type": "ready",
                "request_id": "r",
                "model_name": "default",
                "sample_rate": 8000,
                "frame_size": 640,
                "audio_stream_names": [],
                "text_stream_names": [],
            },
        ),
        (
            wire.build_output_audio(b"\x01\x02", 0.16, 0.24, "u7"),
            {
                "type": "audio",
                "audio": "AQI=",
                "client_req_id": "u7",
                "start_s": 0.16,
                "stop_s": 0.24,
                "stream_id": 0,
            },
        ),
        (
            wire.build_text("mañana", 0.0, 0.5),
            {"type": "text", "text": "mañana", "start_s": 0.0, "stop_s": 0.5, "stream_id": 0},
        ),
        (wire.build_error("no", 1008), {"type": "error", "message": "no", "code": 1008}),
    ],
)
def test_built_messages(built: str, expected: dict[str, Any]) -> None:
    assert json.loads(built) == expected


def test_parse_decodes_audio() -> None:
    assert wire.parse_message('{"type":"audio","audio":"AAD//w=="}') == {"type": "audio", "audio": b"\x00\x00\xff\xff"}


@pytest.mark.parametrize("text", ['{"audio":"AAAA"}', '{"type":7}', '{"type":null}', "[]", "", "nonsense"])
def test_parse_refuses_what_is_no_message(text: str) -> None:
    with pytest.raises(WireError):
        wire.parse_message(text)


def test_parse_setup_fills_in_the_defaults_of_the_service() -> None:
    assert wire.parse_setup({"type": "setup", "voice": None, "json_config": None}) == wire.SetupFields(
        model_name="default",
        input_format="wav",
        output_format="wav",
        voice_id=None,
        source_language=None,
        target_language=None,
        close_ws_on_eos=True,
    )


@pytest.mark.parametrize("config", [{"target_language": "es", "x": 1}, '{"target_language":"es","x":1}'])
def test_parse_setup_takes_json_config_as_object_or_string(config: object) -> None:
    assert wire.parse_setup({"json_config": config}).target_language == "es"


@pytest.mark.parametrize(
    ("fields", "says", "code"),
    [
        ({"input_format": "mp3"}, "unsupported input format 'mp3', expected one of pcm, pcm_8000", 1008),
        ({"output_format": "pcm_11025"}, "unsupported output format 'pcm_11025'", 1008),
        ({"input_format": 5}, "expected input_format to be str, got int", 1008),
        ({"voice_id": []}, "expected voice_id to be str, got list", 1008),
        ({"close_ws_on_eos": "no"}, "expected close_ws_on_eos to be bool, got str", 1008),
        ({"json_config": "{"}, "json_config is not valid JSON", 1011),
        ({"json_config": "[" * 100_000}, "json_config is not valid JSON", 1011),
        ({"json_config": "[]"}, "expected json_config to be an object, got list", 1011),
        ({"json_config": {"target_language": "xx"}}, "unsupported target_language 'xx', expected one of en", 1011),
        ({"json_config": {"target_language": ["es"]}}, "unsupported target_language", 1011),
    ],
)
def test_parse_setup_refuses(fields: dict[str, object], says: str, code: int) -> None:
    with pytest.raises(wire.SetupRefused) as caught:
        wire.parse_setup(fields)
    assert says in str(caught.value)
    assert caught.value.code == code
