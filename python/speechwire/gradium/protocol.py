"""The Gradium dialogue as two state machines without I/O: what may come next, what it means, what to answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from speechwire.errors import AuthError, ServerError, WireError
from speechwire.events import (
    Audio,
    EndOfStream,
    Failure,
    FailureKind,
    Flush,
    Flushed,
    InputEvent,
    OutputEvent,
    Start,
    Transcript,
    VadStep,
)
from speechwire.formats import bytes_per_second
from speechwire.gradium import wire

# Ended requests that are remembered while others run on the connection.
MOST_ENDED_REQUESTS = 256

__all__ = ["ClientProtocol", "RequestBooks", "ServerProtocol"]


class ClientProtocol:
    """One connection as the client sees it.

    Build messages with `setup`, `audio`, `text`, `flush` and `end_of_stream` and send what they return; hand every
    message that arrives to `receive_message`. The object keeps the books that errors quote: `request_id`, `sent_ms`,
    `received_ms`. They cover the requests since the connection was last idle.
    """

    def __init__(self, product: wire.Product) -> None:
        self._product = product
        self.ready: dict[str, Any] | None = None
        self.finished = False
        self._requests: dict[str | None, RequestBooks] = {}

    def books(self, client_req_id: str | None) -> RequestBooks:
        """Return the books of one request; empty ones if there is none of this name."""
        return self._requests.get(client_req_id) or RequestBooks({})

    def is_active(self, client_req_id: str) -> bool:
        """Tell whether a request of this name was begun and has not been ended by the server."""
        request = self._requests.get(client_req_id)
        return request is not None and request.active

    @property
    def request_id(self) -> str | None:
        """The id that the server gave the latest request, to quote to the vendor's support."""
        return None if self.ready is None else self.ready.get("request_id")

    @property
    def idle(self) -> bool:
        """True if nothing is owed: no request has been set up, or all have ended."""
        return not any(request.active for request in self._requests.values())

    @property
    def input_ended(self) -> bool:
        """True if the end of every request's input has been said."""
        return all(request.input_ended for request in self._requests.values())

    @property
    def sent_ms(self) -> float:
        """Audio built so far, in milliseconds; containers, whose bytes do not tell their length, are not counted."""
        return sum(request.sent_ms for request in self._requests.values())

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds."""
        return sum(request.received_ms for request in self._requests.values())

    def setup(self, fields: Mapping[str, Any]) -> str:
        """Build the `setup` that begins a request."""
        if self.idle:
            self._requests.clear()
            self.ready = None
        elif len(self._requests) > MOST_ENDED_REQUESTS:
            self._requests = {name: request for name, request in self._requests.items() if request.active}
        self._requests[fields.get("client_req_id")] = RequestBooks(fields)
        return wire.build_setup(fields)

    def audio(self, audio: bytes, client_req_id: str | None = None) -> str:
        """Build one `audio` message; `audio` is in the request's input format."""
        request = self._requests.get(client_req_id)
        if request is not None:
            request.sent_bytes += len(audio)
        return wire.build_audio(audio, client_req_id)

    def text(self, text: str, client_req_id: str | None = None) -> str:
        """Build one `text` message; the service puts a space between two of them."""
        return wire.build_text_input(text, client_req_id)

    def flush(self, flush_id: object, client_req_id: str | None = None) -> str:
        """Build the message that asks for everything that is pending; `flushed` will bring the id back."""
        return wire.build_flush(flush_id, client_req_id)

    def end_of_stream(self, client_req_id: str | None = None) -> str:
        """Build the message that says no more input will come."""
        request = self._requests.get(client_req_id)
        if request is not None:
            request.input_ended = True
        return wire.build_end_of_stream(client_req_id)

    def receive_message(self, data: str | bytes) -> dict[str, Any]:
        """Take one message from the server and return it as a dict, with `audio` as bytes.

        Message types and fields that are not known pass unchanged. A `text` without `stop_s` gets its `start_s`, except
        in recognition, where `end_text` brings it.

        Raises:
            WireError: The message breaks the wire's rules.
            ServerError: The message is an `error`, which ends its request. AuthError if it is about the key.
        """
        message = wire.parse_message(data)
        kind = message["type"]
        name = message.get("client_req_id")
        if name is not None and not isinstance(name, str):
            raise WireError(f"expected client_req_id to be str, got {type(name).__name__}")
        request = self._requests.get(name)
        if kind == wire.AUDIO:
            wire.check_audio(message)
            if request is not None:
                request.received_bytes += len(message["audio"])
                request.received_s = message.get("stop_s", request.received_s)
        elif kind == wire.TEXT:
            wire.check_text(message)
            if self._product.audio_out and "start_s" in message:
                message.setdefault("stop_s", message["start_s"])
        elif kind == wire.STEP:
            wire.check_step(message)
        elif kind == wire.END_TEXT:
            wire.check_end_text(message)
        elif kind == wire.READY:
            self.ready = message
            if request is not None:
                request.ready = message
        elif kind == wire.END_OF_STREAM:
            self._end(request)
        elif kind == wire.ERROR:
            self._end(request)
            raise self._error(message, request)
        return message

    def _end(self, request: RequestBooks | None) -> None:
        if request is not None:
            request.active = False
            self.finished = request.single_use and self.idle

    def _error(self, message: Mapping[str, Any], request: RequestBooks | None) -> ServerError | AuthError:
        code = message.get("code")
        reason = str(message.get("message", ""))
        error = AuthError if wire.is_auth_error(code, reason) else ServerError
        return error(
            f"error from the server: {reason}",
            code=code if isinstance(code, int) else None,
            reason=reason,
            request_id=self.request_id if request is None else request.request_id,
            sent_ms=self.sent_ms if request is None else request.sent_ms,
            received_ms=self.received_ms if request is None else request.received_ms,
            retryable=code == wire.CLOSE_INTERNAL,
            client_req_id=message.get("client_req_id"),
        )


class RequestBooks:
    """What the client remembers of one request.

    Args:
        fields: Of its setup.

    `active` is true until the service has ended the request, `input_ended` once we have said that no more input comes;
    `ready` is the service's answer to the setup.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.active = True
        self.input_ended = False
        self.ready: dict[str, Any] | None = None
        self.single_use = fields.get("close_ws_on_eos") is not False
        self.sent_bytes = 0
        self.received_bytes = 0
        self.received_s = 0.0  # by the service's own clock
        self._input_format = str(fields.get("input_format", wire.DEFAULT_FORMAT))
        self._output_format = str(fields.get("output_format", wire.DEFAULT_FORMAT))

    @property
    def request_id(self) -> str | None:
        """The service's id of the request."""
        return None if self.ready is None else self.ready.get("request_id")

    @property
    def sent_ms(self) -> float:
        """Audio built so far, in milliseconds; 0.0 for containers."""
        per_second = bytes_per_second(wire.input_codec_format(self._input_format))
        return self.sent_bytes * 1000 / per_second if per_second else 0.0

    @property
    def received_ms(self) -> float:
        """Audio received so far, in milliseconds."""
        if self._output_format == wire.WAV:
            num_bytes = max(0, self.received_bytes - wire.WAV_HEADER_BYTES)
            return num_bytes * 1000 / (wire.OUTPUT_PCM_SAMPLE_RATE * 2)
        per_second = bytes_per_second(wire.output_codec_format(self._output_format))
        return self.received_bytes * 1000 / per_second if per_second else self.received_s * 1000


class ServerProtocol:
    """One connection as the server sees it.

    Call `receive_message` for every message that arrives and act on the events it returns; call `send_event` for what
    the engine answers. After either, send what `messages_to_send` returns, and if `close_code` is set then close.

    A request is named by its `client_req_id`, None where the client sent none; several may run on one connection.
    """

    def __init__(self, product: wire.Product, *, refusal: str | None = None) -> None:
        """Start; `refusal` is the text that answers the first message of a client without a valid key."""
        self._product = product
        self.close_code: int | None = None
        self.close_reason = ""
        self._refusal = refusal
        self._requests: dict[str | None, _Request] = {}
        self._outgoing: list[str] = []
        self._any_setup = False
        self._closing = False
        self._failed: dict[str | None, None] = {}  # the latest last

    def messages_to_send(self) -> list[str]:
        """Return what has to be sent, in order, and forget it."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def receive_message(self, data: str | bytes) -> list[tuple[str | None, InputEvent]]:
        """Take one message from the client; return pairs of request name and event.

        A message that breaks the rules is answered with `error` and sets `close_code`; nothing is raised.
        """
        if self.close_code is not None:
            return []
        if self._refusal is not None:
            return self.refuse(self._refusal, wire.CLOSE_POLICY)
        if isinstance(data, bytes):
            return self.refuse(f"{wire.INVALID_MESSAGE}: expected a text frame, got a binary frame")
        if len(data) > wire.MAX_MESSAGE_CHARACTERS:
            limit = wire.MAX_MESSAGE_CHARACTERS
            return self.refuse(f"{wire.INVALID_MESSAGE}: expected at most {limit} characters, got {len(data)}")
        try:
            message = wire.parse_message(data)
        except WireError as error:
            return self.refuse(f"{wire.INVALID_MESSAGE}: {error}")
        name = message.get("client_req_id")
        if name is not None and not isinstance(name, str):
            return self.refuse(f"{wire.INVALID_MESSAGE}: expected client_req_id to be str, got {type(name).__name__}")
        if name is not None and len(name) > wire.MAX_NAME_CHARACTERS:
            most = wire.MAX_NAME_CHARACTERS
            return self.refuse(
                f"{wire.INVALID_MESSAGE}: expected a client_req_id of at most {most} characters, got {len(name)}"
            )
        return self._receive(name, message)

    @property
    def active(self) -> Collection[str | None]:
        """The names of the requests that are running; an error may have ended one."""
        return self._requests.keys()

    def receive_nothing(self) -> None:
        """The client has said nothing for a while: tell one without a valid key why it has to go."""
        if self._refusal is not None and self.close_code is None:
            self.refuse(self._refusal, wire.CLOSE_POLICY)

    def start_output(self, name: str | None, request_id: str, sample_rate: int) -> None:
        """Answer the `Start` of a request with `ready`; `sample_rate` is that of the audio to come, if any is."""
        request = self._requests.get(name)
        if request is None:
            return
        if not self._product.audio_out:
            sample_rate = wire.INPUT_PCM_SAMPLE_RATE
        setup = request.setup
        self._outgoing.append(
            wire.build_ready(self._product, request_id, setup.model_name, sample_rate, setup.delay_in_frames, name)
        )

    def send_event(self, name: str | None, event: OutputEvent) -> None:
        """Turn one event of the engine into messages."""
        if name not in self._requests:
            return
        match event:
            case Audio(audio, start_s, stop_s):
                self._outgoing.append(wire.build_output_audio(audio, start_s, stop_s, name))
            case Transcript(text, start_s, stop_s) if self._product.audio_out:
                self._outgoing.append(wire.build_text(text, start_s, stop_s, name))
            case Transcript(text, start_s, stop_s):
                self._outgoing.append(wire.build_text(text, start_s, None, name))
                if stop_s is not None:
                    self._outgoing.append(wire.build_end_text(stop_s, name))
            case VadStep():
                if not self._product.audio_out:  # interpreting sends none
                    self._outgoing.append(wire.build_step(event, name))
            case Flushed(flush_id):
                self._outgoing.append(wire.build_flushed(flush_id, name))
            case EndOfStream():
                self._outgoing.append(wire.build_end_of_stream(name))
                self._end(name)
            case Failure(message, kind):
                self._fail(name, _FAILURE_TEXTS.get(kind, message), _FAILURE_CODES[kind])

    def refuse(
        self, message: str, code: int = wire.CLOSE_PROTOCOL, name: str | None = None
    ) -> list[tuple[str | None, InputEvent]]:
        """Answer with `error` and close; the empty list is what `receive_message` returns then."""
        self._outgoing.append(wire.build_error(message, code, name))
        self.close_code, self.close_reason = code, message
        return []

    def _receive(self, name: str | None, message: Mapping[str, Any]) -> list[tuple[str | None, InputEvent]]:
        kind = message["type"]
        if kind == wire.SETUP:
            return self._receive_setup(name, message)
        request = self._requests.get(name)
        if request is None:
            if name in self._failed:
                return []  # its client cannot know yet
            if kind == wire.END_OF_STREAM and name is None and self._any_setup:
                self._closing = True  # the unscoped end of a reusable connection: close when all have ended
                self._close_if_done()
                return []
            return self._fail(name, wire.NO_SESSION, wire.CLOSE_PROTOCOL)
        if kind == wire.AUDIO and self._product.audio_in:
            if request.input_ended:
                return self._invalid(name, "audio after end_of_stream")
            try:
                wire.check_audio(message)
            except WireError as error:
                return self._invalid(name, str(error))
            return [(name, Audio(message["audio"]))]
        if kind == wire.TEXT and not self._product.audio_in:
            return self._receive_text(name, message, request)
        if kind == wire.FLUSH and not request.input_ended:
            return [(name, Flush(message.get("flush_id")))]
        if kind == wire.END_OF_STREAM and not request.input_ended:
            request.input_ended = True
            return [(name, EndOfStream())]
        return []  # an unknown type after setup is ignored, as newer clients may know more than we do

    def _receive_text(
        self, name: str | None, message: Mapping[str, Any], request: _Request
    ) -> list[tuple[str | None, InputEvent]]:
        if request.input_ended:
            return self._invalid(name, "text after end_of_stream")
        try:
            wire.check_text(message)
            return [(name, part) for part in wire.parse_spoken_text(message["text"])]
        except wire.SetupRefused as error:
            return self._fail(name, str(error), error.code)
        except WireError as error:
            return self._invalid(name, str(error))

    def _receive_setup(self, name: str | None, message: Mapping[str, Any]) -> list[tuple[str | None, InputEvent]]:
        if name in self._requests:
            return self._fail(name, wire.session_already_active(name), wire.CLOSE_PROTOCOL)
        try:
            setup = wire.parse_setup(message, self._product)
        except wire.SetupRefused as error:
            return self._fail(name, str(error), error.code)
        self._any_setup = True
        self._failed.pop(name, None)
        self._requests[name] = _Request(setup)
        start = Start(
            source_format=setup.input_format and wire.input_codec_format(setup.input_format),
            target_format=setup.output_format and wire.output_codec_format(setup.output_format),
            source_language=setup.source_language,
            target_language=setup.target_language,
            voice_id=setup.voice_id,
            speed=setup.speed,
            delay_s=setup.delay_s,
            wait_s=setup.retry_for_s,
        )
        return [(name, start)]

    def _invalid(self, name: str | None, what: str) -> list[tuple[str | None, InputEvent]]:
        return self._fail(name, f"{wire.INVALID_MESSAGE}: {what}", wire.CLOSE_PROTOCOL)

    def _fail(self, name: str | None, message: str, code: int) -> list[tuple[str | None, InputEvent]]:
        """Answer with `error`, which ends that request; the last one to end closes the connection."""
        self._requests.pop(name, None)
        if not self._requests:
            return self.refuse(message, code, name)
        self._outgoing.append(wire.build_error(message, code, name))
        self._failed.pop(name, None)
        self._failed[name] = None
        if len(self._failed) > MOST_ENDED_REQUESTS:
            del self._failed[next(iter(self._failed))]
        self._closing = True
        return []

    def _end(self, name: str | None) -> None:
        request = self._requests.pop(name)
        self._closing = self._closing or request.setup.close_ws_on_eos
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._closing and not self._requests:
            self.close_code = wire.CLOSE_NORMAL


class _Request:
    """What the server remembers of one running request."""

    def __init__(self, setup: wire.SetupFields) -> None:
        self.setup = setup
        self.input_ended = False


_FAILURE_CODES = {
    FailureKind.INPUT: wire.CLOSE_POLICY,
    FailureKind.INTERNAL: wire.CLOSE_INTERNAL,
    FailureKind.DURATION: wire.CLOSE_POLICY,
    FailureKind.BUSY: wire.CLOSE_POLICY,
}
# What the service is known to say; other failures bring their own words.
_FAILURE_TEXTS = {FailureKind.DURATION: wire.SESSION_TOO_LONG, FailureKind.BUSY: wire.TOO_MANY_SESSIONS}
