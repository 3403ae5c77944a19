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
            preview = await client.voice_tts(uid, "Bonjour.", output_format="pcm", json_config={"padding_bonus": -1})
            assert preview.output_format == "pcm"
            assert preview.pcm16().any()
            with pytest.raises(Exception, match="404"):
                await client.voice_tts("vox_emb_unknown", "Bonjour.")
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


def test_the_calls_below_the_others() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = official(base_url)
            assert await client.get("usages/credits") == await gradium.usages.get(client)
            assert (await gradium.usages.summary(client))["sessions"] == 0
            assert await gradium.voices.get(client) == []
            made = await client.post("pronunciations/", json={"name": "n", "language": "en", "rules": []})
            assert (await client.put(f"pronunciations/{made['uid']}", json={"name": "m"}))["name"] == "m"
            messages = client.stream("speech/tts", {"output_format": "pcm"}, [{"type": "text", "text": "One two."}])
            kinds = [message["type"] async for message in messages]
            assert kinds[0] == "ready"
            assert kinds.count("text") == 2
            assert "audio" in kinds
            result = await gradium.speech.tts(client, {"output_format": "pcm"}, ["One", "two."])
            assert [word.text for word in result.text_with_timestamps] == ["One", "two."]

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
