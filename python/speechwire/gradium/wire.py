"""The Gradium wire: every message name, field, format, code and text, once.

Sources are Gradium's public documents: the S2S guide and settings pages, the WebSocket lifecycle page, the OpenAPI
document, and the published Python SDK 0.6.4. Where these are silent, the value here is our choice and says so.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from speechwire._core import decode_message, encode_audio_message
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
    Reconnected,
    ServiceEvent,
    Text,
    Transcript,
    Unknown,
    VadStep,
)

__all__ = [
    "ANY_LANGUAGE",
    "API_KEY_HEADER",
    "API_SOURCE_HEADER",
    "AUDIO",
    "AUTHORIZATION_HEADER",
    "AUTHORIZATION_SCHEME",
    "BAD_CREDENTIALS",
    "BASE_URL",
    "BREAK_SECONDS",
    "CLOSE_INTERNAL",
    "CLOSE_NORMAL",
    "CLOSE_POLICY",
    "CLOSE_PROTOCOL",
    "DEFAULT_DELAY_FRAMES",
    "DEFAULT_FORMAT",
    "DEFAULT_MODEL",
    "DEFAULT_VOICES",
    "DEFAULT_VOICE_NAME",
    "END_OF_STREAM",
    "END_TEXT",
    "ERROR",
    "FLUSH",
    "FLUSHED",
    "FLUSH_TAG",
    "FORMATS",
    "FRAME_MS",
    "G711_FORMATS",
    "INPUT_PCM_SAMPLE_RATE",
    "INVALID_MESSAGE",
    "LANGUAGES",
    "LOCAL_MODEL_PREFIX",
    "MAX_KEYWORDS",
    "MAX_MESSAGE_CHARACTERS",
    "MAX_NAME_CHARACTERS",
    "MAX_TEXT_CHARACTERS",
    "NO_CREDENTIALS",
    "NO_SESSION",
    "OPUS",
    "OUTPUT_PCM_SAMPLE_RATE",
    "PCM_SAMPLE_RATES",
    "PRODUCTS",
    "READY",
    "RECONNECTED",
    "REWRITE_RULES",
    "S2S",
    "S2S_OPTIONS",
    "S2S_ROUTE",
    "SESSION_TOO_LONG",
    "SETUP",
    "STEP",
    "STT",
    "STT_OPTIONS",
    "STT_ROUTE",
    "STT_ROUTE_ALIAS",
    "TEXT",
    "TOKEN_PARAMETER",
    "TOO_MANY_SESSIONS",
    "TTS",
    "TTS_OPTIONS",
    "TTS_ROUTE",
    "WAV",
    "WAV_HEADER_BYTES",
    "Keywords",
    "Option",
    "Product",
    "S2SOptions",
    "S2SSetup",
    "STTOptions",
    "STTSetup",
    "SetupFields",
    "SetupRefused",
    "TTSOptions",
    "TTSSetup",
    "break_tag",
    "build_audio",
    "build_end_of_stream",
    "build_end_text",
    "build_error",
    "build_flush",
    "build_flushed",
    "build_output_audio",
    "build_ready",
    "build_setup",
    "build_step",
    "build_text",
    "build_text_input",
    "check_audio",
    "check_end_text",
    "check_options",
    "check_step",
    "check_text",
    "input_codec_format",
    "is_auth_error",
    "output_codec_format",
    "parse_event",
    "parse_message",
    "parse_setup",
    "parse_spoken_text",
    "session_already_active",
]

# Endpoints and authentication (API reference).
BASE_URL: Final = "https://api.gradium.ai/api/"
TTS_ROUTE: Final = "speech/tts"
STT_ROUTE: Final = "speech/asr"
STT_ROUTE_ALIAS: Final = "speech/stt"  # what the JavaScript and Go clients call
S2S_ROUTE: Final = "speech/s2s"
API_KEY_HEADER: Final = "x-api-key"
API_SOURCE_HEADER: Final = "x-api-source"
# What clients of self-hosted servers send in place of the key's own header (published SDK, examples).
AUTHORIZATION_HEADER: Final = "authorization"
AUTHORIZATION_SCHEME: Final = "Api-Key"
TOKEN_PARAMETER: Final = "token"  # noqa: S105 - the name of a query parameter, not a secret

# Message types (WebSocket lifecycle page).
SETUP: Final = "setup"
READY: Final = "ready"
AUDIO: Final = "audio"
TEXT: Final = "text"
FLUSH: Final = "flush"
FLUSHED: Final = "flushed"
END_TEXT: Final = "end_text"
STEP: Final = "step"
END_OF_STREAM: Final = "end_of_stream"
ERROR: Final = "error"
RECONNECTED: Final = "reconnected"  # never on the wire: how a client that reconnects tells its application

# Codes of `error` messages, used as close codes too (errors page; that they match is our choice).
CLOSE_NORMAL: Final = 1000
CLOSE_PROTOCOL: Final = 1002
CLOSE_POLICY: Final = 1008
CLOSE_INTERNAL: Final = 1011

LANGUAGES: Final = ("en", "fr", "de", "es", "pt")
ANY_LANGUAGE: Final = "any"  # leaves it to recognition to find the language (pipecat's pull request 5444)
FRAME_MS: Final = 80
# One catalogue voice for each language (voices page).
DEFAULT_VOICES: Final = {
    "en": "YTpq7expH9539ERJ",
    "fr": "b35yykvVppLXyw_l",
    "de": "-uP9MuGtBqAvEyxI",
    "es": "B36pbz5_UoWn4BDl",
    "pt": "pYcGZz9VOo4n2ynh",
}
DEFAULT_VOICE_NAME: Final = "default"  # of `voice` (text-to-speech reference); it names none
DEFAULT_MODEL: Final = "default"
LOCAL_MODEL_PREFIX: Final = "speechwire-local-"  # of `model_ext`, by which the local server names itself
DEFAULT_FORMAT: Final = "wav"  # what the server assumes where setup names none (OpenAPI document)

# Our choice: room for one whole 300 s session of 48 kHz PCM in one base64 message.
MAX_MESSAGE_CHARACTERS: Final = 40 * 1024 * 1024
MAX_TEXT_CHARACTERS: Final = 1024 * 1024  # of one `text` to be spoken, our choice too: some 19 hours of speech
MAX_NAME_CHARACTERS: Final = 256  # of a `client_req_id`, our choice too
_LARGEST_NUMBER: Final = 1e9  # 30 years in seconds; our choice
_SHOWN: Final = 200  # characters of a wrong value that an error shows

# Texts that the service is known to send (lifecycle and errors pages, skills repository).
NO_SESSION: Final = "Session not found. Send setup first."
NO_CREDENTIALS: Final = "No authentication provided"
BAD_CREDENTIALS: Final = "API key is revoked or expired"
INVALID_MESSAGE: Final = "Message validation error"
TOO_MANY_SESSIONS: Final = "Concurrency limit exceeded"
SESSION_TOO_LONG: Final = "session duration limit exceeded"

PCM_SAMPLE_RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
INPUT_PCM_SAMPLE_RATE: Final = 24000  # bare "pcm" on its way to the service
OUTPUT_PCM_SAMPLE_RATE: Final = 48000  # bare "pcm" on its way back, and "wav" too
WAV_HEADER_BYTES: Final = 44
WAV: Final = "wav"
OPUS: Final = "opus"  # in Ogg
G711_FORMATS: Final = ("ulaw_8000", "mulaw_8000", "alaw_8000")
FORMATS: Final = ("pcm", *(f"pcm_{rate}" for rate in PCM_SAMPLE_RATES), WAV, OPUS, *G711_FORMATS)


# Tags inside the text to be spoken (text-to-speech guide): give out what is pending, and a pause of 0.1 to 2.0 s.
FLUSH_TAG: Final = "<flush>"
BREAK_SECONDS: Final = (0.1, 2.0)
_TAG: Final = re.compile(r'<flush>|<break\s+time="([^"]*)"\s*/>')

# Recognition looks ahead by this many frames of 80 ms unless told otherwise (transcription settings page).
DEFAULT_DELAY_FRAMES: Final = 10
MAX_KEYWORDS: Final = 500
REWRITE_RULES: Final = frozenset(
    {
        *LANGUAGES,
        "Date",
        "AlNum",
        *(f"Time{language}" for language in ("En", "Fr", "De")),
        *(f"{rule}{lang}" for rule in ("Number", "Email", "Url", "Phone") for lang in ("En", "Fr", "De", "Es", "Pt")),
    }
)


# --- products and their options


@dataclass(frozen=True, slots=True)
class Option:
    """What one key of `json_config` may hold.

    Args:
        type: float, int, str or dict.
        low: Smallest number, or None.
        high: Largest number, or None.
        values: The strings that are known, or () for any.
        default: What the service does without it, where that is documented.
    """

    type: type[Any]
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    default: float | str | None = None


_LANGUAGE: Final = Option(str, values=LANGUAGES)
_PADDING_BONUS: Final = Option(float, -4.0, 4.0, default=0.0)
_DELAY: Final = Option(int, 0, 80, default=DEFAULT_DELAY_FRAMES)

# Voice settings page. The three paddings stand in an official example without a range.
TTS_OPTIONS: Final[Mapping[str, Option]] = {
    "padding_bonus": _PADDING_BONUS,
    "temp": Option(float, 0.0, 1.4, default=0.7),
    "cfg_coef": Option(float, 1.0, 4.0, default=2.0),
    "rewrite_rules": Option(str),
    "language": _LANGUAGE,
    "max_padding": Option(int),
    "padding_between": Option(int),
    "max_padding_per_token": Option(int),
}
# Transcription settings page; `delay_in_tokens` is the older name of `delay_in_frames`.
STT_OPTIONS: Final[Mapping[str, Option]] = {
    "language": Option(str, values=(*LANGUAGES, ANY_LANGUAGE)),
    "delay_in_frames": _DELAY,
    "delay_in_tokens": _DELAY,
    "temp": Option(float, 0.0, 1.5, default=0.0),
    "padding_bonus": _PADDING_BONUS,
    "keywords": Option(dict),
    "target_language": _LANGUAGE,
}
# Speech-to-speech settings page for the target language. That the inner stages take their own options is our choice.
S2S_OPTIONS: Final[Mapping[str, Option]] = {
    "target_language": _LANGUAGE,
    "language": _LANGUAGE,
    "delay_in_frames": _DELAY,
    "delay_in_tokens": _DELAY,
    "padding_bonus": _PADDING_BONUS,
    "temp": Option(float, 0.0, 1.4, default=0.7),
    "cfg_coef": Option(float, 1.0, 4.0, default=2.0),
}


@dataclass(frozen=True, slots=True)
class Product:
    """One of the three services that share this wire.

    Args:
        name: "tts", "stt" or "s2s".
        route: Of its WebSocket, below the base URL.
        audio_in: Audio goes to the service; otherwise text does.
        audio_out: Audio comes back; otherwise only text does.
        options: What `json_config` may hold.
    """

    name: str
    route: str
    audio_in: bool
    audio_out: bool
    options: Mapping[str, Option]


TTS: Final = Product("tts", TTS_ROUTE, audio_in=False, audio_out=True, options=TTS_OPTIONS)
STT: Final = Product("stt", STT_ROUTE, audio_in=True, audio_out=False, options=STT_OPTIONS)
S2S: Final = Product("s2s", S2S_ROUTE, audio_in=True, audio_out=True, options=S2S_OPTIONS)
PRODUCTS: Final = (TTS, STT, S2S)


class TTSOptions(TypedDict, total=False):
    """The known keys of a text-to-speech `json_config`; ranges and defaults stand in `TTS_OPTIONS`."""

    padding_bonus: float
    temp: float
    cfg_coef: float
    rewrite_rules: str
    language: str
    max_padding: int
    padding_between: int
    max_padding_per_token: int


class Keywords(TypedDict, total=False):
    """Up to 500 single words that recognition is to expect, and how strongly: -6 to 6, 3 is advised."""

    words: list[str]
    boost: float


class STTOptions(TypedDict, total=False):
    """The known keys of a speech-to-text `json_config`; ranges and defaults stand in `STT_OPTIONS`."""

    language: str
    delay_in_frames: int
    delay_in_tokens: int
    temp: float
    padding_bonus: float
    keywords: Keywords
    target_language: str


class S2SOptions(TypedDict, total=False):
    """The known keys of a speech-to-speech `json_config`; ranges and defaults stand in `S2S_OPTIONS`."""

    target_language: str
    language: str
    delay_in_frames: int
    delay_in_tokens: int
    padding_bonus: float
    temp: float
    cfg_coef: float


class TTSSetup(TypedDict, total=False):
    """The documented fields of a text-to-speech setup; other keys are passed to the service unchanged."""

    model_name: str
    voice: str
    voice_id: str
    pronunciation_id: str
    output_format: str
    json_config: TTSOptions | Mapping[str, Any] | str
    client_req_id: str
    close_ws_on_eos: bool
    retry_for_s: float


class STTSetup(TypedDict, total=False):
    """The documented fields of a speech-to-text setup; other keys are passed to the service unchanged."""

    model_name: str
    input_format: str
    json_config: STTOptions | Mapping[str, Any] | str
    client_req_id: str
    close_ws_on_eos: bool
    retry_for_s: float


class S2SSetup(TypedDict, total=False):
    """The documented fields of a speech-to-speech setup; other keys are passed to the service unchanged."""

    model_name: str
    stt_model_name: str
    tts_model_name: str
    input_format: str
    output_format: str
    voice_id: str
    json_config: S2SOptions | Mapping[str, Any] | str
    client_req_id: str
    close_ws_on_eos: bool


# --- formats


def input_codec_format(wire_format: str) -> str:
    """Return the codec's name for an input format, with the rate written out."""
    return f"pcm_{INPUT_PCM_SAMPLE_RATE}" if wire_format == "pcm" else wire_format


def output_codec_format(wire_format: str) -> str:
    """Return the codec's name for an output format, with the rate written out."""
    return f"pcm_{OUTPUT_PCM_SAMPLE_RATE}" if wire_format == "pcm" else wire_format


# --- client to server


def build_setup(fields: Mapping[str, Any]) -> str:
    """Build `setup`. A `json_config` that is not a string is written as one, as the official SDK does."""
    message = {**fields, "type": SETUP}
    config = message.get("json_config")
    if config is not None and not isinstance(config, str):
        message["json_config"] = json.dumps(config)
    return json.dumps(message)


def build_audio(audio: bytes, client_req_id: str | None = None) -> str:
    """Build the client's `audio`."""
    return encode_audio_message(audio, client_req_id)


def build_text_input(text: str, client_req_id: str | None = None) -> str:
    """Build the client's `text`, a piece of what is to be spoken."""
    return _build({"type": TEXT, "text": text}, client_req_id)


def break_tag(seconds: float) -> str:
    """Return the tag that makes a pause of 0.1 to 2.0 s in the text to be spoken; a space stands on either side of it.

    Raises:
        WireError: A pause outside that range.
    """
    low, high = BREAK_SECONDS
    if not low <= seconds <= high:
        raise WireError(f"expected a pause of {low:g} to {high:g} s, got {seconds:g} s")
    return f'<break time="{seconds:g}s" />'


def build_flush(flush_id: object, client_req_id: str | None = None) -> str:
    """Build `flush`; any JSON value will come back in `flushed`."""
    return _build({"type": FLUSH, "flush_id": flush_id}, client_req_id)


def build_end_of_stream(client_req_id: str | None = None) -> str:
    """Build `end_of_stream`, the same in both directions."""
    return _build({"type": END_OF_STREAM}, client_req_id)


def build_flushed(flush_id: object, client_req_id: str | None = None) -> str:
    """Build `flushed`; the id goes back as it came, whatever its JSON type."""
    return _build({"type": FLUSHED, "flush_id": flush_id}, client_req_id)


# --- server to client


def build_ready(
    product: Product,
    request_id: str,
    model_name: str,
    sample_rate: int,
    delay_in_frames: int,
    client_req_id: str | None = None,
) -> str:
    """Build `ready`. The lists of names are required by the official Rust client, and empty."""
    fields: dict[str, object] = {
        "type": READY,
        "request_id": request_id,
        "model_name": model_name,
        "model_ext": f"{LOCAL_MODEL_PREFIX}{product.name}",
        "sample_rate": sample_rate,
        "frame_size": sample_rate * FRAME_MS // 1000,
        "text_stream_names": [],
    }
    if product.audio_out:
        fields["audio_stream_names"] = []
    else:
        # Clients of different ages read one or the other.
        fields["delay_in_frames"] = fields["delay_in_tokens"] = delay_in_frames
    return _build(fields, client_req_id)


def build_output_audio(audio: bytes, start_s: float, stop_s: float, client_req_id: str | None = None) -> str:
    """Build the server's `audio`: the client's with a span and a stream id behind it."""
    head = encode_audio_message(audio, client_req_id)
    return f'{head[:-1]},"start_s":{start_s!r},"stop_s":{stop_s!r},"stream_id":0}}'


def build_text(text: str, start_s: float, stop_s: float | None, client_req_id: str | None = None) -> str:
    """Build the server's `text`; recognition, which finds the end later, gives no `stop_s`."""
    fields: dict[str, object] = {"type": TEXT, "text": text, "start_s": start_s, "stream_id": 0}
    if stop_s is not None:
        fields["stop_s"] = stop_s
    return _build(fields, client_req_id)


def build_end_text(stop_s: float, client_req_id: str | None = None) -> str:
    """Build `end_text`, the end of the latest recognised `text`."""
    return _build({"type": END_TEXT, "stop_s": stop_s, "stream_id": 0}, client_req_id)


def build_step(step: VadStep, client_req_id: str | None = None) -> str:
    """Build `step`, what voice activity detection says of one more frame of input."""
    fields: dict[str, object] = {
        "type": STEP,
        "vad": [{"horizon_s": entry.horizon_s, "inactivity_prob": entry.probability} for entry in step.vad],
        "step_idx": step.step_idx,
        "step_duration_s": step.step_duration_s,
        "total_duration_s": step.total_duration_s,
    }
    return _build(fields, client_req_id)


def build_error(message: str, code: int, client_req_id: str | None = None) -> str:
    """Build `error`."""
    return _build({"type": ERROR, "message": message, "code": code}, client_req_id)


def _build(fields: dict[str, object], client_req_id: str | None) -> str:
    if client_req_id is not None:
        fields["client_req_id"] = client_req_id
    return json.dumps(fields)


# --- both


def parse_message(data: str | bytes) -> dict[str, Any]:
    """Parse one message; its `audio`, where there is one, is already bytes.

    Raises:
        WireError: Not one JSON object, no string `type`, or audio that is not strict base64.
    """
    message: dict[str, Any] = decode_message(data)
    if not isinstance(message.get("type"), str):
        raise WireError(f"expected a string field 'type', got {message.get('type')!r:.{_SHOWN}}")
    return message


class SetupRefused(WireError):
    """A `setup` that the service would answer with an `error` of this code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def check_audio(message: Mapping[str, Any]) -> None:
    """Raise WireError unless an `audio` message has audio, which parsing has decoded then, and numbers for times."""
    if "audio" not in message:
        raise WireError("expected a field 'audio' in an audio message")
    _check_span(message)


def check_text(message: Mapping[str, Any]) -> None:
    """Raise WireError unless a `text` message has a text, and numbers where it has times."""
    if not isinstance(message.get("text"), str):
        raise WireError(f"expected a string field 'text', got {message.get('text')!r:.{_SHOWN}}")
    _check_span(message)


def _check_span(message: Mapping[str, Any]) -> None:
    for name in ("start_s", "stop_s"):
        if not _is_number(message.get(name, 0.0)):
            raise WireError(f"expected a number in {name!r}, got {message[name]!r:.{_SHOWN}}")


def session_already_active(client_req_id: str | None) -> str:
    """Return the text that answers a `setup` for a request that is still running."""
    return "Session already active" if client_req_id is None else f"Session already active ({client_req_id})"


def check_step(message: Mapping[str, Any]) -> None:
    """Raise WireError unless a `step` message has its list of probabilities and its three numbers."""
    vad = message.get("vad")
    if not isinstance(vad, list) or not all(
        isinstance(entry, dict) and _is_number(entry.get("horizon_s")) and _is_number(entry.get("inactivity_prob"))
        for entry in vad
    ):
        raise WireError(f"expected a list of horizon_s and inactivity_prob in 'vad', got {vad!r:.{_SHOWN}}")
    for name in ("step_idx", "step_duration_s", "total_duration_s"):
        if not _is_number(message.get(name)):
            raise WireError(f"expected a number in {name!r}, got {message.get(name)!r:.{_SHOWN}}")
    if not message["step_duration_s"] > 0:
        raise WireError(f"expected step_duration_s above 0, got {message['step_duration_s']!r}")


def check_end_text(message: Mapping[str, Any]) -> None:
    """Raise WireError unless an `end_text` message has its time."""
    if not _is_number(message.get("stop_s")):
        raise WireError(f"expected a number in 'stop_s', got {message.get('stop_s')!r:.{_SHOWN}}")


def parse_event(message: Mapping[str, Any]) -> ServiceEvent:
    """Turn a checked message of the service into its typed form; types that are not known become `Unknown`."""
    kind = message["type"]
    if kind == AUDIO:
        return Audio(message["audio"], message.get("start_s", 0.0), message.get("stop_s", 0.0))
    if kind == TEXT:
        return Transcript(message["text"], message.get("start_s", 0.0), message.get("stop_s"))
    if kind == END_TEXT:
        return EndText(message["stop_s"])
    if kind == STEP:
        vad = tuple(Inactivity(entry["horizon_s"], entry["inactivity_prob"]) for entry in message["vad"])
        return VadStep(vad, message["step_idx"], message["step_duration_s"], message["total_duration_s"])
    if kind == FLUSHED:
        return Flushed(message.get("flush_id"))
    if kind == END_OF_STREAM:
        return EndOfStream()
    if kind == READY:
        delay = message.get("delay_in_frames", message.get("delay_in_tokens"))
        return Ready(
            request_id=str(message.get("request_id", "")),
            sample_rate=int(message.get("sample_rate") or 0),
            frame_size=int(message.get("frame_size") or 0),
            model_name=str(message.get("model_name", "")),
            delay_s=delay * FRAME_MS / 1000 if _is_number(delay) else None,
        )
    if kind == RECONNECTED:
        return Reconnected(message["gap_ms"], message["replayed_ms"])
    return Unknown(message)


def parse_spoken_text(text: str) -> list[Text | Pause | Flush]:
    """Split what is to be spoken at its tags; flushes in a row are one.

    Raises:
        SetupRefused: The time of a pause is no number of seconds from 0.1 to 2.0.
        WireError: The text is longer than `MAX_TEXT_CHARACTERS`.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise WireError(f"expected a text of at most {MAX_TEXT_CHARACTERS} characters, got {len(text)}")
    parts: list[Text | Pause | Flush] = []
    position = 0
    for tag in _TAG.finditer(text):
        _add_spoken(parts, text[position : tag.start()])
        position = tag.end()
        if tag[0] != FLUSH_TAG:
            parts.append(Pause(_break_seconds(tag[1])))
        elif not (parts and isinstance(parts[-1], Flush)):
            parts.append(Flush(answered=False))
    _add_spoken(parts, text[position:])
    return parts


def _add_spoken(parts: list[Text | Pause | Flush], text: str) -> None:
    if text.strip():
        parts.append(Text(text))


def _break_seconds(time: str) -> float:
    low, high = BREAK_SECONDS
    try:
        seconds = float(time.removesuffix("s"))
    except ValueError:
        seconds = float("nan")
    if not low <= seconds <= high:
        raise SetupRefused(f"expected a break of {low:g}s to {high:g}s, got {time!r:.{_SHOWN}}", CLOSE_INTERNAL)
    return seconds


@dataclass(frozen=True, slots=True)
class SetupFields:
    """A checked `setup`, with the defaults of the service filled in.

    `input_format` is None where text goes in, `output_format` where only text comes out. `options` are the known keys
    of `json_config` that were given.
    """

    model_name: str
    input_format: str | None
    output_format: str | None
    voice_id: str | None
    options: Mapping[str, Any]
    close_ws_on_eos: bool
    retry_for_s: float

    @property
    def delay_in_frames(self) -> int:
        """Look-ahead of recognition in frames of 80 ms."""
        delay: int = self.options.get("delay_in_frames", self.options.get("delay_in_tokens", DEFAULT_DELAY_FRAMES))
        return delay

    @property
    def delay_s(self) -> float:
        """How long a recognised text is held back; interpreting has no such delay of its own."""
        return self.delay_in_frames * FRAME_MS / 1000 if self.output_format is None else 0.0

    @property
    def source_language(self) -> str | None:
        """Language of the speech that comes in, None where the client leaves it open."""
        language = None if self.input_format is None else self.options.get("language")
        return None if language == ANY_LANGUAGE else language

    @property
    def target_language(self) -> str | None:
        """Language of what goes out: the one to translate into, or that of the text to be spoken."""
        return self.options.get("language" if self.input_format is None else "target_language")

    @property
    def speed(self) -> float:
        """Speed of synthesised speech: 1.0 is usual, at the ends of `padding_bonus` half and double.

        The documents say only that negative is faster and positive slower; the scale is our choice.
        """
        bonus: float = 0.0 if self.output_format is None else self.options.get("padding_bonus", 0.0)
        return math.pow(2.0, -bonus / 4.0)


def parse_setup(message: Mapping[str, Any], product: Product) -> SetupFields:
    """Check a `setup` as the service does: null means absent, unknown fields and options are ignored.

    Raises:
        SetupRefused: A field of the wrong type, or a value outside the documented set.
    """
    config = _json_config(message)
    check_options(config, product)
    retry_for_s: float = _field(message, "retry_for_s", (int, float), 0.0)
    # An integer may be beyond any float.
    if not 0 <= retry_for_s <= sys.float_info.max:
        span = f"from 0 to {sys.float_info.max:g}"
        raise SetupRefused(f"expected retry_for_s {span}, got {retry_for_s!r:.{_SHOWN}}", CLOSE_POLICY)
    # A name stands in for the id where there is none (text-to-speech reference); "default" names no voice.
    voice: str | None = _field(message, "voice_id", (str,), None) or _field(message, "voice", (str,), None)
    _field(message, "pronunciation_id", (str,), None)
    return SetupFields(
        model_name=_field(message, "model_name", (str,), DEFAULT_MODEL),
        input_format=_format(message, "input_format", "input") if product.audio_in else None,
        output_format=_format(message, "output_format", "output") if product.audio_out else None,
        voice_id=None if voice == DEFAULT_VOICE_NAME else voice,
        options={name: config[name] for name in product.options if config.get(name) is not None},
        close_ws_on_eos=_field(message, "close_ws_on_eos", (bool,), True),
        retry_for_s=float(retry_for_s),
    )


def check_options(config: Mapping[str, Any], product: Product) -> None:
    """Check the keys of `json_config` that are known for a product; unknown ones pass, null means absent.

    Raises:
        SetupRefused: A known key has a value of the wrong type or outside its range; it is a ValueError.
    """
    for name, option in product.options.items():
        value = config.get(name)
        if value is not None:
            _check_option(name, value, option)


def is_auth_error(code: object, message: str) -> bool:
    """Tell whether an `error` is about the key; the service gives it the same code as other policy errors."""
    return code == CLOSE_POLICY and message in {NO_CREDENTIALS, BAD_CREDENTIALS}


def _check_option(name: str, value: Any, option: Option) -> None:
    if option.type is dict:
        _check_keywords(value)
        return
    types: tuple[type[Any], ...] = (int, float) if option.type is float else (option.type,)
    if not isinstance(value, types) or isinstance(value, bool):
        raise SetupRefused(f"expected {name} to be {option.type.__name__}, got {type(value).__name__}", CLOSE_INTERNAL)
    if option.values and value not in option.values:
        expected = ", ".join(option.values)
        raise SetupRefused(f"unsupported {name} {value!r:.{_SHOWN}}, expected one of {expected}", CLOSE_INTERNAL)
    if option.low is not None and option.high is not None and not option.low <= value <= option.high:
        span = f"from {option.low:g} to {option.high:g}"
        raise SetupRefused(f"expected {name} {span}, got {value!r:.{_SHOWN}}", CLOSE_INTERNAL)
    if name == "rewrite_rules":
        unknown = [rule for rule in value.split(",") if rule.strip() not in REWRITE_RULES]
        if unknown:
            raise SetupRefused(f"expected rewrite_rules that are known, got {unknown[0]!r:.{_SHOWN}}", CLOSE_INTERNAL)


def _check_keywords(value: Any) -> None:
    words = value.get("words") if isinstance(value, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise SetupRefused(
            f"parsing keywords: expected an object with a list of words, got {type(value).__name__}", CLOSE_INTERNAL
        )
    if len(words) > MAX_KEYWORDS:
        raise SetupRefused(f"parsing keywords: expected at most {MAX_KEYWORDS} words, got {len(words)}", CLOSE_INTERNAL)
    _check_option("boost", value.get("boost", 0.0), Option(float, -6.0, 6.0))


def _is_number(value: object) -> bool:
    """Tell whether this is a number that a time, an index or a probability can be, so that one may reckon with it."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER


def _field(message: Mapping[str, Any], name: str, types: tuple[type, ...], default: Any) -> Any:
    value = message.get(name)
    if value is None:
        return default
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        expected = " or ".join(t.__name__ for t in types)
        raise SetupRefused(f"expected {name} to be {expected}, got {type(value).__name__}", CLOSE_POLICY)
    return value


def _json_config(message: Mapping[str, Any]) -> Mapping[str, Any]:
    config: Mapping[str, Any] | str = _field(message, "json_config", (dict, str), {})
    if isinstance(config, str):
        try:
            parsed = json.loads(config)
        except (ValueError, RecursionError) as error:
            raise SetupRefused(f"json_config is not valid JSON: {error}", CLOSE_INTERNAL) from error
        if not isinstance(parsed, dict):
            raise SetupRefused(f"expected json_config to be an object, got {type(parsed).__name__}", CLOSE_INTERNAL)
        return parsed
    return config


def _format(message: Mapping[str, Any], name: str, direction: str) -> str:
    value: str = _field(message, name, (str,), DEFAULT_FORMAT)
    if value not in FORMATS:
        expected = ", ".join(FORMATS)
        shown = f"{value!r:.{_SHOWN}}"
        raise SetupRefused(f"unsupported {direction} format {shown}, expected one of {expected}", CLOSE_POLICY)
    return value
