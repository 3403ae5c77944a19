"""The REST calls of the official SDK, unmodified, against our server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gradium
import pytest

from harness import loopback_server
from speechwire.server.account import Account


def official(base_url: str, key: str = "secret") -> Any:
    return gradium.client.GradiumClient(base_url=base_url, api_key=key)


def test_voice_calls(tmp_path: Path) -> None:
    recording = tmp_path / "ops.wav"
    recording.write_bytes(b"RIFF" + bytes(200_000))

    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = official(base_url)
            created = await client.voice_create(recording, language="en", description="calm", start_s=0.5)
            uid = created["uid"]
            voice = await client.voice_get(uid)
            assert (voice["name"], voice["description"], voice["start_s"]) == ("ops.wav", "calm", 0.5)
            assert await client.voice_list() == [voice]
            assert len(await client.voice_get(include_catalog=True)) == 13
            assert (await client.voice_update(uid, name="Desk"))["name"] == "Desk"
            assert await client.voice_update(uid) is None
            assert await client.voice_delete(uid) is None
            assert await client.voice_list() == []

    asyncio.run(main())


def test_voice_designer_calls() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"], account=Account(draft_delay_s=0.05)) as base_url:
            client = official(base_url)
            made = await client.voice_generate(
                "a calm voice", language="fr", n_samples=2, wait=True, timeout=20.0, poll_interval=0.01
            )
            assert [draft["ready"] for draft in made["embeddings"]] == [True, True]
            uid = made["embeddings"][0]["embedding_id"]
            assert (await client.voice_embedding_get(uid))["prompt"] == "a calm voice"
            voice = await client.voice_from_embedding(uid, name="Calm", description="from a prompt")
            assert (await client.voice_get(voice["uid"]))["description"] == "from a prompt"

    asyncio.run(main())


def test_usage_calls() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = official(base_url)
            assert (await client.credits())["remaining_credits"] == 1_000_000
            assert (await client.usage_summary())["sessions"] == 0

    asyncio.run(main())


def test_refusals_reach_the_official_sdk_in_words() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            with pytest.raises(Exception, match="API key is revoked or expired") as caught:
                await official(base_url, "wrong").credits()
            assert getattr(caught.value, "status", None) == 401
            with pytest.raises(Exception, match="voice not found: nobody"):
                await official(base_url).voice_get("nobody")

    asyncio.run(main())
