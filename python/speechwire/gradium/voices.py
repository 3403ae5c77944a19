"""Voices: clones made from recordings, and voices designed from a description."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechwire.errors import SessionTimeout
from speechwire.gradium import post, rest_wire
from speechwire.gradium.results import TTSResult

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient

__all__ = [
    "create",
    "delete",
    "embedding_delete",
    "embedding_get",
    "from_embedding",
    "generate",
    "get",
    "tts",
    "update",
]


async def create(
    client: GradiumClient,
    audio_file: str | os.PathLike[str],
    *,
    language: str,
    name: str | None = None,
    description: str | None = None,
    start_s: float = 0.0,
    input_format: str | None = None,
) -> dict[str, Any]:
    """Make a voice from a recording, of which about 10 s are used.

    Args:
        client: Whose account it will belong to.
        audio_file: Path of the recording.
        language: Two-letter code of what is spoken in it.
        name: Defaults to the name of the file.
        description: For people.
        start_s: Where in the recording to begin, in seconds.
        input_format: Such as "wav"; defaults to the suffix of the file's name.

    Returns:
        `uid` of the voice; a text in `error` is advice, and not a failure.

    Raises:
        OSError: The file cannot be read.
        SessionError: The service did not take it.
    """
    path = Path(audio_file)
    input_format = input_format or path.suffix.removeprefix(".")
    fields = rest_wire.given(
        name=path.name if name is None else name,
        language=language,
        start_s=str(start_s),
        description=description,
        input_format=input_format or None,
    )
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        part = (path.name, file, f"audio/{input_format or 'wav'}")
        files = {rest_wire.AUDIO_FIELD: part}
        made: dict[str, Any] = await client.post(rest_wire.VOICES_ROUTE, data=fields, files=files)
    return made


async def get(client: GradiumClient, voice_uid: str | None = None, include_catalog: bool = False) -> Any:
    """Return one voice, or a list of all.

    Args:
        client: Whose voices to look at.
        voice_uid: Id of one voice, also of the catalogue; None for all.
        include_catalog: List the voices of the catalogue too, and not clones alone.

    Raises:
        ServerError: There is no such voice; `code` is 404.
    """
    route = rest_wire.VOICES_ROUTE
    if voice_uid is not None:
        return await client.get(rest_wire.item_route(route, voice_uid))
    return await client.get(route, params=rest_wire.build_voice_query(include_catalog=include_catalog))


async def update(
    client: GradiumClient,
    voice_uid: str,
    name: str | None = None,
    description: str | None = None,
    start_s: float | None = None,
    language: str | None = None,
) -> dict[str, Any] | None:
    """Change what is given of a voice and return the voice; None if nothing was given."""
    changes = rest_wire.given(name=name, description=description, start_s=start_s, language=language)
    if not changes:
        return None
    voice: dict[str, Any] = await client.put(rest_wire.item_route(rest_wire.VOICES_ROUTE, voice_uid), json=changes)
    return voice


async def delete(client: GradiumClient, voice_uid: str) -> bool:
    """Delete a voice; returns True, and raises ServerError with `code` 404 if there is no such voice."""
    await client.delete(rest_wire.item_route(rest_wire.VOICES_ROUTE, voice_uid))
    return True


async def generate(
    client: GradiumClient,
    prompt: str,
    *,
    language: str,
    n_samples: int = 1,
    wait: bool = False,
    timeout: float = 120.0,  # noqa: ASYNC109 - the documented name
    poll_interval: float = 1.0,
) -> dict[str, Any]:
    """Design voices from a description; they are drafts until `from_embedding` keeps them.

    Args:
        client: Whose account pays for each of them.
        prompt: What the voice is like, 500 characters at most.
        language: Two-letter code of what it will speak.
        n_samples: How many to make, 1 to 5.
        wait: Return when all are ready, with their latest state.
        timeout: How long to wait for that, in seconds.
        poll_interval: Seconds between two looks.

    Returns:
        `embeddings`, a list with `embedding_id`, `ready` and `expires_at` of each draft.

    Raises:
        SessionTimeout: They were not ready in time; it is a TimeoutError.
        ServerError: The service refused; `code` is 402 without credits.
    """
    body = rest_wire.build_draft_request(prompt, language=language, n_samples=n_samples)
    made: dict[str, Any] = await client.post(rest_wire.GENERATE_ROUTE, json=body)
    if not wait:
        return made
    drafts = rest_wire.parse_drafts(made)
    try:
        async with asyncio.timeout(timeout) as bound:
            for index, draft in enumerate(drafts):
                while not rest_wire.is_ready(drafts[index]):
                    await asyncio.sleep(poll_interval)
                    drafts[index] = await embedding_get(client, rest_wire.draft_id(draft))
    except TimeoutError as error:
        if not bound.expired():
            raise
        num_ready = sum(map(rest_wire.is_ready, drafts))
        text = f"expected {len(drafts)} drafts within {timeout:g} s, got {num_ready}"
        raise SessionTimeout(text, retryable=True) from error
    return {**made, **rest_wire.build_drafts(drafts)}


async def embedding_get(client: GradiumClient, embedding_id: str) -> dict[str, Any]:
    """Return the state of a draft.

    Raises:
        LookupError: The answer holds none.
        ServerError: The draft is unknown or has expired; `code` is 404.
    """
    answer = await client.get(rest_wire.EMBEDDINGS_ROUTE, params=rest_wire.build_draft_query(embedding_id))
    drafts = rest_wire.parse_drafts(answer)
    if not drafts:
        raise LookupError(f"expected the draft {embedding_id!r}, got none")
    return drafts[0]


async def embedding_delete(client: GradiumClient, embedding_id: str) -> bool:
    """Delete a draft; returns True."""
    await client.delete(rest_wire.item_route(rest_wire.EMBEDDINGS_ROUTE, embedding_id))
    return True


async def tts(
    client: GradiumClient,
    embedding_id: str,
    text: str,
    *,
    output_format: str = "wav",
    model_name: str | None = None,
    json_config: Mapping[str, Any] | str | None = None,
) -> TTSResult:
    """Speak a short text with a draft, to hear it before it is kept.

    Args:
        client: Whose account pays for the text.
        embedding_id: The draft, which has to be ready.
        text: About 100 characters at most.
        output_format: Wire format name of the audio.
        model_name: The service's default unless given.
        json_config: Options of synthesis, as an object or as JSON text.

    Returns:
        The audio; its `sample_rate` and `request_id` are None, because this route does not tell them.

    Raises:
        ServerError: The service refused; `code` is 404 for a draft that is not ready.
    """
    audio = post.tts(
        client,
        text,
        voice_id=embedding_id,
        output_format=output_format,
        model_name=model_name,
        json_config=json_config,
    )
    return TTSResult(
        raw_data=b"".join([chunk async for chunk in audio]),
        sample_rate=None,
        output_format=output_format,
        request_id=None,
        text_with_timestamps=[],
    )


async def from_embedding(
    client: GradiumClient, embedding_id: str, *, name: str, description: str | None = None
) -> dict[str, Any]:
    """Keep a draft as a voice and return the voice.

    Raises:
        ServerError: The service refused; `code` is 409 if the draft is missing, not ready or kept already, or there are
            too many voices.
    """
    body = rest_wire.build_promotion(embedding_id, name=name, description=description)
    voice: dict[str, Any] = await client.post(rest_wire.FROM_EMBEDDING_ROUTE, json=body)
    return voice
