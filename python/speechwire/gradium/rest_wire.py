"""The REST half of the Gradium wire: every route, parameter, content type, field and text that `wire` does not hold.

Sources are the OpenAPI document, the API reference and the published Python SDK 0.6.4. Where these are silent (the
limits of lengths and numbers, the texts of most refusals), the value here is our choice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Final
from urllib.parse import quote

from speechwire.errors import WireError
from speechwire.gradium import wire

__all__ = [
    "AUDIO_CONTENT_TYPES",
    "AUDIO_FIELD",
    "CATALOG",
    "CREDITS_ROUTE",
    "DRAFT",
    "DRAFT_PREFIX",
    "DRAFT_QUERY",
    "EMBEDDINGS_ROUTE",
    "FROM_EMBEDDING_ROUTE",
    "GENERATE_ROUTE",
    "INPUT_CONTENT_TYPES",
    "INPUT_FORMAT_PARAMETER",
    "INVALID_JSON",
    "JSON_CONFIG_PARAMETER",
    "JSON_CONTENT_TYPE",
    "MODEL_PARAMETER",
    "NDJSON_CONTENT_TYPE",
    "NO_CREDITS",
    "POST_STT_ROUTE",
    "POST_TTS_ROUTE",
    "POST_TTS",
    "PROMOTION",
    "PRONUNCIATION",
    "PRONUNCIATIONS_ROUTE",
    "PRONUNCIATION_CHANGES",
    "PRONUNCIATION_QUERY",
    "S2S_CREDITS_PER_SECOND",
    "STEPS_PARAMETER",
    "STT_CREDITS_PER_SECOND",
    "SUMMARY_ROUTE",
    "TEXT_CONTENT_TYPE",
    "TOKEN_ROUTE",
    "TTS_CREDITS_PER_CHARACTER",
    "VOICE",
    "VOICES_ROUTE",
    "VOICE_CHANGES",
    "VOICE_QUERY",
    "CatalogVoice",
    "Field",
    "FieldsRefused",
    "Lines",
    "already_kept",
    "build_catalog_voice",
    "build_created_voice",
    "build_credits",
    "build_dictionaries",
    "build_dictionary",
    "build_draft",
    "build_drafts",
    "build_draft_query",
    "build_draft_request",
    "build_post_stt_query",
    "build_post_tts",
    "build_voice_query",
    "draft_id",
    "is_ready",
    "build_problem",
    "build_promotion",
    "build_refusal",
    "build_speech_refusal",
    "build_rule",
    "build_summary",
    "build_token",
    "build_voice",
    "format_time",
    "given",
    "item_route",
    "not_found",
    "not_ready",
    "parse_drafts",
    "parse_fields",
    "parse_refusal",
    "parse_token",
    "store_full",
    "unsupported_content_type",
]

# Routes (OpenAPI document, published SDK; API reference for the token).
POST_TTS_ROUTE: Final = "post/speech/tts"
POST_STT_ROUTE: Final = "post/speech/asr"
VOICES_ROUTE: Final = "voices/"
FROM_EMBEDDING_ROUTE: Final = "voices/from-embedding"
GENERATE_ROUTE: Final = "voice-generator/generate"
EMBEDDINGS_ROUTE: Final = "voice-generator/embeddings"
CREDITS_ROUTE: Final = "usages/credits"
SUMMARY_ROUTE: Final = "usages/summary"
PRONUNCIATIONS_ROUTE: Final = "pronunciations/"
TOKEN_ROUTE: Final = "api-keys/token"  # noqa: S105 - a path, not a secret

# Query parameters of the one-shot recognition (OpenAPI document); here the model is not called `model_name`.
MODEL_PARAMETER: Final = "model"
INPUT_FORMAT_PARAMETER: Final = "input_format"
JSON_CONFIG_PARAMETER: Final = "json_config"

STEPS_PARAMETER: Final = "steps"  # our own: "1" asks for the voice activity too

JSON_CONTENT_TYPE: Final = "application/json"
TEXT_CONTENT_TYPE: Final = "text/plain"
NDJSON_CONTENT_TYPE: Final = "application/x-ndjson"
# What carries audio of a format in an HTTP body (OpenAPI document; the types of G.711 are our choice).
AUDIO_CONTENT_TYPES: Final[Mapping[str, str]] = {
    **{name: "audio/pcm" for name in wire.FORMATS if name.startswith("pcm")},
    wire.WAV: "audio/wav",
    wire.OPUS: "audio/ogg",
    "ulaw_8000": "audio/basic",
    "mulaw_8000": "audio/basic",
    "alaw_8000": "audio/x-alaw-basic",
}

# What the one-shot recognition takes where no parameter names the format (OpenAPI document).
INPUT_CONTENT_TYPES: Final[Mapping[str, str]] = {
    "audio/wav": wire.WAV,
    "audio/pcm": "pcm",
    "audio/ogg": wire.OPUS,
    "audio/opus": wire.OPUS,
}

DRAFT_PREFIX: Final = "vox_emb_"  # of the id of a designed voice that is not kept yet (published SDK)

# Prices (pricing page; that of speech-to-speech from a third party): one for a character or a second of input.
TTS_CREDITS_PER_CHARACTER: Final = 1.0
STT_CREDITS_PER_SECOND: Final = 3.0
S2S_CREDITS_PER_SECOND: Final = 30.0

# The speech routes answer refusals of the WebSocket's kind in plain text (errors page): "error from server 1008: why";
# a deployment was seen to write the code as "Some(1008)", with lines for the support behind it.
_MAX_REFUSAL_DEPTH: Final = 3
_REFUSAL: Final = re.compile(r"error from server (?:Some\()?(\d+)\)?: *([^\r\n]*)")


# --- fields


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body or of a query.

    Args:
        name: As on the wire.
        type: str, int, float, bool or list. Numbers and booleans may come as text too, as they do in a query.
        required: The request is refused without it.
        default: Stands in for it; None leaves it out.
        low: Smallest number, or the least length of a text or a list.
        high: Largest number, or the greatest length.
        values: The texts that are known, or () for any.
        fields: What each entry of a list has to be.
    """

    name: str
    type: type
    required: bool = False
    default: str | float | None = None
    low: float = 0
    high: float = 2**31
    values: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()


def _name(required: bool) -> Field:
    return Field("name", str, required=required, low=1, high=200)


def _language(required: bool) -> Field:
    return Field("language", str, required=required, values=wire.LANGUAGES)


_DESCRIPTION: Final = Field("description", str, high=2000)
_START: Final = Field("start_s", float, high=86400)
_TAGS: Final = Field(
    "tags",
    list,
    high=20,
    fields=(Field("category", str, high=100), Field("value", str, required=True, low=1, high=100)),
)
_RULE: Final = (
    Field("original", str, required=True, low=1, high=200),
    Field("rewrite", str, required=True, high=200),
    Field("case_sensitive", bool, default=False),
)

AUDIO_FIELD: Final = "audio_file"  # of the multipart body that makes a voice, beside the fields of VOICE
VOICE: Final = (
    _name(required=True),
    _DESCRIPTION,
    _language(required=False),
    Field("start_s", float, default=0.0, high=86400),
    Field("input_format", str, high=32),
    Field("timeout_s", float, default=10.0, high=600),
)
VOICE_CHANGES: Final = (
    _name(required=False),
    _DESCRIPTION,
    _language(required=False),
    _START,
    _TAGS,
    Field("rank", int, low=-(2**31)),
)
VOICE_QUERY: Final = (
    Field("skip", int, default=0),
    Field("limit", int, default=100),  # the official SDK asks for all with 0
    Field("include_catalog", bool, default=False),
)
PROMOTION: Final = (
    Field("voxium_embedding_id", str, required=True, low=1, high=200),
    _name(required=True),
    _DESCRIPTION,
)
DRAFT: Final = (
    Field("prompt", str, required=True, low=1, high=500),
    _language(required=True),
    Field("n_samples", int, default=1, low=1, high=5),
)
DRAFT_QUERY: Final = (Field("embedding_id", str, required=True, low=1, high=200),)
# What the one-shot synthesis reads itself; the rest of its body is that of a setup, and checked as one.
POST_TTS: Final = (
    Field("text", str, required=True),
    Field("only_audio", bool, default=False),
)
PRONUNCIATION: Final = (
    _name(required=True),
    _language(required=True),
    _DESCRIPTION,
    Field("rules", list, required=True, high=1000, fields=_RULE),
)
PRONUNCIATION_CHANGES: Final = (
    _name(required=False),
    _language(required=False),
    _DESCRIPTION,
    Field("rules", list, high=1000, fields=_RULE),
)
PRONUNCIATION_QUERY: Final = (
    Field("limit", int, default=100, low=1, high=1000),
    Field("offset", int, default=0),
    _language(required=False),
)


@dataclass(frozen=True, slots=True)
class CatalogVoice:
    """A voice that everybody has (voices page).

    Args:
        uid: What `voice_id` takes.
        name: For people.
        locale: Language and region, such as "en-gb".
        gender: "feminine" or "masculine".
    """

    uid: str
    name: str
    locale: str
    gender: str


CATALOG: Final = (
    CatalogVoice("YTpq7expH9539ERJ", "Emma", "en-us", "feminine"),
    CatalogVoice("LFZvm12tW_z0xfGo", "Kent", "en-us", "masculine"),
    CatalogVoice("ubuXFxVQwVYnZQhy", "Eva", "en-gb", "feminine"),
    CatalogVoice("m86j6D7UZpGzHsNu", "Jack", "en-gb", "masculine"),
    CatalogVoice("b35yykvVppLXyw_l", "Elise", "fr-fr", "feminine"),
    CatalogVoice("axlOaUiFyOZhy4nv", "Leo", "fr-fr", "masculine"),
    CatalogVoice("-uP9MuGtBqAvEyxI", "Mia", "de-de", "feminine"),
    CatalogVoice("0y1VZjPabOBU3rWy", "Maximilian", "de-de", "masculine"),
    CatalogVoice("B36pbz5_UoWn4BDl", "Valentina", "es-mx", "feminine"),
    CatalogVoice("xu7iJ_fn2ElcWp2s", "Sergio", "es-es", "masculine"),
    CatalogVoice("pYcGZz9VOo4n2ynh", "Alice", "pt-br", "feminine"),
    CatalogVoice("M-FvVo9c-jGR4PgP", "Davi", "pt-br", "masculine"),
)


# --- what the client sends


def item_route(route: str, uid: str) -> str:
    """Return the route of one voice, draft or dictionary below its collection.

    Raises:
        ValueError: An id that would name the collection itself, or what stands above it.
    """
    if not uid.strip("."):
        raise ValueError(f"expected the id of one of {route}, got {uid!r}")
    return f"{route.rstrip('/')}/{quote(uid, safe='')}"


def build_post_tts(
    text: str,
    *,
    voice_id: str,
    output_format: str,
    only_audio: bool,
    model_name: str | None = None,
    json_config: Mapping[str, Any] | str | None = None,
    pronunciation_id: str | None = None,
) -> dict[str, Any]:
    """Build the body of the one-shot synthesis; a `json_config` that is not a string is written as one."""
    body: dict[str, Any] = {
        "text": text,
        "voice_id": voice_id,
        "output_format": output_format,
        "only_audio": only_audio,
    }
    if model_name is not None:
        body["model_name"] = model_name
    if json_config is not None:
        body["json_config"] = json_config if isinstance(json_config, str) else json.dumps(json_config)
    if pronunciation_id is not None:
        body["pronunciation_id"] = pronunciation_id
    return body


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields of a record that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def build_voice_query(*, include_catalog: bool) -> dict[str, int]:
    """Build the query for all voices: no limit, and a number for the boolean, as the official SDK sends it."""
    return {"limit": 0, "include_catalog": int(include_catalog)}


def build_draft_request(prompt: str, *, language: str, n_samples: int) -> dict[str, Any]:
    """Build the body that has voices designed."""
    return {"prompt": prompt, "language": language, "n_samples": n_samples}


def build_promotion(uid: str, *, name: str, description: str | None) -> dict[str, Any]:
    """Build the body that has a draft kept as a voice."""
    return {"voxium_embedding_id": uid, **given(name=name, description=description)}


def build_draft_query(uid: str) -> dict[str, str]:
    """Build the query for one draft."""
    return {"embedding_id": uid}


def build_post_stt_query(
    *, model: str, input_format: str, json_config: Mapping[str, Any] | str | None
) -> dict[str, str]:
    """Build the query of the one-shot recognition; the format overrides the content type."""
    query = {MODEL_PARAMETER: model, INPUT_FORMAT_PARAMETER: input_format}
    if json_config is not None:
        query[JSON_CONFIG_PARAMETER] = json_config if isinstance(json_config, str) else json.dumps(json_config)
    return query


# --- what comes in


class FieldsRefused(WireError):
    """Fields that the service would answer with 422; `problems` is the list that goes into its `detail`."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems))
        self.problems = problems


def parse_fields(where: str, fields: Iterable[Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the fields of a request and return those that were given or have a default; null means absent.

    Args:
        where: "body" or "query", as the service calls the place in its answer.
        fields: What is known; all else is ignored.
        values: What came.

    Raises:
        FieldsRefused: Something is missing, of the wrong type, or outside its range.
    """
    problems: list[dict[str, Any]] = []
    found = _parse_fields((where,), fields, values, problems)
    if problems:
        raise FieldsRefused(problems)
    return found


def _parse_fields(
    loc: tuple[str | int, ...], fields: Iterable[Field], values: Mapping[str, Any], problems: list[dict[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields:
        value = values.get(field.name)
        here = (*loc, field.name)
        if value is None:
            if field.required:
                problems.append(build_problem(here, "Field required", "missing"))
            elif field.default is not None:
                found[field.name] = field.default
            continue
        try:
            found[field.name] = _typed(field, value)
        except ValueError as error:
            problems.append(build_problem(here, str(error), "value_error"))
            continue
        if field.fields:
            entries = []
            for index, entry in enumerate(value):
                if isinstance(entry, dict):
                    entries.append(_parse_fields((*here, index), field.fields, entry, problems))
                else:
                    problems.append(build_problem((*here, index), "expected an object", "value_error"))
            found[field.name] = entries
    return found


def _typed(field: Field, value: Any) -> Any:
    if field.type is bool:
        known = {"0": False, "1": True, "false": False, "true": True}.get(str(value).lower())
        if known is None:
            raise ValueError(f"expected true or false, got {value!r:.100}")
        return known
    if field.type in (int, float):
        return _number(field, value)
    if not isinstance(value, str | list) or not isinstance(value, field.type):
        raise ValueError(f"expected a {field.type.__name__}, got {type(value).__name__}")
    if not field.low <= len(value) <= field.high:
        raise ValueError(f"expected a length of {field.low:g} to {field.high:g}, got {len(value)}")
    if field.values and value not in field.values:
        raise ValueError(f"expected one of {', '.join(field.values)}, got {value!r:.100}")
    return value


def _number(field: Field, value: Any) -> float:
    try:
        number = None if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = None
    if number is None or not isfinite(number) or (field.type is int and number != int(number)):
        kind = "an integer" if field.type is int else "a number"
        raise ValueError(f"expected {kind}, got {value!r:.100}")
    if not field.low <= number <= field.high:
        raise ValueError(f"expected {field.low:g} to {field.high:g}, got {number:g}")
    return int(number) if field.type is int else number


class Lines:
    """Cuts a body of JSON lines into its lines, whatever the chunks; empty ones are left out."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    @property
    def num_waiting_bytes(self) -> int:
        """Size of the line that has no end yet."""
        return len(self._waiting)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes of any length and return the lines that they complete."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self._waiting += chunk
            return []
        complete = bytes(self._waiting) + chunk[:end]
        self._waiting[:] = chunk[end + 1 :]
        return [line for line in complete.split(b"\n") if line.strip()]

    def flush(self) -> list[bytes]:
        """The body has ended: return a last line without an end."""
        line = bytes(self._waiting)
        self._waiting.clear()
        return [line] if line.strip() else []


def parse_drafts(answer: Any) -> list[dict[str, Any]]:
    """Return the drafts in their envelope.

    Raises:
        WireError: It is none.
    """
    drafts = answer.get("embeddings") if isinstance(answer, dict) else None
    if drafts is not None and not (isinstance(drafts, list) and all(isinstance(draft, dict) for draft in drafts)):
        raise WireError(f"expected a list of drafts in 'embeddings', got {type(drafts).__name__}")
    return drafts or []


def draft_id(draft: Mapping[str, Any]) -> str:
    """Return the id of a draft."""
    return str(draft["embedding_id"])


def is_ready(draft: Mapping[str, Any]) -> bool:
    """Tell whether a draft can be used."""
    return bool(draft.get("ready"))


def parse_token(answer: Any) -> tuple[str, datetime]:
    """Return a token of one use and the time at which it expires; a time without a zone is UTC.

    Raises:
        WireError: A part of it is missing.
    """
    fields = answer if isinstance(answer, dict) else {}
    token = fields.get("token")
    try:
        expires_at = datetime.fromisoformat(str(fields.get("expires_at")))
    except ValueError as error:
        raise WireError(f"expected a time in 'expires_at', got {fields.get('expires_at')!r:.100}") from error
    if not isinstance(token, str) or not token:
        raise WireError(f"expected a text in 'token', got {type(token).__name__}")
    return token, expires_at if expires_at.tzinfo is not None else expires_at.replace(tzinfo=UTC)


# --- what goes out


def format_time(unix_s: float) -> str:
    """Return a time in UTC, such as "2026-11-02T09:30:00Z"."""
    return f"{datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def build_voice(row: Mapping[str, Any]) -> dict[str, Any]:
    """Build one voice: what lists and single answers are documented to have, together."""
    return {
        "uid": row["uid"],
        "name": row["name"],
        "description": row.get("description"),
        "filename": row.get("filename"),
        "start_s": row.get("start_s", 0.0),
        "stop_s": None,
        "language": row.get("language"),
        "tags": [{"category": tag.get("category"), "value": tag["value"]} for tag in row.get("tags", [])],
        "rank": row.get("rank"),
        "org_uid": row.get("org_uid"),
        "is_catalog": row.get("is_catalog", False),
        "is_pro_clone": False,
        "is_pending": False,
        "has_audio": row.get("filename") is not None,
    }


def build_catalog_voice(voice: CatalogVoice) -> dict[str, Any]:
    """Build one voice of the catalogue; how its region and gender are tagged is our choice."""
    return build_voice(
        {
            "uid": voice.uid,
            "name": voice.name,
            "language": voice.locale.partition("-")[0],
            "tags": [{"category": "gender", "value": voice.gender}, {"category": "accent", "value": voice.locale}],
            "is_catalog": True,
        }
    )


def build_created_voice(uid: str) -> dict[str, Any]:
    """Build the answer to a new voice; its `error` is the service's advice, and not a failure."""
    return {
        "uid": uid,
        "error": "Please wait a bit till the voice is ready to be used.",
        "was_updated": True,
    }


def build_draft(row: Mapping[str, Any], *, ready: bool, expires_at_s: float) -> dict[str, Any]:
    """Build one draft of the voice designer."""
    return {
        "embedding_id": row["embedding_id"],
        "ready": ready,
        "expires_at": format_time(expires_at_s),
        "prompt": row["prompt"],
        "language": row["language"],
        "created_at": format_time(row["created_at_s"]),
    }


def build_drafts(drafts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the envelope of drafts."""
    return {"embeddings": list(drafts)}


def build_rule(index: int, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Build one rule of a dictionary, with its id."""
    return {"id": index, **rule}


def build_dictionary(row: Mapping[str, Any]) -> dict[str, Any]:
    """Build one pronunciation dictionary."""
    return {
        "uid": row["uid"],
        "org_uid": row["org_uid"],
        "name": row["name"],
        "language": row["language"],
        "description": row.get("description"),
        "rules": list(row["rules"]),
        "created_at": format_time(row["created_at_s"]),
    }


def build_dictionaries(dictionaries: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    """Build a page of dictionaries; `total` counts those of all pages."""
    return {"dictionaries": list(dictionaries), "total": total}


def build_credits(remaining: int, allocated: int, now_s: float) -> dict[str, Any]:
    """Build the balance of the month in which `now_s` lies."""
    now = datetime.fromtimestamp(now_s, UTC)
    rollover = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return {
        "remaining_credits": remaining,
        "allocated_credits": allocated,
        "billing_period": f"{now:%m-%Y}",
        "next_rollover_date": f"{rollover:%Y-%m-%d}",
        "plan_name": "local",
    }


def build_summary(
    *,
    consumed_credits: int,
    sessions: int,
    ingress_messages: int,
    ingress_text_size: int,
    ingress_audio_s: float,
    egress_messages: int,
    egress_text_size: int,
    egress_audio_s: float,
) -> dict[str, Any]:
    """Build the totals of usage; the official Rust client requires all eight."""
    return {
        "consumed_credits": consumed_credits,
        "sessions": sessions,
        "ingress_messages": ingress_messages,
        "ingress_text_size": ingress_text_size,
        "ingress_audio_duration": ingress_audio_s,
        "egress_messages": egress_messages,
        "egress_text_size": egress_text_size,
        "egress_audio_duration": egress_audio_s,
    }


def build_token(token: str, expires_at_s: float) -> dict[str, Any]:
    """Build the answer that holds a token of one use."""
    return {"token": token, "expires_at": format_time(expires_at_s)}


# --- refusals

NO_CREDITS: Final = "Not enough credits"
INVALID_JSON: Final = "JSON decode error"


def build_refusal(detail: str | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the body of a refusal."""
    return {"detail": detail if isinstance(detail, str) else list(detail)}


def build_speech_refusal(code: int, reason: str) -> str:
    """Build the plain text by which the speech routes refuse what a WebSocket would answer with an `error`."""
    return f"error from server {code}: {reason}"


def unsupported_content_type(content_type: str) -> str:
    """Return the service's words for a content type that recognition does not take; the spelling is its own."""
    return f"unsupported content type for SST {content_type!r}"


def build_problem(loc: Sequence[str | int], msg: str, kind: str) -> dict[str, Any]:
    """Build one problem with a field, for the `detail` of a 422."""
    return {"loc": list(loc), "msg": msg, "type": kind}


def not_found(kind: str, uid: str) -> str:
    """Return the text for an id that names nothing."""
    return f"{kind} not found: {uid}"


def not_ready(uid: str) -> str:
    """Return the text for a draft that is still being made."""
    return f"draft not ready: {uid}"


def already_kept(uid: str) -> str:
    """Return the text for a draft that a voice was made from before."""
    return f"a voice was already created from {uid}"


def store_full(kind: str, most: int) -> str:
    """Return the text for one record too many."""
    return f"quota of {most} reached: {kind}"


def parse_refusal(content_type: str, body: bytes) -> tuple[int | None, str]:
    """Return the vendor's code, where there is one, and the reason in the body of an answer that is a refusal.

    Known shapes: `detail` as a text or a list of invalid fields, `error`, a list of either, and plain text with a code
    of the WebSocket in it. Anything else is its own reason; HTML, which would not fit into one line, is none.
    """
    text = body.decode(errors="replace").strip()
    code: int | None = None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith("<") or "html" in content_type:
            return None, ""
    else:
        if isinstance(value, dict) and isinstance(value.get("code"), int):
            code = value["code"]
        text = _reason(value)
    known = _REFUSAL.search(text)
    if known is not None:
        return int(known[1]), known[2].strip()
    return code, " ".join(text.split())


def _reason(value: Any, depth: int = 0) -> str:
    if depth < _MAX_REFUSAL_DEPTH and isinstance(value, list):
        return "; ".join(filter(None, (_reason(entry, depth + 1) for entry in value)))
    if depth < _MAX_REFUSAL_DEPTH and isinstance(value, dict):
        if "msg" in value:
            loc = value.get("loc")
            where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            return f"{where}: {value['msg']}" if where else str(value["msg"])
        for name in ("detail", "error", "message"):
            if value.get(name) is not None:
                return _reason(value[name], depth + 1)
    return value if isinstance(value, str) else json.dumps(value)
