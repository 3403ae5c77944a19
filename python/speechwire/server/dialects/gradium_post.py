"""Gradium's one-shot speech over HTTP, told as what a WebSocket would carry: messages in, parts of a body out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from speechwire.gradium import rest_wire, wire
from speechwire.server.account import Account
from speechwire.server.dialects import gradium, gradium_rest
from speechwire.server.dialects.gradium_rest import Answer

__all__ = [
    "RECOGNITION_ROUTE",
    "SYNTHESIS_ROUTE",
    "Post",
    "Truncated",
    "open_recognition",
    "read_synthesis",
    "refuse_credential",
]

SYNTHESIS_ROUTE: Final = rest_wire.POST_TTS_ROUTE
RECOGNITION_ROUTE: Final = rest_wire.POST_STT_ROUTE


class Truncated(Exception):
    """What went wrong cannot be said in this body; it has to end before its end."""


@dataclass(frozen=True, slots=True)
class Post:
    """One request for speech, and how its answers are written.

    Args:
        product: What is asked for.
        messages: To begin with, as a WebSocket would carry them.
        takes_audio: The body of the request is audio; its pieces follow as `audio_message` builds them.
        content_type: Of the answer.
        only_audio: The answer is audio alone, not messages in lines.
        steps: The voice activity is asked for too.
    """

    product: wire.Product
    messages: tuple[str, ...]
    takes_audio: bool
    content_type: str
    only_audio: bool = False
    steps: bool = False

    def audio_message(self, audio: bytes) -> str:
        """Return the message that carries a piece of the body."""
        return wire.build_audio(audio)

    def end_message(self) -> str:
        """Return the message that ends the input."""
        return wire.build_end_of_stream()

    def refusal(self, message: str) -> Answer | None:
        """Return the answer in place of a stream if its first message is an `error`."""
        fields = wire.parse_message(message)
        if fields["type"] != wire.ERROR:
            return None
        return _refuse(fields["code"], fields["message"])

    def part(self, message: str) -> bytes:
        """Return what a message adds to the body.

        Raises:
            Truncated: It is an `error`, and the body is audio.
        """
        if not self.only_audio and (self.steps or self.product.audio_out):
            return message.encode() + b"\n"
        fields = wire.parse_message(message)
        if not self.only_audio:
            return b"" if fields["type"] == wire.STEP else message.encode() + b"\n"
        if fields["type"] == wire.ERROR:
            raise Truncated(fields["message"])
        audio: bytes = fields["audio"] if fields["type"] == wire.AUDIO else b""
        return audio


def refuse_credential(key: str | None) -> Answer:
    """Return the refusal of a key that is missing or wrong."""
    return _refuse(wire.CLOSE_POLICY, gradium.refusal(key))


def _refuse(code: int, reason: str) -> Answer:
    return Answer(500, rest_wire.build_speech_refusal(code, reason), rest_wire.TEXT_CONTENT_TYPE)


def read_synthesis(account: Account, body: Mapping[str, Any], query: Mapping[str, str]) -> Post | Answer:
    """Read the JSON body of a one-shot synthesis; a refusal is an answer."""
    try:
        fields = rest_wire.parse_fields("body", rest_wire.POST_TTS, body)
    except rest_wire.FieldsRefused as error:
        return Answer(422, rest_wire.build_refusal(error.problems))
    draft_refusal = gradium_rest.refuse_draft(account, body.get("voice_id"))
    if draft_refusal is not None:
        return draft_refusal
    names = ("model_name", "voice_id", "output_format", "json_config", "pronunciation_id")
    setup = {name: body[name] for name in names if body.get(name) is not None}
    if rest_wire.JSON_CONFIG_PARAMETER in query:
        setup.setdefault("json_config", query[rest_wire.JSON_CONFIG_PARAMETER])
    output_format = str(setup.get("output_format", wire.DEFAULT_FORMAT))
    only_audio = fields["only_audio"]
    audio_type = rest_wire.AUDIO_CONTENT_TYPES.get(output_format, "")
    return Post(
        wire.TTS,
        (wire.build_setup(setup), wire.build_text_input(fields["text"]), wire.build_end_of_stream()),
        takes_audio=False,
        content_type=audio_type if only_audio else rest_wire.NDJSON_CONTENT_TYPE,
        only_audio=only_audio,
    )


def open_recognition(headers: Mapping[str, str], query: Mapping[str, str]) -> Post | Answer:
    """Read what stands before the body of a one-shot recognition; a refusal is an answer."""
    input_format = query.get(rest_wire.INPUT_FORMAT_PARAMETER)
    if input_format is None:
        content_type = headers.get("content-type") or "audio/wav"
        known = rest_wire.INPUT_CONTENT_TYPES.get(content_type.partition(";")[0].strip().lower())
        if known is None:
            return Answer(500, rest_wire.unsupported_content_type(content_type), rest_wire.TEXT_CONTENT_TYPE)
        input_format = known
    setup = {
        "model_name": query.get(rest_wire.MODEL_PARAMETER),
        "input_format": input_format,
        "json_config": query.get(rest_wire.JSON_CONFIG_PARAMETER),
    }
    return Post(
        wire.STT,
        (wire.build_setup(setup),),
        takes_audio=True,
        content_type=rest_wire.NDJSON_CONTENT_TYPE,
        steps=query.get(rest_wire.STEPS_PARAMETER) == "1",
    )
