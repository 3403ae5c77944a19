from __future__ import annotations

import builtins
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import script_tables
from speechwire.codec import WavWriter
from speechwire.events import Failure, FailureKind
from speechwire.server.engines import EngineError
from speechwire.server.engines.scenario import SCENARIO, Recording, Script, Tone, Turn, load_scripts

SCHEMA = jsonschema.Draft202012Validator(json.loads(script_tables.SCHEMA.read_text()))

TALK = """
sessions:
  - product: s2s
    language: en
    target_language: es
    voice: v1
    nth: 2
    turns:
      - speech_s: [0.5, 1.5]
        delay_ms: 300
        text: Hola.
      - at_s: 2
        audio: {tone_hz: 0, duration_s: 1.5}
      - speech_s: [2, 3]
        at_s: 3.5
        text: Adiós.
        audio: {tone_hz: 600}
        error: {message: gone, kind: busy}
  - product: stt
    turns: [{text: Hello}, {}]
  - product: tts
    turns:
      - sentence: price
      - error: {message: gone}
"""

SCRIPTS = (
    Script(
        "s2s",
        {"language": "en", "target_language": "es", "voice": "v1"},
        2,
        (
            Turn(at_s=1.5, speech_s=(0.5, 1.5), delay_s=0.3, text="Hola.", audio=Tone()),
            Turn(at_s=2, audio=Tone(0, 1.5)),
            Turn(
                at_s=3.5,
                speech_s=(2, 3),
                text="Adiós.",
                audio=Tone(600),
                failure=Failure("gone", FailureKind.BUSY),
            ),
        ),
    ),
    Script("stt", turns=(Turn(text="Hello"), Turn())),
    Script("tts", turns=(Turn(sentence="price", audio=Tone()), Turn(failure=Failure("gone")))),
)


def load(folder: Path, text: str, name: str = "talk.yaml") -> tuple[Script, ...]:
    path = folder / name
    path.write_text(text, "utf-8")
    return load_scripts(path)


def one(turns: str, product: str = "s2s") -> str:
    return f"sessions: [{{product: {product}, turns: [{turns}]}}]"


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    import yaml

    assert load(tmp_path, TALK) == SCRIPTS
    assert load(tmp_path, TALK, "talk.yml") == SCRIPTS
    assert load(tmp_path, json.dumps(yaml.safe_load(TALK)), "talk.json") == SCRIPTS


def test_recording_is_averaged_to_mono_at_its_own_rate(tmp_path: Path) -> None:
    stereo = b"\x10\x00\x20\x00" * 100
    header = bytearray(WavWriter(16000, data_bytes=400).header)
    header[22:24] = (2).to_bytes(2, "little")
    header[28:34] = (64000).to_bytes(4, "little") + (4).to_bytes(2, "little")
    (tmp_path / "hello.wav").write_bytes(bytes(header) + stereo)
    (script,) = load(tmp_path, one("{at_s: 0, audio: {file: hello.wav}}"))
    assert script.turns[0].audio == Recording(b"\x18\x00" * 100, 16000)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": expected an object with keys among sessions, got None"),
        ("[]", ": expected an object with keys among sessions, got []"),
        ("{}", ": expected a key 'sessions', got []"),
        ("sessions: {}", ": sessions: expected a list, got {}"),
        ("sessions: [], ", ": not YAML: "),
        ("sessions: []\nsessions: []", ": expected each key once in its object, got 'sessions'"),
        (one("{at_s: 1, at_s: 2}"), ": expected each key once in its object, got 'at_s'"),
        ("sessions: [{turns: []}]", ": sessions[0]: expected an object with a key 'product', one of s2s, stt, tts"),
        (one("", "asr"), ": sessions[0].product: expected one of s2s, stt, tts, got 'asr'"),
        ("sessions: [{product: stt}]", ": sessions[0]: expected a key 'turns', got ['product']"),
        ("sessions: [{product: stt, nth: 0, turns: []}]", ": sessions[0].nth: expected a whole number from 1 to 1000"),
        (one("{at_s: 1}, {at_s: soon}"), ".turns[1].at_s: expected a number from 0 to 86400, got 'soon'"),
        (one("{at_s: 1e1}"), ".turns[0].at_s: expected a number from 0 to 86400, got '1e1'"),
        (one("{at_s: .inf}"), ".turns[0].at_s: expected a number from 0 to 86400, got inf"),
        (one("{text: no}"), ".turns[0].text: expected a quoted text, got False"),
        (one("{text: 12:30}"), ".turns[0].text: expected a quoted text, got 750"),
        (one("{text: 2026-11-21}"), ".turns[0].text: expected a quoted text, got datetime.date(2026, 11, 21)"),
        (one("{delay_ms: -1}"), ".turns[0].delay_ms: expected a number from 0 to 600000, got -1"),
        (
            one("{text: a, audio: {tone_hz: high}}"),
            ".turns[0].audio.tone_hz: expected a whole number from 0 to 3500, got 'high'",
        ),
        (one("{text: a, audio: {tone: 1}}"), ".turns[0].audio: expected keys among tone_hz, duration_s, file"),
        (
            one("{audio: {file: a.wav, tone_hz: 1}}"),
            ".turns[0].audio: expected 'file' without other keys, got ['file', 'tone_hz']",
        ),
        (one("{audio: {tone_hz: 500}}"), ".turns[0].audio: expected 'duration_s' or 'file' where there is no text"),
        (one("{audio: {file: none.wav}}"), "none.wav': No such file or directory"),
        (one("{audio: {file: talk.yaml}}"), ".turns[0].audio.file: expected a WAV file, got "),
        (one("{error: gone}"), ".turns[0].error: expected an object with keys among message, kind, got 'gone'"),
        (one("{error: {}}"), ".turns[0].error: expected a key 'message', got []"),
        (
            one("{error: {message: gone, kind: fatal}}"),
            ".turns[0].error.kind: expected one of input, internal, duration, busy, got 'fatal'",
        ),
        (one("{sentence: a}"), ".turns[0]: expected keys among speech_s, at_s, delay_ms, text, audio, error"),
        (
            one("{audio: {duration_s: 1}}", "stt"),
            ".turns[0]: expected keys among speech_s, at_s, delay_ms, text, error",
        ),
        (one("{at_s: 1}", "tts"), ".turns[0]: expected keys among sentence, delay_ms, audio, error, got 'at_s'"),
        (one("{at_s: 1}, {text: a}"), ".turns[1]: expected at_s or speech_s, as other turns of the session have"),
        (one("{at_s: 2}, {at_s: 1.5}"), ".turns[1]: expected a turn at 2 s or later, got 1.5"),
        (one("{speech_s: [1, 2], at_s: 1.5}"), ".turns[0].at_s: expected 2 or more, where the speech ends, got 1.5"),
        (
            one("{speech_s: [1, 2]}, {speech_s: [1.5, 3]}"),
            ".turns[1].speech_s[0]: expected 2 or more, where the speech before ends, got 1.5",
        ),
        (
            one("{speech_s: [1, 2]}, {at_s: 2}, {speech_s: [1.5, 3]}"),
            ".turns[2].speech_s[0]: expected 2 or more, where the speech before ends, got 1.5",
        ),
        (one("{speech_s: [2, 1]}"), ".turns[0].speech_s: expected two growing numbers from 0 to 86400, got [2, 1]"),
        ("&a [*a]", ": expected an object with keys among sessions"),
        ("? [a]\n: b", ": not YAML: "),
    ],
)
def test_error_names_file_place_and_both_values(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path / 'talk.yaml'}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("talk.json", b"{", ": not JSON: "),
        ("talk.json", b'{"sessions": [], "sessions": []}', ": expected each key once in its object, got 'sessions'"),
        ("talk.json", b'{"sessions": "\xff"}', ": expected UTF-8, got "),
        ("talk.toml", b"", ": expected a name that ends in .json, .yaml or .yml, got 'talk.toml'"),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{path}{says}")):
        load_scripts(path)


def test_recording_of_a_rate_that_cannot_be_resampled_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "odd.wav").write_bytes(WavWriter(44101, data_bytes=2).feed(b"\0\0"))
    with pytest.raises(ValueError, match=r"\.audio\.file: expected a WAV file, got .* 44101 to 44100 Hz"):
        load(tmp_path, one("{audio: {file: odd.wav}}"))


def test_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_scripts(tmp_path / "talk.yaml")


def test_yaml_reads_times_and_octals_as_it_always_did(tmp_path: Path) -> None:
    (script,) = load(tmp_path, one("{at_s: 1:30}, {at_s: 0777}"))
    assert [turn.at_s for turn in script.turns] == [90, 511]


def test_yaml_that_is_not_installed_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_yaml(name: str, *arguments: Any) -> Any:
        if name == "yaml":
            raise ModuleNotFoundError(name=name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(EngineError, match=re.escape("YAML needs yaml: pip install 'speechwire[script]'")):
        load(tmp_path, TALK)
    assert load(tmp_path, '{"sessions": []}', "talk.json") == ()


NUMBERS = st.one_of(st.integers(-2, 90000), st.floats(-1, 700), st.sampled_from([440.0, True, None, "1"]))
TEXTS = st.one_of(st.text(max_size=3), st.none(), st.integers(), st.sampled_from(["s2s", "stt", "tts", "busy"]))
SPANS = st.one_of(
    st.lists(st.integers(0, 90000), min_size=2, max_size=2, unique=True).map(sorted),
    st.lists(NUMBERS, max_size=1),
    TEXTS,
)
AUDIO = st.fixed_dictionaries({}, optional={"tone_hz": NUMBERS, "duration_s": NUMBERS, "file": TEXTS, "x": TEXTS})
ERROR = st.fixed_dictionaries({}, optional={"message": TEXTS, "kind": TEXTS, "x": TEXTS})
TURN = st.fixed_dictionaries(
    {},
    optional={
        "at_s": NUMBERS,
        "speech_s": SPANS,
        "delay_ms": NUMBERS,
        "text": TEXTS,
        "sentence": TEXTS,
        "audio": AUDIO | TEXTS,
        "error": ERROR | TEXTS,
        "x": TEXTS,
    },
)
SESSION = st.fixed_dictionaries(
    {"product": st.sampled_from(["s2s", "stt", "tts"]), "turns": st.lists(TURN, max_size=2)},
    optional={"language": TEXTS, "target_language": TEXTS, "voice": TEXTS, "nth": NUMBERS, "x": TEXTS},
)


@given(st.fixed_dictionaries({"sessions": st.lists(SESSION, max_size=2)}) | TEXTS)
def test_checker_and_published_schema_agree(document: object) -> None:
    try:
        SCENARIO.check(document, "talk.json")
        passes = True
    except ValueError:
        passes = False
    assert SCHEMA.is_valid(document) == passes


def test_published_schema_is_a_schema_and_takes_what_is_shown(tmp_path: Path) -> None:
    import yaml

    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    SCHEMA.validate(yaml.safe_load(TALK))
    for example in re.findall(r"```yaml\n(.*?)```", script_tables.PAGE.read_text(), re.DOTALL):
        SCHEMA.validate(yaml.safe_load(example))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("deep.json", "[" * 100_000, "expected a scenario, got one too deep to read"),
        ("deep.yaml", "- " * 5000 + "a", "expected a scenario, got one too deep to read"),
        ("long.json", '{"sessions": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("date.yaml", "sessions: 2001-99-99", "month must be in 1..12"),
        ("nul.json", '{"sessions": [{"product": "tts", "turns": [{"audio": {"file": "\\u0000"}}]}]}', "embedded null"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_file(tmp_path: Path, name: str, text: str, error: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=error) as raised:
        load_scripts(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_what_might_never_end_is_not_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    device = tmp_path / "device.json"
    device.symlink_to("/dev/zero")
    for path in (fifo, device, tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            load_scripts(path)
    scenario = tmp_path / "talk.json"
    scenario.write_text('{"sessions": [{"product": "tts", "turns": [{"audio": {"file": "fifo.json"}}]}]}')
    with pytest.raises(ValueError, match=r"audio\.file: expected a WAV file, got .*fifo.json': not a regular file$"):
        load_scripts(scenario)
    with scenario.open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(OSError, match="expected at most 67108864 bytes, got 1073741824"):
        load_scripts(scenario)
