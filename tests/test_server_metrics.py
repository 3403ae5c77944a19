"""Readiness, and the numbers for a monitor."""

from __future__ import annotations

import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import run
from speechwire.server import ServerLimits, create_app, serve
from speechwire.server.engines import EngineError
from speechwire.server.engines.loopback import LoopbackEngine
from test_server_products import END, answers, audio, connection, converse, say, tone

SETUP = {"type": "setup", "input_format": "pcm", "output_format": "pcm_24000"}


async def numbers(client: httpx.AsyncClient, address: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, read as Prometheus reads it."""
    response = await client.get(f"{address}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            found[sample.name.removeprefix("speechwire_"), *sample.labels.values()] = sample.value
    return found


def test_metrics_tell_what_runs_and_what_was() -> None:
    async def main() -> None:
        async with (
            serve(LoopbackEngine(), limits=ServerLimits(max_requests=2), api_keys=["k"]) as address,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            assert await numbers(client, address) == {("requests_waiting",): 0.0}
            headers = {"x-api-key": "k"}
            base_url = f"{address}/api/"
            async with (
                connection(base_url, "s2s", additional_headers=headers) as first,
                connection(base_url, "s2s", additional_headers=headers) as second,
                connection(base_url, "asr", additional_headers=headers) as third,
                connection(base_url, "tts", additional_headers=headers) as fourth,
            ):
                ids = []
                for websocket in (first, second):
                    await say(websocket, SETUP, audio(tone(400)))
                    ids.append(json.loads(await websocket.recv())["request_id"])
                    await websocket.recv()
                await say(third, {**SETUP, "input_format": "wav", "retry_for_s": 60})
                await say(fourth, SETUP)  # refused
                assert [message["type"] for message in await answers(fourth)] == ["error"]
                found = await numbers(client, address)
                factors = [found.pop(("request_real_time_factor", "interpreting", request_id)) for request_id in ids]
                assert all(0.0 < factor < 1.0 for factor in factors)
                assert found.pop(("busy_seconds_total", "interpreting")) > 0.0
                assert found == {
                    ("requests_running", "interpreting"): 2.0,
                    ("requests_waiting",): 1.0,
                    ("requests_ended_total", "synthesis", "refused"): 1.0,
                    ("audio_heard_seconds_total", "interpreting"): 0.8,
                    ("audio_spoken_seconds_total", "interpreting"): 0.8,
                }
                health = (await client.get(f"{address}/health")).json()
                assert health == {
                    "status": "ready", "running": 2, "waiting": 1, "max_requests": 2, "max_recognitions": None
                }  # fmt: skip
                await say(first, END)
                await answers(first)
                await say(third, audio(b"no RIFF" * 10))
                assert [message["type"] for message in await answers(third)] == ["ready", "error"]
            while (await numbers(client, address)).get(("requests_running", "interpreting")):
                pass
            found = await numbers(client, address)
            assert found["requests_ended_total", "interpreting", "completed"] == 1.0
            assert found["requests_ended_total", "interpreting", "dropped"] == 1.0
            assert found["requests_ended_total", "recognition", "failed"] == 1.0
            assert found["audio_heard_seconds_total", "interpreting"] == 0.8
            assert not [key for key in found if key[0] == "request_real_time_factor"]

    run(main())


def test_an_application_is_ready_once_its_engine_has_started() -> None:
    log: list[str] = []

    class Starting(LoopbackEngine):
        async def start(self) -> None:
            log.append("started")

        async def stop(self) -> None:
            log.append("stopped")

    async def main() -> None:
        app = create_app(Starting())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.get("/health")).status_code == 503
            async with app.router.lifespan_context(app):
                assert log == ["started"]
                response = await client.get("/health")
                assert (response.status_code, response.json()["status"]) == (200, "ready")
            response = await client.get("/health")
            assert (response.status_code, response.json()["status"]) == (503, "not ready")
            assert log == ["started", "stopped"]

    run(main())


def test_an_engine_that_cannot_start_is_told_and_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    class Failing(LoopbackEngine):
        stopped = False

        async def start(self) -> None:
            raise EngineError("not installed; run this")

        async def stop(self) -> None:
            Failing.stopped = True

    async def main() -> None:
        with pytest.raises(EngineError, match=r"^not installed; run this$"):
            async with serve(Failing()):
                raise AssertionError

    run(main())
    assert Failing.stopped
    assert capfd.readouterr() == ("", "")


def test_as_many_recognise_as_the_engine_can_or_as_was_said() -> None:
    class One(LoopbackEngine):
        max_recognitions = 1

    async def refused(limits: ServerLimits) -> bool:
        async with serve(One(), limits=limits) as address:
            base_url = f"{address}/api/"
            async with connection(base_url, "s2s") as websocket:
                await say(websocket, SETUP)
                await websocket.recv()
                assert (await converse(base_url, "tts", SETUP, END))[-1] == END
                last = (await converse(base_url, "asr", SETUP, END))[-1]
                assert last in (END, {"type": "error", "message": "Concurrency limit exceeded", "code": 1008})
                return last != END

    assert run(refused(ServerLimits()))
    assert run(refused(ServerLimits(max_recognitions=1)))
    assert not run(refused(ServerLimits(max_recognitions=2)))
