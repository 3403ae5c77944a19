"""Every message of the wire, against literal text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from speechwire.errors import WireError
from speechwire.events import (
    Audio,
    EndOfStream,
    EndText,
    Flush,
    Flushed,
    Inactivity,
    Pause,
    Ready,
    Text,
    Transcript,
    Unknown,
    VadStep,
)
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
            wire.build_ready(wire.S2S, "r", "default", 8000, 10),
            {
                "type": "ready",
                "request_id": "r",
                "model_name": "default",
                "model_ext": "speechwire-local-s2s",
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
    assert wire.parse_setup({"type": "setup", "voice": None, "json_config": None}, wire.S2S) == wire.SetupFields(
        model_name="default",
        input_format="wav",
        output_format="wav",
        voice_id=None,
        options={},
        close_ws_on_eos=True,
        retry_for_s=0.0,
    )


def test_parse_setup_knows_what_each_product_takes() -> None:
    message = {"input_format": "pcm", "output_format": "pcm", "voice": "Emma", "json_config": {"temp": 1.5, "x": 1}}
    stt = wire.parse_setup(message, wire.STT)
    assert (stt.input_format, stt.output_format, stt.options) == ("pcm", None, {"temp": 1.5})
    with pytest.raises(wire.SetupRefused, match=r"expected temp from 0 to 1\.4, got 1\.5"):
        wire.parse_setup(message, wire.TTS)
    tts = wire.parse_setup(message | {"json_config": None}, wire.TTS)
    assert (tts.input_format, tts.output_format, tts.voice_id) == (None, "pcm", "Emma")


OUT_OF_RANGE: list[tuple[wire.Product, dict[str, object], str]] = [
    (wire.TTS, {"padding_bonus": 4.1}, "expected padding_bonus from -4 to 4, got 4.1"),
    (wire.TTS, {"cfg_coef": 0.5}, "expected cfg_coef from 1 to 4, got 0.5"),
    (wire.TTS, {"temp": "hot"}, "expected temp to be float, got str"),
    (wire.TTS, {"temp": True}, "expected temp to be float, got bool"),
    (wire.TTS, {"temp": float("nan")}, "expected temp from 0 to 1.4, got nan"),
    (wire.TTS, {"rewrite_rules": "Date,TimeEs"}, "expected rewrite_rules that are known, got 'TimeEs'"),
    (wire.STT, {"delay_in_frames": 81}, "expected delay_in_frames from 0 to 80, got 81"),
    (wire.STT, {"delay_in_frames": 9.5}, "expected delay_in_frames to be int, got float"),
    (wire.STT, {"language": "it"}, "unsupported language 'it', expected one of en, fr, de, es, pt, any"),
    (wire.STT, {"keywords": ["a"]}, "parsing keywords: expected an object with a list of words, got list"),
    (wire.STT, {"keywords": {"words": ["a"] * 501}}, "expected at most 500 words, got 501"),
    (wire.STT, {"keywords": {"words": ["a"], "boost": 7}}, "expected boost from -6 to 6, got 7"),
    (wire.S2S, {"target_language": "xx"}, "unsupported target_language 'xx'"),
]


@pytest.mark.parametrize(("product", "config", "says"), OUT_OF_RANGE)
def test_options_outside_their_range_are_refused(product: wire.Product, config: dict[str, object], says: str) -> None:
    with pytest.raises(wire.SetupRefused) as caught:
        wire.check_options(config, product)
    assert says in str(caught.value)
    assert caught.value.code == 1011


def test_options_at_their_limits_and_unknown_ones_pass() -> None:
    wire.check_options(
        {"padding_bonus": -4, "temp": 1.4, "rewrite_rules": "en", "new_option": [1], "x": None}, wire.TTS
    )
    wire.check_options({"delay_in_frames": 80, "keywords": {"words": ["Lyon"], "boost": 6}, "temp": None}, wire.STT)


def test_the_tag_for_a_pause_is_read_back() -> None:
    assert wire.parse_spoken_text(wire.break_tag(0.1)) == [Pause(0.1)]
    with pytest.raises(WireError, match=r"expected a pause of 0\.1 to 2 s, got 3 s"):
        wire.break_tag(3)


def test_flushes_in_a_row_are_one() -> None:
    flush = Flush(answered=False)
    assert wire.parse_spoken_text(" <flush><flush> <flush>\na <flush> ") == [flush, Text("\na "), flush]
    parts = wire.parse_spoken_text('<flush><break time="1s" /><flush><flush>')
    assert parts == [flush, Pause(1.0), flush]
    assert wire.parse_spoken_text("<flush> " * (wire.MAX_TEXT_CHARACTERS // 8)) == [flush]


def test_a_text_to_be_spoken_has_a_greatest_length() -> None:
    assert wire.parse_spoken_text("x" * 1_048_576) == [Text("x" * 1_048_576)]
    with pytest.raises(WireError, match=r"^expected a text of at most 1048576 characters, got 1048577$"):
        wire.parse_spoken_text("x" * 1_048_577)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (
            '{"type":"ready","request_id":"r","sample_rate":24000,"frame_size":1920,"delay_in_frames":10}',
            Ready("r", 24000, 1920, "", 0.8),
        ),
        ('{"type":"audio","audio":"AAAA","start_s":0.5,"stop_s":0.75}', Audio(b"\0\0\0", 0.5, 0.75)),
        ('{"type":"text","text":"a","start_s":1}', Transcript("a", 1, None)),
        ('{"type":"end_text","stop_s":1.5}', EndText(1.5)),
        (
            '{"type":"step","vad":[{"horizon_s":0.5,"inactivity_prob":1}],"step_idx":3,"step_duration_s":0.08,'
            '"total_duration_s":0.32}',
            VadStep((Inactivity(0.5, 1),), 3, 0.08, 0.32),
        ),
        ('{"type":"flushed","flush_id":"a"}', Flushed("a")),
        ('{"type":"end_of_stream"}', EndOfStream()),
        ('{"type":"need_more_text"}', Unknown({"type": "need_more_text"})),
    ],
)
def test_messages_as_events(message: str, event: object) -> None:
    assert wire.parse_event(wire.parse_message(message)) == event


def test_recognition_may_find_the_language_itself() -> None:
    assert wire.parse_setup({"json_config": {"language": "any"}}, wire.STT).source_language is None
    assert wire.parse_setup({"json_config": {"language": "fr"}}, wire.STT).source_language == "fr"


@pytest.mark.parametrize("config", [{"target_language": "es", "x": 1}, '{"target_language":"es","x":1}'])
def test_parse_setup_takes_json_config_as_object_or_string(config: object) -> None:
    assert wire.parse_setup({"json_config": config}, wire.S2S).target_language == "es"


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
        ({"json_config": {"target_language": ["es"]}}, "expected target_language to be str, got list", 1011),
        ({"retry_for_s": -1}, "expected retry_for_s from 0 to 1.79769e+308, got -1", 1008),
        ({"retry_for_s": -0.5}, "expected retry_for_s from 0 to 1.79769e+308, got -0.5", 1008),
        ({"retry_for_s": float("nan")}, "expected retry_for_s from 0 to 1.79769e+308, got nan", 1008),
        ({"retry_for_s": -(10**400)}, "expected retry_for_s from 0 to 1.79769e+308, got -1000000", 1008),
        ({"retry_for_s": 10**400}, "expected retry_for_s from 0 to 1.79769e+308, got 1000000", 1008),
        ({"retry_for_s": True}, "expected retry_for_s to be int or float, got bool", 1008),
        ({"json_config": {"temp": 10**400}}, "expected temp from 0 to 1.4, got 1000000", 1011),
        ({"input_format": "x" * 10**6}, "unsupported input format 'xxxxxx", 1008),
        ({"json_config": {"target_language": "x" * 10**6}}, "unsupported target_language 'xxxxxx", 1011),
    ],
)
def test_parse_setup_refuses(fields: dict[str, object], says: str, code: int) -> None:
    with pytest.raises(wire.SetupRefused) as caught:
        wire.parse_setup(fields, wire.S2S)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.code == code
