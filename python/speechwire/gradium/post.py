"""Speech in one HTTP request: synthesis and recognition without a WebSocket, streamed in both directions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias, cast

from speechwire.errors import AudioError, SessionClosed, SessionError, WireError
from speechwire.gradium import rest_wire, wire
from speechwire.gradium.protocol import ClientProtocol
from speechwire.source import AudioConverter, iterate_audio

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient
    from speechwire.gradium.rest import Answer
    from speechwire.source import AudioChunk, AudioInput

    Recording: TypeAlias = AudioInput | str | os.PathLike[str] | BinaryIO

__all__ = ["stt_events", "tts", "tts_events"]

FILE_BYTES: Final = 64 * 1024  # read from a file at once


async def tts(
    client: GradiumClient,
    text: str,
    *,
    voice_id: str,
    output_format: str = "wav",
    model_name: str | None = None,
    json_config: Mapping[str, Any] | str | None = None,
    pronunciation_id: str | None = None,
) -> AsyncGenerator[bytes, None]:
    """Speak a text and yield the audio while it is made.

    Who leaves the iteration early closes it, for example with `contextlib.aclosing`.

    Args:
        client: Where to ask.
        text: The whole of it.
        voice_id: Of a voice, or of a draft.
        output_format: Wire format name of the audio.
        model_name: The service's default unless given.
        json_config: Options of synthesis, as an object or as JSON text.
        pronunciation_id: A dictionary to apply.

    Raises:
        ServerError: The service refused.
        SessionError: The audio was cut off, or there was none.
    """
    body = rest_wire.build_post_tts(
        text,
        voice_id=voice_id,
        output_format=output_format,
        only_audio=True,
        model_name=model_name,
        json_config=json_config,
        pronunciation_id=pronunciation_id,
    )
    is_empty = True
    async with client.rest.stream("POST", rest_wire.POST_TTS_ROUTE, json=body) as answer:
        if answer.content_type == rest_wire.NDJSON_CONTENT_TYPE:
            # What went wrong before there was any audio may come as a message.
            async with aclosing(_messages(client, answer, wire.TTS, {"output_format": output_format})) as messages:
                kinds = [message["type"] async for message in messages]
            raise SessionClosed(f"expected audio from {answer.where}, got messages: {', '.join(kinds) or 'none'}")
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                is_empty = False
                yield chunk
        if is_empty:
            raise SessionClosed(f"expected audio from {answer.where}, got nothing")
        _check_end(answer)


async def tts_events(
    client: GradiumClient,
    text: str,
    *,
    voice_id: str,
    output_format: str = "wav",
    model_name: str | None = None,
    json_config: Mapping[str, Any] | str | None = None,
    pronunciation_id: str | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Speak a text and yield every message, `ready` first and `end_of_stream` last; `audio` in them is bytes.

    Arguments as for `tts`.

    Raises:
        ServerError: The service refused, perhaps in the middle.
        SessionClosed: The messages ended without `end_of_stream`.
    """
    body = rest_wire.build_post_tts(
        text,
        voice_id=voice_id,
        output_format=output_format,
        only_audio=False,
        model_name=model_name,
        json_config=json_config,
        pronunciation_id=pronunciation_id,
    )
    async with client.rest.stream("POST", rest_wire.POST_TTS_ROUTE, json=body) as answer:
        kind = None
        async with aclosing(_messages(client, answer, wire.TTS, {"output_format": output_format})) as messages:
            async for message in messages:
                kind = message["type"]
                yield message
        if kind != wire.END_OF_STREAM:
            raise SessionClosed(f"{answer.where} ended without {wire.END_OF_STREAM}", retryable=True)


async def stt_events(
    client: GradiumClient,
    audio: Recording,
    *,
    input_format: str | None = None,
    model: str = wire.DEFAULT_MODEL,
    json_config: Mapping[str, Any] | str | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Recognise a recording and yield every message as it comes.

    The recording is read piece by piece while it is sent, and messages come when all of it is sent. A service that
    answers meanwhile has to wait when the network holds no more, which is after a few megabytes of messages, and then
    `Limits.send_s` ends the call.

    The end of the answer is the service's `end_of_stream` or, since that is not documented for this route, the marked
    end of the body. An answer without any message, which is how the service was seen to take a wrong `json_config`, is
    an error where there is a `json_config`; without one, nothing was said in the recording.

    Args:
        client: Where to ask.
        audio: Path of a file, an open binary file, bytes, or an iterable or asynchronous iterable of bytes.
        input_format: Wire format name of the audio; "wav" unless given.
        model: Name of the model.
        json_config: Options of recognition, as an object or as JSON text.

    Raises:
        AudioError: A format that is not known, or audio that cannot be sent.
        ServerError: The service refused, perhaps in the middle.
        SessionError: The answer was cut off.
    """
    input_format = input_format or wire.WAV
    content_type = rest_wire.AUDIO_CONTENT_TYPES.get(input_format)
    if content_type is None:
        raise AudioError(f"expected one of {', '.join(rest_wire.AUDIO_CONTENT_TYPES)}, got {input_format!r}")
    query = rest_wire.build_post_stt_query(model=model, input_format=input_format, json_config=json_config)
    is_empty = True
    async with (
        aclosing(_wire_chunks(audio, input_format)) as chunks,
        client.rest.stream(
            "POST", rest_wire.POST_STT_ROUTE, params=query, content=chunks, headers={"content-type": content_type}
        ) as answer,
    ):
        kind = None
        async with aclosing(_messages(client, answer, wire.STT, {"input_format": input_format})) as messages:
            async for message in messages:
                is_empty = False
                kind = message["type"]
                yield message
        if is_empty and json_config is not None:
            raise SessionClosed(f"{answer.where} answered nothing, which is how it takes a json_config that is wrong")
        if kind != wire.END_OF_STREAM:
            _check_end(answer)


async def _messages(
    client: GradiumClient, answer: Answer, product: wire.Product, fields: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the messages of an answer up to `end_of_stream`, if there is one; an `error` among them is raised."""
    # The messages are those of the WebSocket, and so is what checks them.
    protocol = ClientProtocol(product)
    protocol.setup(fields)
    async with aclosing(answer.lines(client.limits.max_message_bytes)) as lines:
        async for line in lines:
            try:
                message = protocol.receive_message(line)
            except WireError as error:
                reason = client.rest.without_key(str(error))
                raise SessionClosed(
                    f"malformed message from {answer.where}: {reason}",
                    code=wire.CLOSE_PROTOCOL,
                    reason=reason,
                    request_id=protocol.request_id,
                ) from error
            except SessionError as error:
                raise client.rest.refusal(
                    f"error from {answer.where}", error.code, error.reason, request_id=protocol.request_id
                ) from None
            yield message
            if message["type"] == wire.END_OF_STREAM:
                return


def _check_end(answer: Answer) -> None:
    if not answer.is_delimited:
        raise SessionClosed(f"{answer.where} ended without a mark that it is complete", retryable=True)


async def _wire_chunks(audio: Recording, input_format: str) -> AsyncGenerator[bytes, None]:
    converter = AudioConverter(wire.input_codec_format(input_format))
    async with aclosing(_source_chunks(audio, input_format)) as chunks:
        async for chunk in chunks:
            data = converter.feed(chunk)
            if data:
                yield data
    tail = converter.flush()
    if tail:
        yield tail


async def _source_chunks(audio: Recording, input_format: str) -> AsyncGenerator[AudioChunk, None]:
    if isinstance(audio, str | os.PathLike):
        file = await asyncio.to_thread(Path(audio).open, "rb")
        with file:
            async for block in _file_chunks(file):
                yield block
    elif hasattr(audio, "read"):
        async for block in _file_chunks(cast(BinaryIO, audio)):
            yield block
    else:
        async with aclosing(iterate_audio(audio, wire.input_codec_format(input_format))) as chunks:
            async for chunk in chunks:
                yield chunk


async def _file_chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, FILE_BYTES):
        yield chunk
