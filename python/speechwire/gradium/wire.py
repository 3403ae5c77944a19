"""The Gradium wire: every message name, field, format, code and text, once.

Sources are Gradium's public documents: the S2S guide and settings pages, the WebSocket lifecycle page, the OpenAPI
document, and the published Python SDK 0.6.4. Where these are silent, the value here is our choice and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from speechwire._core import decode_message, encode_audio_message
from speechwire.errors import WireError

__all__ = [
    "API_KEY_HEADER",
    "API_SOURCE_HEADER",
    "AUDIO",
    "BAD_CREDENTIALS",
    "BASE_URL",
    "CLOSE_INTERNAL",
    "CLOSE_NORMAL",
    "CLOSE_POLICY",
    "CLOSE_PROTOCOL",
    "DEFAULT_FORMAT",
    "DEFAULT_MODEL",
    "DEFAULT_VOICES",
    "END_OF_STREAM",
    "ERROR",
    "FLUSH",
    "FLUSHED",
    "FORMATS",
    "FRAME_MS",
    "G711_FORMATS",
    "INPUT_PCM_SAMPLE_RATE",
    "INVALID_MESSAGE",
    "LANGUAGES",
    "MAX_MESSAGE_CHARACTERS",
    "NO_CREDENTIALS",
    "NO_SESSION",
    "OUTPUT_PCM_SAMPLE_RATE",
    "PCM_SAMPLE_RATES",
    "READY",
    "S2S_ROUTE",
    "SETUP",
    "TEXT",
    "TOKEN_PARAMETER",
    "WAV",
    "WAV_HEADER_BYTES",
    "S2SSetup",
    "SetupFields",
    "SetupRefused",
    "build_audio",
    "build_end_of_stream",
    "build_error",
    "build_flushed",
    "build_output_audio",
    "build_ready",
    "build_setup",
    "build_text",
    "check_audio",
    "check_text",
    "input_codec_format",
    "is_auth_error",
    "output_codec_format",
    "parse_message",
    "parse_setup",
    "session_already_active",
]

# Endpoints and authentication (API reference).
BASE_URL: Final = "https://api.gradium.ai/api/"
S2S_ROUTE: Final = "speech/s2s"
API_KEY_HEADER: Final = "x-api-key"
API_SOURCE_HEADER: Final = "x-api-source"
TOKEN_PARAMETER: Final = "token"  # noqa: S105 - the name of a query parameter, not a secret

# Message types (WebSocket lifecycle page).
SETUP: Final = "setup"
READY: Final = "ready"
AUDIO: Final = "audio"
TEXT: Final = "text"
FLUSH: Final = "flush"
FLUSHED: Final = "flushed"
END_OF_STREAM: Final = "end_of_stream"
ERROR: Final = "error"

# Codes of `error` messages, used as close codes too (errors page; that they match is our choice).
CLOSE_NORMAL: Final = 1000
CLOSE_PROTOCOL: Final = 1002
CLOSE_POLICY: Final = 1008
CLOSE_INTERNAL: Final = 1011

LANGUAGES: Final = ("en", "fr", "de", "es", "pt")
FRAME_MS: Final = 80
# One catalogue voice for each language (voices page).
DEFAULT_VOICES: Final = {
    "en": "YTpq7expH9539ERJ",
    "fr": "b35yykvVppLXyw_l",
    "de": "-uP9MuGtBqAvEyxI",
    "es": "B36pbz5_UoWn4BDl",
    "pt": "pYcGZz9VOo4n2ynh",
}
DEFAULT_MODEL: Final = "default"
DEFAULT_FORMAT: Final = "wav"  # what the server assumes where setup names none (OpenAPI document)

# Our choice: room for one whole 300 s session of 48 kHz PCM in one base64 message.
MAX_MESSAGE_CHARACTERS: Final = 40 * 1024 * 1024

# Texts that the service is known to send (lifecycle and errors pages, skills repository).
NO_SESSION: Final = "Session not found. Send setup first."
NO_CREDENTIALS: Final = "No authentication provided"
BAD_CREDENTIALS: Final = "API key is revoked or expired"
INVALID_MESSAGE: Final = "Message validation error"

PCM_SAMPLE_RATES: Final = (8000, 16000, 22050, 24000, 44100, 48000)
INPUT_PCM_SAMPLE_RATE: Final = 24000  # bare "pcm" on its way to the service
OUTPUT_PCM_SAMPLE_RATE: Final = 48000  # bare "pcm" on its way back, and "wav" too
WAV_HEADER_BYTES: Final = 44
WAV: Final = "wav"
G711_FORMATS: Final = ("ulaw_8000", "mulaw_8000", "alaw_8000")
FORMATS: Final = ("pcm", *(f"pcm_{rate}" for rate in PCM_SAMPLE_RATES), WAV, *G711_FORMATS)


class S2SSetup(TypedDict, total=False):
    """The documented fields of a speech-to-speech setup; other keys are passed to the service unchanged."""

    model_name: str
    stt_model_name: str
    tts_model_name: str
    input_format: str
    output_format: str
    voice_id: str
    json_config: Mapping[str, Any] | str
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


def build_end_of_stream(client_req_id: str | None = None) -> str:
    """Build `end_of_stream`, the same in both directions."""
    return _build({"type": END_OF_STREAM}, client_req_id)


def build_flushed(flush_id: object, client_req_id: str | None = None) -> str:
    """Build `flushed`; the id goes back as it came, whatever its JSON type."""
    return _build({"type": FLUSHED, "flush_id": flush_id}, client_req_id)


# --- server to client


def build_ready(
    request_id: str, model_name: str, sample_rate: int, frame_size: int, client_req_id: str | None = None
) -> str:
    """Build `ready`. The two lists of names are required by the official Rust client, and empty."""
    return _build(
        {
            "type": READY,
            "request_id": request_id,
            "model_name": model_name,
            "sample_rate": sample_rate,
            "frame_size": frame_size,
            "audio_stream_names": [],
            "text_stream_names": [],
        },
        client_req_id,
    )


def build_output_audio(audio: bytes, start_s: float, stop_s: float, client_req_id: str | None = None) -> str:
    """Build the server's `audio`: the client's with a span and a stream id behind it."""
    head = encode_audio_message(audio, client_req_id)
    return f'{head[:-1]},"start_s":{start_s!r},"stop_s":{stop_s!r},"stream_id":0}}'


def build_text(text: str, start_s: float, stop_s: float, client_req_id: str | None = None) -> str:
    """Build `text`."""
    return _build({"type": TEXT, "text": text, "start_s": start_s, "stop_s": stop_s, "stream_id": 0}, client_req_id)


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
        raise WireError(f"expected a string field 'type', got {message.get('type')!r}")
    return message


class SetupRefused(WireError):
    """A `setup` that the service would answer with an `error` of this code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def check_audio(message: Mapping[str, Any]) -> None:
    """Raise WireError unless an `audio` message has audio, which parsing has decoded then."""
    if "audio" not in message:
        raise WireError("expected a field 'audio' in an audio message")


def check_text(message: Mapping[str, Any]) -> None:
    """Raise WireError unless a `text` message has a text, and numbers where it has times."""
    if not isinstance(message.get("text"), str):
        raise WireError(f"expected a string field 'text', got {message.get('text')!r}")
    for name in ("start_s", "stop_s"):
        if not isinstance(message.get(name, 0.0), int | float):
            raise WireError(f"expected a number in {name!r}, got {message[name]!r}")


def session_already_active(client_req_id: str | None) -> str:
    """Return the text that answers a `setup` for a request that is still running."""
    return "Session already active" if client_req_id is None else f"Session already active ({client_req_id})"


@dataclass(frozen=True, slots=True)
class SetupFields:
    """A checked `setup`, with the defaults of the service filled in."""

    model_name: str
    input_format: str
    output_format: str
    voice_id: str | None
    source_language: str | None
    target_language: str | None
    close_ws_on_eos: bool


def parse_setup(message: Mapping[str, Any]) -> SetupFields:
    """Check a `setup` as the service does: null means absent, unknown fields and options are ignored.

    Raises:
        SetupRefused: A field of the wrong type, or a value outside the documented set.
    """
    config = _json_config(message)
    return SetupFields(
        model_name=_field(message, "model_name", (str,), DEFAULT_MODEL),
        input_format=_format(message, "input_format", "input"),
        output_format=_format(message, "output_format", "output"),
        voice_id=_field(message, "voice_id", (str,), None),
        source_language=_language(config, "language"),
        target_language=_language(config, "target_language"),
        close_ws_on_eos=_field(message, "close_ws_on_eos", (bool,), True),
    )


def is_auth_error(code: object, message: str) -> bool:
    """Tell whether an `error` is about the key; the service gives it the same code as other policy errors."""
    return code == CLOSE_POLICY and message in {NO_CREDENTIALS, BAD_CREDENTIALS}


def _field(message: Mapping[str, Any], name: str, types: tuple[type, ...], default: Any) -> Any:
    value = message.get(name)
    if value is None:
        return default
    if not isinstance(value, types):
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
        raise SetupRefused(f"unsupported {direction} format {value!r}, expected one of {expected}", CLOSE_POLICY)
    return value


def _language(config: Mapping[str, Any], name: str) -> str | None:
    value = config.get(name)
    if value is not None and value not in LANGUAGES:
        expected = ", ".join(LANGUAGES)
        raise SetupRefused(f"unsupported {name} {value!r}, expected one of {expected}", CLOSE_INTERNAL)
    return value
