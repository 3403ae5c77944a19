"""The REST routes of the server over real sockets: what clients get for good requests and for bad."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from harness import loopback_server, run
from speechwire import transport
from speechwire.errors import AuthError
from speechwire.gradium import GradiumClient, Limits, rest_wire
from speechwire.server.account import Account
from speechwire.server.dialects.gradium_rest import find_voice
from speechwire.server.engines.stages import Spoken
from speechwire.server.engines.synthesize import EspeakSynthesizer, espeak_voice
from speechwire.server.voices import FEMALE, MALE, Voice
from test_account import Clock


@asynccontextmanager
async def opened(
    account: Account | None = None, *, key: str | None = "secret"
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Run a server with a key; yields a client that shows `key`, and the base URL."""
    async with loopback_server(api_keys=["secret"], account=account) as base_url:
        headers = {} if key is None else {"x-api-key": key}
        async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False) as client:
            yield client, base_url


FORM = {"name": "Ops desk", "language": "en", "start_s": "0.5", "description": "calm"}
FILE = {"audio_file": ("ops.wav", b"RIFF" + bytes(100), "audio/wav")}
RULES: list[dict[str, Any]] = [
    {"original": "Nevers", "rewrite": "neh vair"},
    {"original": "SW", "rewrite": "s w", "case_sensitive": True},
]


def test_voice_lives_from_upload_to_delete() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            created = await client.post("voices/", data=FORM, files=FILE)
            assert created.status_code == 201
            uid = created.json()["uid"]
            assert created.json() == {
                "uid": uid,
                "error": "Please wait a bit till the voice is ready to be used.",
                "was_updated": True,
            }
            voice = (await client.get(f"voices/{uid}", params={"limit": 0, "include_catalog": 1})).json()
            assert (voice["name"], voice["filename"], voice["start_s"]) == ("Ops desk", "ops.wav", 0.5)
            assert (voice["is_catalog"], voice["is_pro_clone"], voice["description"]) == (False, False, "calm")
            tags = [{"category": "gender", "value": "feminine"}, {"value": "warm"}]
            changed = await client.put(f"voices/{uid}", json={"name": "Desk", "tags": tags, "language": None})
            assert changed.status_code == 200
            assert changed.json() == {**voice, "name": "Desk", "tags": [tags[0], {"category": None, "value": "warm"}]}
            gone = await client.delete(f"voices/{uid}")
            assert (gone.status_code, gone.content, gone.headers["content-type"]) == (204, b"", "application/json")
            for again in (client.get(f"voices/{uid}"), client.delete(f"voices/{uid}")):
                missing = await again
                assert (missing.status_code, missing.json()) == (404, {"detail": f"voice not found: {uid}"})

    run(main())


def test_voices_are_listed_in_pages() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            for number in range(3):
                await client.post("voices/", data={**FORM, "name": f"voice {number}"}, files=FILE)

            async def names(query: str) -> list[str]:
                return [voice["name"] for voice in (await client.get(f"voices/{query}")).json()]

            assert await names("") == ["voice 0", "voice 1", "voice 2"]
            assert await names("?skip=1&limit=1") == ["voice 1"]
            assert await names("?limit=0&skip=2") == ["voice 2"]
            assert await names("?limit=0&include_catalog=0") == ["voice 0", "voice 1", "voice 2"]
            assert len(await names("?limit=0&include_catalog=1")) == len(await names("?include_catalog=true")) == 15
            assert "Emma" in await names("?include_catalog=true")

    run(main())


def test_voice_of_the_catalogue_can_be_read_and_not_changed() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            assert (await client.get("voices/-uP9MuGtBqAvEyxI")).json()["name"] == "Mia"
            assert (await client.put("voices/-uP9MuGtBqAvEyxI", json={"name": "x"})).status_code == 404
            assert (await client.delete("voices/-uP9MuGtBqAvEyxI")).status_code == 404

    run(main())


def test_draft_becomes_ready_and_is_kept_once() -> None:
    clock = Clock()

    async def main() -> None:
        async with opened(Account(clock=clock, draft_delay_s=5.0, draft_lifetime_s=60.0)) as (client, _):
            prompt = {"prompt": "a calm voice", "language": "fr", "n_samples": 2}
            made = await client.post("voice-generator/generate", json=prompt)
            assert made.status_code == 201
            first, second = made.json()["embeddings"]
            uid = first["embedding_id"]
            assert uid.startswith("vox_emb_")
            assert uid != second["embedding_id"]
            assert not first["ready"]
            assert datetime.fromisoformat(first["expires_at"]) == datetime.fromtimestamp(clock.now_s + 60, UTC)

            async def read() -> httpx.Response:
                return await client.get("voice-generator/embeddings", params={"embedding_id": uid})

            async def keep() -> httpx.Response:
                body = {"voxium_embedding_id": uid, "name": "Calm"}
                return await client.post("voices/from-embedding", json=body)

            early = await keep()
            assert (early.status_code, early.json()) == (409, {"detail": f"draft not ready: {uid}"})
            clock.now_s += 5
            [ready] = (await read()).json()["embeddings"]
            assert (ready["ready"], ready["prompt"], ready["language"]) == (True, "a calm voice", "fr")
            kept = await keep()
            assert (kept.status_code, kept.json()["name"], kept.json()["language"]) == (201, "Calm", "fr")
            assert [voice["uid"] for voice in (await client.get("voices/")).json()] == [kept.json()["uid"]]
            assert (await keep()).status_code == 409
            dropped = await client.delete(f"voice-generator/embeddings/{second['embedding_id']}")
            assert dropped.status_code == 204
            clock.now_s += 55
            assert (await read()).status_code == 404
            unknown = await keep()
            assert (unknown.status_code, unknown.json()) == (409, {"detail": f"draft not found: {uid}"})

    run(main())


def test_pronunciations_live_from_create_to_delete() -> None:
    clock = Clock(1_800_000_000.0)

    async def main() -> None:
        async with opened(Account(clock=clock)) as (client, _):
            body = {"name": "towns", "language": "fr", "rules": RULES}
            created = await client.post("pronunciations/", json=body)
            assert created.status_code == 201
            dictionary = created.json()
            assert dictionary["rules"] == [
                {"id": 1, "original": "Nevers", "rewrite": "neh vair", "case_sensitive": False},
                {"id": 2, "original": "SW", "rewrite": "s w", "case_sensitive": True},
            ]
            assert dictionary["created_at"] == "2027-01-15T08:00:00Z"
            assert dictionary["org_uid"]
            route = f"pronunciations/{dictionary['uid']}"
            assert (await client.get(route)).json() == dictionary
            await client.post("pronunciations/", json={**body, "language": "en"})
            listed = (await client.get("pronunciations/", params={"language": "fr"})).json()
            assert listed == {"dictionaries": [dictionary], "total": 1}
            paged = (await client.get("pronunciations/", params={"limit": 1, "offset": 1})).json()
            assert ([entry["language"] for entry in paged["dictionaries"]], paged["total"]) == (["en"], 2)
            changed = await client.put(route, json={"rules": RULES[1:]})
            assert changed.json() == {**dictionary, "rules": [{"id": 1, **RULES[1]}]}
            assert (await client.delete(route)).status_code == 204
            assert (await client.get(route)).status_code == 404

    run(main())


def test_usage_is_what_was_counted() -> None:
    account = Account(clock=Clock(1_795_219_200.0))
    account.usage.count_session()
    account.usage.count_ingress_audio(10.0, rest_wire.S2S_CREDITS_PER_SECOND)

    async def main() -> None:
        async with opened(account) as (client, _):
            assert (await client.get("usages/summary")).json() == {
                "consumed_credits": 300,
                "sessions": 1,
                "ingress_messages": 1,
                "ingress_text_size": 0,
                "ingress_audio_duration": 10.0,
                "egress_messages": 0,
                "egress_text_size": 0,
                "egress_audio_duration": 0.0,
            }
            assert (await client.get("usages/credits")).json() == {
                "remaining_credits": 999_700,
                "allocated_credits": 1_000_000,
                "billing_period": "11-2026",
                "next_rollover_date": "2026-12-01",
                "plan_name": "local",
            }
            account.usage.allocated_credits = 300
            refused = await client.post("voice-generator/generate", json={"prompt": "p", "language": "en"})
            assert (refused.status_code, refused.json()) == (402, {"detail": "Not enough credits"})

    run(main())


@pytest.mark.parametrize(
    ("key", "detail"), [(None, "No authentication provided"), ("wrong", "API key is revoked or expired")]
)
@pytest.mark.parametrize("route", ["voices/", "api-keys/token", "usages/credits"])
def test_every_route_wants_the_key_in_the_header(route: str, key: str | None, detail: str) -> None:
    async def main() -> None:
        async with opened(key=key) as (client, _):
            for query in ("", "?token=secret"):
                refused = await client.get(f"{route}{query}")
                assert (refused.status_code, refused.json()) == (401, {"detail": detail})

    run(main())


@pytest.mark.parametrize(
    ("method", "route", "loc"),
    [
        ("POST", "voice-generator/generate", ["body"]),
        ("POST", "pronunciations/", ["body"]),
        ("POST", "voices/from-embedding", ["body"]),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'"text"', b"1" * 5000])
def test_body_that_is_no_object(method: str, route: str, loc: list[str], body: bytes) -> None:
    async def main() -> None:
        async with opened() as (client, _):
            refused = await client.request(method, route, content=body)
            assert refused.status_code == 422
            assert refused.json() == {"detail": [{"loc": loc, "msg": "JSON decode error", "type": "json_invalid"}]}

    run(main())


def test_invalid_fields_are_named() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            no_file = await client.post("voices/", data=FORM)
            assert no_file.status_code == 422
            assert no_file.json()["detail"][0]["loc"] == ["body", "audio_file"]
            empty = await client.post("voices/", data=FORM, files={"audio_file": ("a.wav", b"")})
            assert empty.status_code == 422
            no_name = await client.post("voices/", files=FILE)
            assert no_name.json() == {"detail": [{"loc": ["body", "name"], "msg": "Field required", "type": "missing"}]}
            query = await client.get("voices/", params={"limit": "x"})
            assert query.json()["detail"][0]["loc"] == ["query", "limit"]
            assert (await client.get("voice-generator/embeddings")).status_code == 422

    run(main())


def test_unknown_paths_and_methods_are_refused_in_the_same_shape() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            unknown = await client.get("nothing")
            assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
            wrong = await client.patch("voices/")
            assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
            assert "GET" in wrong.headers["allow"]

    run(main())


@pytest.mark.parametrize("route", ["voices", "pronunciations", "usages/credits", "usages/summary"])
def test_a_slash_at_the_end_makes_no_difference(route: str) -> None:
    async def main() -> None:
        async with opened() as (client, _):
            answers = [await client.get(route + slash, headers={"host": "elsewhere.example"}) for slash in ("", "/")]
            assert {answer.status_code for answer in answers} == {200}
            assert answers[0].json() == answers[1].json()

    run(main())


@pytest.mark.parametrize("path", ["post/speech/tts/", "nothing/", "voices//"])
def test_nobody_is_sent_elsewhere(path: str) -> None:
    async def main() -> None:
        async with opened() as (client, _):
            answer = await client.post(path, headers={"host": "elsewhere.example"})
            assert (answer.status_code, answer.headers.get("location")) == (404, None)

    run(main())


def test_bodies_are_bounded() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            large = await client.post("pronunciations/", content=b" " * (1024 * 1024 + 1))
            assert (large.status_code, large.json()) == (
                413,
                {"detail": "expected a body of at most 1048576 bytes, got more"},
            )
            field = await client.post("voices/", data={**FORM, "name": "x" * 20_000}, files=FILE)
            assert field.status_code == 400
            assert "detail" in field.json()
            files = [("audio_file", FILE["audio_file"])] * 2
            assert (await client.post("voices/", data=FORM, files=files)).status_code == 400

    run(main())


def test_number_of_voices_is_bounded() -> None:
    account = Account()
    for number in range(1000):
        account.voices.put(str(number), {"uid": str(number), "name": "n"})

    async def main() -> None:
        async with opened(account) as (client, _):
            full = await client.post("voices/", data=FORM, files=FILE)
            assert (full.status_code, full.json()) == (409, {"detail": "quota of 1000 reached: voice"})

    run(main())


async def first_answer(base_url: str, query: str) -> dict[str, Any]:
    """Open a session with what the query shows, and return the server's first message."""
    async with connect(f"{base_url.replace('http', 'ws')}speech/s2s?{query}", proxy=None) as websocket:
        await websocket.send('{"type":"setup","input_format":"pcm","output_format":"pcm","voice_id":"v"}')
        message: dict[str, Any] = json.loads(await websocket.recv())
        return message


def test_token_lets_one_connection_in() -> None:
    clock = Clock(1_795_219_200.0)

    async def main() -> None:
        async with opened(Account(clock=clock)) as (client, base_url):
            issued = (await client.get("api-keys/token")).json()
            assert issued["expires_at"] == "2026-11-21T00:01:00Z"
            query = f"token={issued['token']}"
            assert (await first_answer(base_url, query))["type"] == "ready"
            again = await first_answer(base_url, query)
            assert (again["type"], again["code"], again["message"]) == ("error", 1008, "API key is revoked or expired")
            late = (await client.get("api-keys/token")).json()
            clock.now_s += 60
            assert (await first_answer(base_url, f"token={late['token']}"))["type"] == "error"
            # A key does as well, as often as it is shown.
            for _ in range(2):
                assert (await first_answer(base_url, "token=secret"))["type"] == "ready"

    run(main())


def test_token_is_not_thrown_away_nor_kept_by_caches() -> None:
    async def main() -> None:
        async with opened() as (client, _):
            refused = await client.head("api-keys/token")
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
            issued = await client.get("api-keys/token")
            assert (issued.status_code, issued.headers["cache-control"]) == (200, "no-store")
            assert (await client.head("usages/credits")).status_code == 200

    run(main())


def test_client_that_goes_away_within_its_body_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with loopback_server() as base_url:
            url = httpx.URL(base_url)
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"POST /api/pronunciations/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
                assert (await client.get("usages/credits")).status_code == 200

    run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_client_that_does_not_finish_its_body_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechwire.server.rest.BODY_S", 0.1)

    async def main() -> None:
        async with loopback_server() as base_url:
            url = httpx.URL(base_url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"POST /api/pronunciations/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            writer.close()
            await writer.wait_closed()

    run(main())


# --- voices for the engines


def test_voice_of_the_catalogue_sounds_like_its_country_and_gender() -> None:
    account = Account()
    for listed in rest_wire.CATALOG:
        voice = find_voice(account, listed.uid)
        assert voice is not None
        assert voice.locale == listed.locale
        assert voice.timbre in (FEMALE if listed.gender == "feminine" else MALE)
    assert find_voice(account, "AAAAAAAAAAAAAAAA") is None


def test_clones_and_ready_drafts_have_a_voice() -> None:
    clock = Clock()
    account = Account(clock=clock, draft_delay_s=5.0)
    account.voices.put("clone", {"language": "de"})
    account.voices.put("without language", {})
    account.drafts.put("vox_emb_1", {"language": "pt", "created_at_s": clock.now_s})
    clone = find_voice(account, "clone")
    assert clone is not None
    assert clone.locale == "de"
    assert clone == find_voice(account, "clone")
    assert find_voice(account, "without language") is not None
    assert find_voice(account, "vox_emb_1") is None
    clock.now_s += 5
    draft = find_voice(account, "vox_emb_1")
    assert draft is not None
    assert draft.language == "pt"


@pytest.mark.parametrize(
    ("language", "voice", "expected"),
    [
        ("en", None, "en-us"),
        ("en", Voice("en-gb", "male1"), "en+m1"),
        ("en", Voice("en", "female2"), "en-us+f2"),
        ("es", Voice("es-mx", "female1"), "es-419+f1"),
        ("es", Voice("en-gb", "male4"), "es+m4"),
        ("pt", Voice("pt-br", "female4"), "pt-br+f4"),
    ],
)
def test_espeak_voice(language: str, voice: Voice | None, expected: str) -> None:
    assert espeak_voice(language, voice) == expected


def test_espeak_speaks_with_every_voice_and_differently() -> None:
    synthesizer = EspeakSynthesizer()

    async def speak(text: str, voice: Voice) -> bytes:
        spoken: list[Spoken] = []

        async def say(item: Spoken) -> None:
            spoken.append(item)

        await synthesizer.synthesize(text, voice.language, voice, 1.0, say)
        return b"".join(item for item in spoken if isinstance(item, bytes))

    async def main() -> None:
        await synthesizer.start()
        voices = [*(Voice("en-us", timbre) for timbre in FEMALE + MALE), Voice("en-gb", "male1")]
        spoken = [await speak("one", voice) for voice in voices]
        assert all(len(pcm) > 2205 for pcm in spoken)
        assert len(set(spoken)) == len(spoken)
        for listed in rest_wire.CATALOG:
            voice = find_voice(Account(), listed.uid)
            assert voice is not None
            assert await speak("a", voice)
        await synthesizer.stop()

    run(main())


def test_keys_and_tokens_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    key, wrong = "gd_4c0ffee5ecre7", "gd_wr0ngwr0ngwr0ng"
    caplog.set_level(logging.DEBUG)

    async def main() -> str:
        async with loopback_server(api_keys=[key]) as base_url:
            client = GradiumClient(base_url=base_url, api_key=key)
            token = (await client.temporary_token()).token
            await client.tts({"output_format": "pcm"}, "One.")
            url = f"{base_url.replace('http', 'ws', 1)}speech/tts?token={token}"
            for _ in range(2):  # the second use is refused
                connection = await transport.connect(url, {}, Limits())
                await connection.send('{"type":"setup"}')
                await connection.recv(5.0)
                await connection.close()
            with pytest.raises(AuthError) as refused:
                await GradiumClient(base_url=base_url, api_key=wrong).tts({}, "One.")
            with pytest.raises(AuthError) as refused_rest:
                await GradiumClient(base_url=base_url, api_key=wrong).credits()
            for caught in (refused, refused_rest):
                assert wrong not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            return token

    token = run(main())
    assert caplog.records
    for secret in (key, wrong, token):
        assert not [record for record in caplog.records if secret in record.getMessage()]
