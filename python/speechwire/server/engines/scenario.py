"""Scenarios: what the scripted engine hears and says, from a file that is checked key by key before it is used.

`SCENARIO` is the format. The checker goes by it, and so do the reference and the JSON Schema under docs.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from speechwire.codec import Resampler, Transcoder, WavReader
from speechwire.errors import AudioError
from speechwire.events import Failure, FailureKind
from speechwire.server.engines import EngineError
from speechwire.server.engines.schema import Choice, Items, Keys, Kind, Number, Span, Text, wrong

__all__ = ["SCENARIO", "Recording", "Script", "Tone", "Turn", "load_scripts"]

DEFAULT_TONE_HZ: Final = 440
MAX_DURATION_S: Final = 60
MAX_DELAY_MS: Final = 600_000
MAX_POSITION_S: Final = 86_400  # of a stream; a day
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024
# The rates in use divide one of these, and so does what their filters need: what suits both suits every client.
_HARDEST_RATES: Final = (44100, 48000)
_MAX_TONE_HZ: Final = 3500  # is heard at every rate of output


_AUDIO: Final = Keys(
    "what is heard",
    {
        "tone_hz": Number("pitch of a tone; 0 is silence", 0, _MAX_TONE_HZ, DEFAULT_TONE_HZ, whole=True),
        "duration_s": Number("length; default: 60 ms for each character of the text, as speech has", 0, MAX_DURATION_S),
        "file": Text("a WAV file, from the folder of the scenario; stands alone"),
    },
    alone="file",
)
_ERROR: Final = Keys(
    "ends the request, after the text and audio of the turn",
    {
        "message": Text("what the client reads; for `duration` and `busy`, the service's own words stand in its place"),
        "kind": Text(
            "whose fault it is: ours, the client's, or that of a limit",
            tuple(kind.value for kind in FailureKind),
            FailureKind.INTERNAL.value,
        ),
    },
    required=("message",),
)
_DELAY: Final = Number("time to wait before the answer; nothing else is said meanwhile", 0, MAX_DELAY_MS, 0)
_PLACE: Final[Mapping[str, Kind]] = {
    "speech_s": Span("where the stream has the speech that is answered, in seconds of audio", 0, MAX_POSITION_S),
    "at_s": Number("seconds of audio after which it is answered; default: the end of `speech_s`", 0, MAX_POSITION_S),
}


def _session(product: str, about: str, wants: Mapping[str, Kind], turn: Mapping[str, Kind]) -> Keys:
    keys: dict[str, Kind] = {
        "product": Text("which requests it serves: interpreting, recognition or synthesis", (product,)),
        **wants,
        "nth": Number("only this one of the requests that the other keys fit; 1 is the first", 1, 1000, whole=True),
        "turns": Items("what is answered, in this order", Keys("one answer", turn)),
    }
    return Keys(about, keys, required=("product", "turns"))


_LANGUAGE: Final = Text(
    "only requests with speech in this language, two letters; it comes in, in synthesis it goes out"
)
_TARGET: Final = Text("only requests to translate into this language")
_VOICE: Final = Text("only requests for the voice with this id")
_TEXT: Final = Text("what is said")

SCENARIO: Final = Keys(
    "What the scripted engine of Speechwire hears and says.",
    {
        "sessions": Items(
            "a request is served by the first of these that fits it",
            Choice(
                "how one request is served",
                "product",
                {
                    "s2s": _session(
                        "s2s",
                        "interpreting",
                        {"language": _LANGUAGE, "target_language": _TARGET, "voice": _VOICE},
                        {**_PLACE, "delay_ms": _DELAY, "text": _TEXT, "audio": _AUDIO, "error": _ERROR},
                    ),
                    "stt": _session(
                        "stt",
                        "recognition",
                        {"language": _LANGUAGE, "target_language": _TARGET},
                        {**_PLACE, "delay_ms": _DELAY, "text": _TEXT, "error": _ERROR},
                    ),
                    "tts": _session(
                        "tts",
                        "synthesis",
                        {"language": _LANGUAGE, "voice": _VOICE},
                        {
                            "sentence": Text("answer only a sentence that contains this"),
                            "delay_ms": _DELAY,
                            "audio": _AUDIO,
                            "error": _ERROR,
                        },
                    ),
                },
            ),
        )
    },
    required=("sessions",),
    separator=": ",
)


@dataclass(frozen=True, slots=True)
class Tone:
    """A sine, or silence where `hz` is 0; of the length of the text where `duration_s` is None."""

    hz: int = DEFAULT_TONE_HZ
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """s16le mono PCM at its own rate in Hz."""

    pcm: bytes
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer; its fields are the keys of the file.

    Args:
        at_s: Seconds of audio after which it is given; None for the end of the next utterance or sentence.
        speech_s: Where its speech begins and ends in the stream.
        sentence: What a sentence has to contain.
        delay_s: Wait before it.
        text: What is said, if anything.
        audio: What is heard, if anything.
        failure: What ends the request behind it, if anything.
    """

    at_s: float | None = None
    speech_s: tuple[float, float] | None = None
    sentence: str = ""
    delay_s: float = 0.0
    text: str | None = None
    audio: Tone | Recording | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """What one request gets.

    Args:
        product: The kind of request: s2s, stt or tts.
        wants: What else the request must have asked for, by key.
        nth: Which of these requests it is, from 1; None for all of them.
        turns: The answers.
    """

    product: str
    wants: Mapping[str, str] = field(default_factory=dict)
    nth: int | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def has_places(self) -> bool:
        """True if the turns say where they stand in the stream."""
        return any(turn.at_s is not None for turn in self.turns)


def load_scripts(path: Path) -> tuple[Script, ...]:
    """Read a scenario and everything that it names.

    Args:
        path: A file in JSON (`.json`) or YAML (`.yaml`, `.yml`).

    Raises:
        ValueError: Something in it is not what it should be; the message names the file and the place.
        EngineError: YAML cannot be read here; the message has the line that installs it.
        OSError: The file cannot be read.
    """
    try:
        document = _read(path)
        SCENARIO.check(document, str(path))
    except RecursionError as error:
        raise ValueError(f"{path}: expected a scenario, got one too deep to read") from error
    except ValueError as error:
        # Those of single values, such as a date that there is none or a number of 5000 digits, name no file.
        raise error if str(error).startswith(str(path)) else ValueError(f"{path}: {error}") from error
    return tuple(
        _script(session, f"{path}: sessions[{number}]", path.parent)
        for number, session in enumerate(document["sessions"])
    )


def _read(path: Path) -> Any:
    try:
        text = _read_file(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got {error}") from error
    if path.suffix == ".json":
        try:
            return json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, str(path)))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON: {error}") from error
    if path.suffix not in {".yaml", ".yml"}:
        raise ValueError(f"{path}: expected a name that ends in .json, .yaml or .yml, got {path.name!r}")
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise EngineError(f"{path}: YAML needs {error.name}: pip install 'speechwire[script]'") from error
    try:
        for node in _nodes(yaml.compose(text, yaml.SafeLoader)):
            _without_doubles(((str(key.value), None) for key, _ in node.value), str(path))
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def _read_file(path: Path) -> bytes:
    """Return what a file holds; a pipe or a device might never end."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    size = path.stat().st_size
    if size > _MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"expected at most {_MAX_FILE_BYTES} bytes, got {size}", str(path))
    return path.read_bytes()


def _nodes(root: Any) -> Iterable[Any]:
    """Yield the mappings below a node of YAML; the loader itself would take the last of two equal keys."""
    waiting = [root] if root is not None else []
    seen = set()  # an alias may lead back
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id == "mapping":
            yield node
            waiting += [value for _, value in node.value]
        elif node.id == "sequence":
            waiting += node.value


def _without_doubles(pairs: Iterable[tuple[str, Any]], place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise wrong(place, "each key once in its object", key)
        found[key] = value
    return found


def _script(session: dict[str, Any], place: str, folder: Path) -> Script:
    product = session["product"]
    turns = tuple(
        _turn(turn, product, f"{place}.turns[{number}]", folder) for number, turn in enumerate(session["turns"])
    )
    script = Script(
        product,
        {key: session[key] for key in ("voice", "language", "target_language") if key in session},
        session.get("nth"),
        turns,
    )
    if script.has_places:
        _check_places(script, place)
    return script


def _turn(turn: dict[str, Any], product: str, place: str, folder: Path) -> Turn:
    speech_s = turn.get("speech_s")
    at_s = turn.get("at_s", speech_s and speech_s[1])
    error = turn.get("error")
    return Turn(
        at_s=at_s,
        speech_s=speech_s and tuple(speech_s),
        sentence=turn.get("sentence", ""),
        delay_s=turn.get("delay_ms", 0) / 1000,
        text=turn.get("text"),
        audio=_audio(turn, product, place, folder),
        failure=error and Failure(error["message"], FailureKind(error.get("kind", FailureKind.INTERNAL))),
    )


def _audio(turn: dict[str, Any], product: str, place: str, folder: Path) -> Tone | Recording | None:
    audio = turn.get("audio")
    is_spoken = "text" in turn if product == "s2s" else product == "tts"
    if audio is None:
        # An error in synthesis comes in the place of the sentence.
        return Tone() if is_spoken and not (product == "tts" and "error" in turn) else None
    if "file" in audio:
        return _recording(folder / audio["file"], f"{place}.audio.file")
    if "duration_s" not in audio and not is_spoken:
        raise wrong(f"{place}.audio", "'duration_s' or 'file' where there is no text", list(audio))
    return Tone(int(audio.get("tone_hz", DEFAULT_TONE_HZ)), audio.get("duration_s"))


def _recording(path: Path, place: str) -> Recording:
    try:
        wav = _read_file(path)
        reader = WavReader()
        reader.feed(wav)
        reader.close()
        assert reader.sample_rate is not None  # close has checked it
        for output_rate in _HARDEST_RATES:
            Resampler(reader.sample_rate, output_rate)
        mono = Transcoder("wav", f"pcm_{reader.sample_rate}")
        return Recording(b"".join([*mono.feed(wav), *mono.flush()]), reader.sample_rate)
    except (AudioError, OSError, ValueError) as error:  # the last is of a name with a NUL in it
        what = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{place}: expected a WAV file, got {str(path)!r}: {what}") from error


def _check_places(script: Script, place: str) -> None:
    reached_s = heard_s = 0.0
    for number, turn in enumerate(script.turns):
        here = f"{place}.turns[{number}]"
        if turn.at_s is None:
            raise wrong(here, "at_s or speech_s, as other turns of the session have", None)
        if turn.at_s < reached_s:
            raise wrong(here, f"a turn at {reached_s:g} s or later", turn.at_s)
        if turn.speech_s is not None:
            start_s, stop_s = turn.speech_s
            if start_s < heard_s:
                raise wrong(f"{here}.speech_s[0]", f"{heard_s:g} or more, where the speech before ends", start_s)
            if turn.at_s < stop_s:
                raise wrong(f"{here}.at_s", f"{stop_s:g} or more, where the speech ends", turn.at_s)
            heard_s = stop_s
        reached_s = turn.at_s
