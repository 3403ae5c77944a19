"""Every REST call of the client against our server, and what the calls make of odd answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from harness import loopback_server, misbehaving_server, run
from speechwire.errors import AuthError, ServerError, SessionClosed, SessionTimeout, WireError
from speechwire.gradium import GradiumClient, pronunciations, usages, voices
from speechwire.server.account import Account
from test_account import Clock
from test_gradium_rest import answer, saying


@asynccontextmanager
async def opened(account: Account | None = None) -> AsyncIterator[GradiumClient]:
    """Run a server; yields a client of it."""
    async with loopback_server(api_keys=["secret"], account=account) as base_url:
        yield GradiumClient(base_url=base_url, api_key="secret")


def calling(call: Any, said: bytes) -> Any:
    """Return what a call makes of an answer."""

    async def main() -> Any:
        async with misbehaving_server(saying(said)) as base_url:
            return await call(GradiumClient(base_url=base_url, api_key="secret"))

    return run(main())


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "ops desk.wav"
    path.write_bytes(b"RIFF" + bytes(200_000))
    return path


def test_voice_calls(recording: Path) -> None:
    async def main() -> None:
        async with opened() as client:
            created = await client.voice_create(recording, language="en", description="calm", start_s=0.5)
            uid = created["uid"]
            voice = await client.voice_get(uid)
            assert (voice["name"], voice["filename"], voice["start_s"]) == ("ops desk.wav", "ops desk.wav", 0.5)
            assert (voice["language"], voice["description"], voice["is_catalog"]) == ("en", "calm", False)
            assert await client.voice_list() == await client.voice_get() == [voice]
            assert len(await client.voice_get(include_catalog=True)) == 13
            assert (await client.voice_get("-uP9MuGtBqAvEyxI"))["name"] == "Mia"
            changed = await client.voice_update(uid, name="Desk", language="fr", start_s=0.0)
            assert changed == {**voice, "name": "Desk", "language": "fr", "start_s": 0.0}
            assert await client.voice_update(uid) is None
            assert await client.voice_delete(uid) is True
            assert await client.voice_list() == []
            for call in (client.voice_get(uid), client.voice_delete(uid), client.voice_update(uid, name="x")):
                with pytest.raises(ServerError, match=f"voice not found: {uid}") as caught:
                    await call
                assert caught.value.code == 404

    run(main())


def test_voice_is_uploaded_as_it_is_called(recording: Path) -> None:
    heads = []

    async def main() -> None:
        async def take(peer: Any) -> None:
            heads.append(await peer.read_request())
            await peer.send_raw(answer("201 Created", '{"uid": "u"}'))

        async with misbehaving_server(take) as base_url:
            client = GradiumClient(base_url=base_url, api_key="secret")
            assert await client.voice_create(str(recording), language="en", name="n", input_format="flac") == {
                "uid": "u"
            }

    run(main())
    [(head, body)] = heads
    assert head.startswith("POST /api/voices/ HTTP/1.1\r\n")
    assert "content-type: multipart/form-data; boundary=" in head.lower()
    assert b'name="audio_file"; filename="ops desk.wav"\r\nContent-Type: audio/flac' in body
    assert bytes(200_000) in body
    fields = body.decode("latin-1")
    for name, value in {"name": "n", "language": "en", "start_s": "0.0", "input_format": "flac"}.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n' in fields
    assert "description" not in fields


def test_recording_that_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened() as client:
            with pytest.raises(FileNotFoundError):
                await client.voice_create(tmp_path / "none.wav", language="en")

    run(main())


def test_invalid_fields_are_named_in_the_error(recording: Path) -> None:
    async def main() -> None:
        async with opened() as client:
            with pytest.raises(
                ServerError, match=r"body\.language: expected one of en, fr, de, es, pt, got 'it'"
            ) as caught:
                await client.voice_create(recording, language="it")
            assert caught.value.code == 422

    run(main())


@pytest.mark.parametrize("uid", ["", ".", ".."])
def test_id_that_is_none_reaches_no_server(uid: str) -> None:
    client = GradiumClient(base_url="http://127.0.0.1:9", api_key="secret")
    for call in (client.voice_delete, client.voice_get, client.pronunciation_delete, client.voice_embedding_delete):
        with pytest.raises(ValueError, match="expected the id"):
            asyncio.run(call(uid))


def test_id_stays_one_segment_of_the_path() -> None:
    async def main() -> None:
        async with opened() as client:
            with pytest.raises(ServerError) as caught:
                await client.voice_delete("../voices/x?y#z")
            assert caught.value.code == 404

    run(main())


def test_voice_designer_calls() -> None:
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        async with opened(Account(clock=clock, draft_delay_s=0.05)) as client:
            made = await client.voice_generate("a calm voice", language="fr", n_samples=3)
            assert [draft["ready"] for draft in made["embeddings"]] == [False] * 3
            made = await client.voice_generate(
                "a calm voice", language="fr", n_samples=2, wait=True, poll_interval=0.01, timeout=20.0
            )
            assert [draft["ready"] for draft in made["embeddings"]] == [True] * 2
            uid, other = (draft["embedding_id"] for draft in made["embeddings"])
            assert uid != other
            draft = await client.voice_embedding_get(uid)
            assert (draft["prompt"], draft["language"], draft["embedding_id"]) == ("a calm voice", "fr", uid)
            voice = await client.voice_from_embedding(uid, name="Calm", description="d")
            assert await client.voice_get(voice["uid"]) == voice
            assert (voice["name"], voice["description"]) == ("Calm", "d")
            with pytest.raises(ServerError, match="already created") as caught:
                await client.voice_from_embedding(uid, name="Calm")
            assert caught.value.code == 409
            assert await client.voice_embedding_delete(other) is True
            with pytest.raises(ServerError, match=f"draft not found: {other}"):
                await client.voice_embedding_get(other)

    run(main(), held_clock=True)


def test_drafts_that_are_not_ready_in_time() -> None:
    async def main() -> None:
        async with opened(Account(draft_delay_s=1000.0)) as client:
            with pytest.raises(SessionTimeout, match=r"expected 2 drafts within 0\.1 s, got 0") as caught:
                await client.voice_generate("p", language="en", n_samples=2, wait=True, poll_interval=0.01, timeout=0.1)
            assert isinstance(caught.value, TimeoutError)

    run(main())


def test_no_draft_in_the_answer_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="vox_emb_1"):
        calling(lambda client: client.voice_embedding_get("vox_emb_1"), answer("200 OK", '{"embeddings": []}'))
    with pytest.raises(WireError):
        calling(lambda client: client.voice_embedding_get("vox_emb_1"), answer("200 OK", '{"embeddings": "x"}'))


def test_draft_is_heard() -> None:
    heads = []

    async def main() -> None:
        async def take(peer: Any) -> None:
            heads.append(await peer.read_request())
            await peer.send_raw(answer("200 OK", "\1\0\2\0", "audio/pcm"))

        async with misbehaving_server(take) as base_url:
            client = GradiumClient(base_url=base_url, api_key="secret")
            result = await client.voice_tts("vox_emb_1", "Hello.", output_format="pcm", json_config={"temp": 0.4})
            assert result.pcm16().tolist() == [1, 2]
            assert (result.sample_rate, result.request_id, result.text_with_timestamps) == (None, None, [])
            assert result.output_format == "pcm"

    run(main())
    [(head, body)] = heads
    assert head.startswith("POST /api/post/speech/tts HTTP/1.1\r\n")
    assert json.loads(body) == {
        "text": "Hello.",
        "voice_id": "vox_emb_1",
        "output_format": "pcm",
        "only_audio": True,
        "json_config": '{"temp": 0.4}',
    }


def test_usage_calls() -> None:
    async def main() -> None:
        account = Account(clock=Clock(1_795_219_200.0))
        account.usage.count_ingress_text(30, price=1.0)
        async with opened(account) as client:
            assert await client.credits() == {
                "remaining_credits": 999_970,
                "allocated_credits": 1_000_000,
                "billing_period": "11-2026",
                "next_rollover_date": "2026-12-01",
                "plan_name": "local",
            }
            assert (await client.usage_summary())["ingress_text_size"] == 30

    run(main())


def test_pronunciation_calls() -> None:
    async def main() -> None:
        async with opened() as client:
            rules = [{"original": "Nevers", "rewrite": "neh vair"}]
            created = await client.pronunciation_create("towns", rules, language="fr", description="d")
            uid = created["uid"]
            assert created["rules"] == [{"id": 1, "case_sensitive": False, **rules[0]}]
            assert await client.pronunciation_get(uid) == created
            await client.pronunciation_create("more", iter(rules), language="en")
            assert await client.pronunciation_list(language="fr") == {"dictionaries": [created], "total": 1}
            page = await client.pronunciation_list(limit=1, offset=1)
            assert ([entry["name"] for entry in page["dictionaries"]], page["total"]) == (["more"], 2)
            changed = await client.pronunciation_update(uid, rules=[], name="cities")
            assert changed == {**created, "rules": [], "name": "cities"}
            assert await client.pronunciation_update(uid) is None
            assert await client.pronunciation_delete(uid) is True
            with pytest.raises(ServerError, match="dictionary not found"):
                await client.pronunciation_get(uid)

    run(main())


def test_temporary_token_lets_one_connection_in() -> None:
    async def main() -> None:
        async with opened(Account(clock=Clock(1_795_219_200.0))) as client:
            token = await client.temporary_token()
            assert token.expires_at == datetime(2026, 11, 21, 0, 1, tzinfo=UTC)
            assert token.token not in repr(token)
            url = f"ws{client.rest._base_url.removeprefix('http')}speech/s2s?token={token.token}"
            for expected in ("ready", "error"):
                async with connect(url, proxy=None) as websocket:
                    await websocket.send('{"type":"setup","input_format":"pcm","output_format":"pcm","voice_id":"v"}')
                    assert f'"type": "{expected}"' in str(await websocket.recv())

    run(main())


def test_module_twins() -> None:
    async def main() -> None:
        async with opened() as client:
            assert await voices.get(client) == []
            assert await usages.get(client) == await client.credits()
            assert await usages.summary(client) == await client.usage_summary()
            assert (await pronunciations.list_page(client))["total"] == 0

    run(main())


def test_wrong_key_is_an_auth_error() -> None:
    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            client = GradiumClient(base_url=base_url, api_key="not the secret")
            with pytest.raises(AuthError, match="API key is revoked or expired") as caught:
                await client.credits()
            assert caught.value.code == 401

    run(main())


def test_wrong_key_is_told_during_a_large_upload(recording: Path) -> None:
    recording.write_bytes(bytes(20_000_000))

    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            with pytest.raises(AuthError, match="API key is revoked or expired"):
                await GradiumClient(base_url=base_url, api_key="wrong").voice_create(recording, language="en")

    run(main())


def test_subclass_may_replace_the_headers() -> None:
    class Authorized(GradiumClient):
        @property
        def headers(self) -> dict[str, str]:
            return {"x-api-key": "secret"}

    async def main() -> None:
        async with loopback_server(api_keys=["secret"]) as base_url:
            assert await Authorized(base_url=base_url, api_key="other").credits()

    run(main())


def test_delete_of_a_voice_needs_no_content_type() -> None:
    assert calling(lambda client: client.voice_delete("u"), b"HTTP/1.1 204 No Content\r\n\r\n") is True


def test_refusal_that_is_a_list_is_told() -> None:
    with pytest.raises(ServerError, match="first; second"):
        calling(lambda client: client.voice_list(), answer("400 Bad", '["first", {"detail": "second"}]'))


def test_html_in_place_of_an_answer() -> None:
    with pytest.raises(SessionClosed, match="expected JSON, got text/html"):
        calling(lambda client: client.credits(), answer("200 OK", "<html>log in</html>", "text/html"))


def test_calls_of_an_open_client() -> None:
    async def main() -> None:
        async with opened() as client, client:
            assert await asyncio.gather(*[client.voice_list() for _ in range(20)]) == [[]] * 20

    run(main())
