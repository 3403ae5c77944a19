"""Gradium's REST interface without its HTTP: a request's parts and an account in, a status and a JSON value out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from speechwire.events import Audio, OutputEvent, Transcript
from speechwire.gradium import rest_wire, wire
from speechwire.server.account import Account, Full, Shelf, Usage
from speechwire.server.dialects import gradium
from speechwire.server.voices import FEMALE, MALE, Voice, timbre_for

__all__ = [
    "OPERATIONS",
    "Answer",
    "Body",
    "Meter",
    "Operation",
    "Request",
    "Upload",
    "answer",
    "credential",
    "find_voice",
    "refuse",
    "refuse_credential",
    "refuse_draft",
    "refuse_json",
]

_ORGANISATION: Final = "local"
# Kinds of records, as refusals name them.
_VOICE: Final = "voice"
_DRAFT: Final = "draft"
_DICTIONARY: Final = "dictionary"


class Body(Enum):
    """What an operation expects as the body of its request."""

    NONE = "none"
    JSON = "json"  # one object
    FORM = "form"  # multipart


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came in a form."""

    filename: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that an operation may look at.

    Args:
        path: What stood in the path's place holders.
        query: Query parameters.
        body: The JSON object, or the text fields of the form.
        files: The files of the form.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Upload] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back; `value` is None where there is no body.

    Every answer has this content type, also an empty one: the official SDK parses a 204 like all others.
    """

    status: int
    value: Any = None
    content_type: str = rest_wire.JSON_CONTENT_TYPE

    @property
    def is_json(self) -> bool:
        """False if `value` is plain text."""
        return self.content_type == rest_wire.JSON_CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one route below the base path.

    Args:
        method: Of HTTP.
        route: With `{name}` for what varies in it.
        body: What the request has to bring.
        carry_out: Does it.
        once: Each answer is new and for its client alone: no HEAD may throw it away, no cache may keep it.
    """

    method: str
    route: str
    body: Body
    carry_out: Callable[[Account, Request], Answer]
    once: bool = False


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def answer(operation: Operation, account: Account, request: Request) -> Answer:
    """Carry out an operation; a refusal is an answer too."""
    try:
        return operation.carry_out(account, request)
    except _Refused as error:
        return refuse(error.status, error.detail)
    except rest_wire.FieldsRefused as error:
        return Answer(422, rest_wire.build_refusal(error.problems))


def refuse(status: int, detail: str) -> Answer:
    """Return a refusal for a reason that lies outside of the operations, such as an unknown path."""
    return Answer(status, rest_wire.build_refusal(detail))


def refuse_json() -> Answer:
    """Return the refusal of a body that is not one JSON object."""
    return Answer(
        422, rest_wire.build_refusal([rest_wire.build_problem(["body"], rest_wire.INVALID_JSON, "json_invalid")])
    )


def credential(headers: Mapping[str, str]) -> str | None:
    """Return the key that the client showed; REST takes it in a header alone."""
    return gradium.shown_key(headers)


def refuse_credential(key: str | None) -> Answer:
    """Return the refusal of a key that is missing or wrong."""
    return refuse(401, gradium.refusal(key))


def find_voice(account: Account, voice_id: str) -> Voice | None:
    """Return how a voice of the catalogue, a clone or a draft that is ready sounds; None if there is no such voice."""
    for listed in rest_wire.CATALOG:
        if listed.uid == voice_id:
            timbres = FEMALE if listed.gender == "feminine" else MALE
            return Voice(listed.locale, timbre_for(voice_id, timbres))
    row = account.voices.get(voice_id)
    if row is None:
        row = account.drafts.get(voice_id)
        if row is None or not _is_ready(account, row):
            return None
    return Voice(row.get("language") or wire.LANGUAGES[0], timbre_for(voice_id))


def refuse_draft(account: Account, voice_id: object) -> Answer | None:
    """Return the refusal of a draft that nobody can speak with, because it is not there or not ready."""
    if not isinstance(voice_id, str) or not voice_id.startswith(rest_wire.DRAFT_PREFIX):
        return None
    row = account.drafts.get(voice_id)
    if row is None:
        return refuse(404, rest_wire.not_found(_DRAFT, voice_id))
    return None if _is_ready(account, row) else refuse(404, rest_wire.not_ready(voice_id))


class Meter:
    """Books the use of the sessions of one product on an account."""

    def __init__(self, usage: Usage, product: wire.Product) -> None:
        self._usage = usage
        self._price = {
            wire.TTS.name: rest_wire.TTS_CREDITS_PER_CHARACTER,
            wire.STT.name: rest_wire.STT_CREDITS_PER_SECOND,
            wire.S2S.name: rest_wire.S2S_CREDITS_PER_SECOND,
        }[product.name]

    def count_start(self) -> None:
        """A request was taken."""
        self._usage.count_session()

    def count_input_audio(self, seconds: float) -> None:
        """A message brought audio."""
        self._usage.count_ingress_audio(seconds, self._price)

    def count_input_text(self, num_characters: int) -> None:
        """A message brought text to be spoken."""
        self._usage.count_ingress_text(num_characters, self._price)

    def count_output(self, event: OutputEvent) -> None:
        """An event went to the client; only text and audio count."""
        match event:
            case Audio(_, start_s, stop_s):
                self._usage.count_egress_audio(stop_s - start_s)
            case Transcript(text):
                self._usage.count_egress_text(len(text))


# --- voices


def _list_voices(account: Account, request: Request) -> Answer:
    query = rest_wire.parse_fields("query", rest_wire.VOICE_QUERY, request.query)
    voices = [rest_wire.build_voice(row) for row in account.voices.rows()]
    if query["include_catalog"]:
        voices += map(rest_wire.build_catalog_voice, rest_wire.CATALOG)
    return Answer(200, _page(voices, query["skip"], query["limit"]))


def _create_voice(account: Account, request: Request) -> Answer:
    upload = request.files.get(rest_wire.AUDIO_FIELD)
    if upload is None or not upload.num_bytes:
        what = "Field required" if upload is None else "expected audio, got an empty file"
        raise rest_wire.FieldsRefused([rest_wire.build_problem(["body", rest_wire.AUDIO_FIELD], what, "missing")])
    fields = rest_wire.parse_fields("body", rest_wire.VOICE, request.body)
    return Answer(201, rest_wire.build_created_voice(_add_voice(account, fields, filename=upload.filename)["uid"]))


def _get_voice(account: Account, request: Request) -> Answer:
    uid = request.path["uid"]
    for listed in rest_wire.CATALOG:
        if listed.uid == uid:
            return Answer(200, rest_wire.build_catalog_voice(listed))
    return Answer(200, rest_wire.build_voice(_existing(account.voices, _VOICE, uid)))


def _update_voice(account: Account, request: Request) -> Answer:
    row = _existing(account.voices, _VOICE, request.path["uid"])
    row = {**row, **rest_wire.parse_fields("body", rest_wire.VOICE_CHANGES, request.body)}
    account.voices.put(row["uid"], row)
    return Answer(200, rest_wire.build_voice(row))


def _delete_voice(account: Account, request: Request) -> Answer:
    return _delete(account.voices, _VOICE, request.path["uid"])


def _add_voice(account: Account, fields: Mapping[str, Any], filename: str | None = None) -> Mapping[str, Any]:
    row = {**fields, "uid": account.new_id(), "org_uid": _ORGANISATION, "filename": filename}
    _put(account.voices, _VOICE, row["uid"], row)
    return row


# --- voice designer


def _generate(account: Account, request: Request) -> Answer:
    fields = rest_wire.parse_fields("body", rest_wire.DRAFT, request.body)
    if not account.usage.remaining_credits:
        raise _Refused(402, rest_wire.NO_CREDITS)
    now = account.clock()
    rows = []
    for _ in range(fields["n_samples"]):
        row = {
            "embedding_id": rest_wire.DRAFT_PREFIX + account.new_id(),
            "prompt": fields["prompt"],
            "language": fields["language"],
            "created_at_s": now,
            "kept": False,
        }
        _put(account.drafts, _DRAFT, row["embedding_id"], row, expires_at_s=now + account.draft_lifetime_s)
        rows.append(row)
    return Answer(201, rest_wire.build_drafts([_build_draft(account, row) for row in rows]))


def _get_draft(account: Account, request: Request) -> Answer:
    uid = rest_wire.parse_fields("query", rest_wire.DRAFT_QUERY, request.query)["embedding_id"]
    return Answer(200, rest_wire.build_drafts([_build_draft(account, _existing(account.drafts, _DRAFT, uid))]))


def _delete_draft(account: Account, request: Request) -> Answer:
    return _delete(account.drafts, _DRAFT, request.path["uid"])


def _keep_draft(account: Account, request: Request) -> Answer:
    fields = rest_wire.parse_fields("body", rest_wire.PROMOTION, request.body)
    uid = fields.pop("voxium_embedding_id")
    draft = account.drafts.get(uid)
    if draft is None:
        raise _Refused(409, rest_wire.not_found(_DRAFT, uid))
    if not _is_ready(account, draft):
        raise _Refused(409, rest_wire.not_ready(uid))
    if draft["kept"]:
        raise _Refused(409, rest_wire.already_kept(uid))
    row = _add_voice(account, {**fields, "language": draft["language"]})
    account.drafts.put(uid, {**draft, "kept": True}, expires_at_s=_expires_at_s(account, draft))
    return Answer(201, rest_wire.build_voice(row))


def _is_ready(account: Account, draft: Mapping[str, Any]) -> bool:
    return bool(account.clock() >= draft["created_at_s"] + account.draft_delay_s)


def _expires_at_s(account: Account, draft: Mapping[str, Any]) -> float:
    return float(draft["created_at_s"] + account.draft_lifetime_s)


def _build_draft(account: Account, draft: Mapping[str, Any]) -> dict[str, Any]:
    return rest_wire.build_draft(draft, ready=_is_ready(account, draft), expires_at_s=_expires_at_s(account, draft))


# --- pronunciations


def _list_dictionaries(account: Account, request: Request) -> Answer:
    query = rest_wire.parse_fields("query", rest_wire.PRONUNCIATION_QUERY, request.query)
    language = query.get("language")
    rows = [row for row in account.dictionaries.rows() if language in {None, row["language"]}]
    page = _page(rows, query["offset"], query["limit"])
    return Answer(200, rest_wire.build_dictionaries([rest_wire.build_dictionary(row) for row in page], len(rows)))


def _create_dictionary(account: Account, request: Request) -> Answer:
    fields = rest_wire.parse_fields("body", rest_wire.PRONUNCIATION, request.body)
    row = {
        **_with_rule_ids(fields),
        "uid": account.new_id(),
        "org_uid": _ORGANISATION,
        "created_at_s": account.clock(),
    }
    _put(account.dictionaries, _DICTIONARY, row["uid"], row)
    return Answer(201, rest_wire.build_dictionary(row))


def _get_dictionary(account: Account, request: Request) -> Answer:
    return Answer(200, rest_wire.build_dictionary(_existing(account.dictionaries, _DICTIONARY, request.path["uid"])))


def _update_dictionary(account: Account, request: Request) -> Answer:
    row = _existing(account.dictionaries, _DICTIONARY, request.path["uid"])
    changes = rest_wire.parse_fields("body", rest_wire.PRONUNCIATION_CHANGES, request.body)
    row = {**row, **_with_rule_ids(changes)}
    account.dictionaries.put(row["uid"], row)
    return Answer(200, rest_wire.build_dictionary(row))


def _delete_dictionary(account: Account, request: Request) -> Answer:
    return _delete(account.dictionaries, _DICTIONARY, request.path["uid"])


def _with_rule_ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    if "rules" not in fields:
        return dict(fields)
    return {**fields, "rules": [rest_wire.build_rule(index, rule) for index, rule in enumerate(fields["rules"], 1)]}


# --- usage and tokens


def _credits(account: Account, _: Request) -> Answer:
    usage = account.usage
    return Answer(200, rest_wire.build_credits(usage.remaining_credits, usage.allocated_credits, account.clock()))


def _summary(account: Account, _: Request) -> Answer:
    usage = account.usage
    return Answer(
        200,
        rest_wire.build_summary(
            consumed_credits=usage.consumed_credits,
            sessions=usage.sessions,
            ingress_messages=usage.ingress_messages,
            ingress_text_size=usage.ingress_text_size,
            ingress_audio_s=usage.ingress_audio_s,
            egress_messages=usage.egress_messages,
            egress_text_size=usage.egress_text_size,
            egress_audio_s=usage.egress_audio_s,
        ),
    )


def _token(account: Account, _: Request) -> Answer:
    try:
        token, expires_at_s = account.tokens.issue()
    except Full as error:
        raise _Refused(429, rest_wire.store_full("token", error.most)) from error
    return Answer(200, rest_wire.build_token(token, expires_at_s))


# --- for all of them


def _existing(shelf: Shelf, kind: str, uid: str) -> Mapping[str, Any]:
    row = shelf.get(uid)
    if row is None:
        raise _Refused(404, rest_wire.not_found(kind, uid))
    return row


def _put(shelf: Shelf, kind: str, uid: str, row: Mapping[str, Any], **expiry: float) -> None:
    try:
        shelf.put(uid, row, **expiry)
    except Full as error:
        raise _Refused(409, rest_wire.store_full(kind, error.most)) from error


def _delete(shelf: Shelf, kind: str, uid: str) -> Answer:
    if shelf.pop(uid) is None:
        raise _Refused(404, rest_wire.not_found(kind, uid))
    return Answer(204)


def _page(rows: list[Any], skip: int, limit: int) -> list[Any]:
    return rows[skip : skip + limit if limit else None]


def _operation(
    method: str,
    route: str,
    carry_out: Callable[[Account, Request], Answer],
    body: Body = Body.NONE,
    *,
    once: bool = False,
) -> Operation:
    return Operation(method, route, body, carry_out, once)


_VOICE_ITEM: Final = rest_wire.VOICES_ROUTE + "{uid}"
_DICTIONARY_ITEM: Final = rest_wire.PRONUNCIATIONS_ROUTE + "{uid}"

OPERATIONS: Final = (
    _operation("GET", rest_wire.VOICES_ROUTE, _list_voices),
    _operation("POST", rest_wire.VOICES_ROUTE, _create_voice, Body.FORM),
    _operation("POST", rest_wire.FROM_EMBEDDING_ROUTE, _keep_draft, Body.JSON),
    _operation("GET", _VOICE_ITEM, _get_voice),
    _operation("PUT", _VOICE_ITEM, _update_voice, Body.JSON),
    _operation("DELETE", _VOICE_ITEM, _delete_voice),
    _operation("POST", rest_wire.GENERATE_ROUTE, _generate, Body.JSON),
    _operation("GET", rest_wire.EMBEDDINGS_ROUTE, _get_draft),
    _operation("DELETE", rest_wire.EMBEDDINGS_ROUTE + "/{uid}", _delete_draft),
    _operation("GET", rest_wire.CREDITS_ROUTE, _credits),
    _operation("GET", rest_wire.SUMMARY_ROUTE, _summary),
    _operation("GET", rest_wire.PRONUNCIATIONS_ROUTE, _list_dictionaries),
    _operation("POST", rest_wire.PRONUNCIATIONS_ROUTE, _create_dictionary, Body.JSON),
    _operation("GET", _DICTIONARY_ITEM, _get_dictionary),
    _operation("PUT", _DICTIONARY_ITEM, _update_dictionary, Body.JSON),
    _operation("DELETE", _DICTIONARY_ITEM, _delete_dictionary),
    _operation("GET", rest_wire.TOKEN_ROUTE, _token, once=True),
)
