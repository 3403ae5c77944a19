"""JSON messages with one base64 field beside others: from bytes to text and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import material
from machine import load_peer
from speechwire.codec import decode_message, encode_audio_message
from timing import Cell, Row, Settings, Table, cells, over, time_interleaved, verdict

Build = Callable[[bytes], str]
Parse = Callable[[str], bytes]
BASELINE = "json, base64"
DURATIONS_MS = (20, 80, 320)
SAMPLE_RATE = 24000
POOL = 32
TEXT = """\
`{"type":"audio","audio":"..."}` with so much 16-bit PCM of 24 kHz, `bytes` on one side and `str` on the other;
microseconds per message, in brackets how many times as fast as json and base64. *Correct*: the message says the same
as that of json and base64"""
TEXT_PARSE = ", and base64 with foreign characters, without its padding or of the URL alphabet is refused."
# A lax decoder drops the foreign characters and is left with "AAAA".
BAD_BASE64 = {"foreign characters": "AAAA!!!!", "missing padding": "AAA", "the URL alphabet": "-_-_"}


def contestants() -> dict[str, tuple[Build | None, Parse] | None]:
    """Return names with what builds and what parses; None stands for a library that is not installed."""
    orjson, pybase64, msgspec = load_peer("orjson"), load_peer("pybase64"), load_peer("msgspec")
    both = orjson is not None and pybase64 is not None
    return {
        "speechwire": (encode_audio_message, lambda text: bytes(decode_message(text)["audio"])),
        BASELINE: (
            lambda audio: json.dumps({"type": "audio", "audio": base64.b64encode(audio).decode()}),
            lambda text: base64.b64decode(json.loads(text)["audio"]),
        ),
        "orjson, pybase64": (
            lambda audio: orjson.dumps({"type": "audio", "audio": pybase64.b64encode_as_string(audio)}).decode(),
            lambda text: bytes(pybase64.b64decode(orjson.loads(text)["audio"])),
        )
        if both
        else None,
        "orjson, pybase64 validate=True": (
            None,
            lambda text: bytes(pybase64.b64decode(orjson.loads(text)["audio"], validate=True)),
        )
        if both
        else None,
        "msgspec, typed": msgspec_pair(msgspec) if msgspec else None,
    }


def msgspec_pair(msgspec: Any) -> tuple[Build, Parse]:
    message = msgspec.defstruct("Message", [("type", str), ("audio", bytes)])
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(message)
    return (
        lambda audio: encoder.encode(message("audio", audio)).decode(),
        lambda text: bytes(decoder.decode(text).audio),
    )


def judge_build(build: Build, audio: bytes) -> str:
    message = json.loads(build(audio))
    same = message == {"type": "audio", "audio": base64.b64encode(audio).decode()}
    return verdict([] if same else ["another message"])


def judge_parse(parse: Parse, audio: bytes) -> str:
    text = json.dumps({"type": "audio", "audio": base64.b64encode(audio).decode()})
    faults = [] if parse(text) == audio else ["other audio"]
    return verdict(
        faults + [f"takes {fault}" for fault, audio_field in BAD_BASE64.items() if takes(parse, audio_field)]
    )


def takes(parse: Parse, audio_field: str) -> bool:
    try:
        parse(f'{{"type":"audio","audio":"{audio_field}"}}')
    except Exception:  # every library has its own
        return False
    return True


def measure(settings: Settings) -> list[Table]:
    """Compare building and parsing."""
    pairs = contestants()
    present = {name: pair for name, pair in pairs.items() if pair is not None}
    absent = [name for name in pairs if name not in present]
    builds = {name: build for name, (build, _) in present.items() if build is not None}
    parses = {name: parse for name, (_, parse) in present.items()}
    build_times: dict[str, list[Cell]] = {name: [] for name in builds}
    parse_times: dict[str, list[Cell]] = {name: [] for name in parses}
    for duration_ms in DURATIONS_MS:
        settings.report(f"messages of {duration_ms} ms")
        frame_bytes = SAMPLE_RATE * duration_ms // 1000 * 2
        frames = material.cut(material.speech(SAMPLE_RATE, POOL * frame_bytes // 2), frame_bytes)
        texts = [encode_audio_message(frame) for frame in frames]
        build_calls = {name: over(build, frames) for name, build in builds.items()}
        for name, cell in cells(time_interleaved(build_calls, settings), BASELINE, POOL).items():
            build_times[name].append(cell)
        parse_calls = {name: over(parse, texts) for name, parse in parses.items()}
        for name, cell in cells(time_interleaved(parse_calls, settings), BASELINE, POOL).items():
            parse_times[name].append(cell)
    audio, columns = material.speech(SAMPLE_RATE, 1920), [f"{duration_ms} ms" for duration_ms in DURATIONS_MS]
    build_rows = [Row(name, build_times[name], judge_build(build, audio)) for name, build in builds.items()]
    parse_rows = [Row(name, parse_times[name], judge_parse(parse, audio)) for name, parse in parses.items()]
    return [
        Table("Audio messages, build", f"{TEXT}.", BASELINE, columns, build_rows, absent),
        Table("Audio messages, parse", TEXT + TEXT_PARSE, BASELINE, columns, parse_rows, absent),
    ]
