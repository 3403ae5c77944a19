"""The client's own decisions: address, key, defaults, results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import loopback_server, run
from speechwire import gradium
from speechwire.errors import AudioError, AuthError
from speechwire.events import Audio, EndOfStream, Ready, ServiceEvent
from speechwire.gradium.client import _websocket_url


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.gradium.ai/api/", "wss://api.gradium.ai/api/"),
        ("https://api.gradium.ai/api", "wss://api.gradium.ai/api/"),
        ("http://http.example.com/api", "ws://http.example.com/api/"),
        ("ws://host:1/x/", "ws://host:1/x/"),
        ("wss://host", "wss://host/"),
        ("127.0.0.1:8000/api", "ws://127.0.0.1:8000/api/"),
        ("localhost:8000", "ws://localhost:8000/"),
        ("[::1]:8000/api", "ws://[::1]:8000/api/"),
        ("0.0.0.0:8000", "ws://0.0.0.0:8000/"),
        ("localhost.example.com", "wss://localhost.example.com/"),
        ("httpbin.example/api", "wss://httpbin.example/api/"),
    ],
)
def test_base_url(base_url: str, expected: str) -> None:
    assert _websocket_url(base_url) == expected


@pytest.mark.parametrize("base_url", ["ftp://host/", "http://", "", "http://host:x/", "http://host:70000/"])
def test_base_url_that_is_none(base_url: str) -> None:
    with pytest.raises(ValueError, match="expected a base_url"):
        _websocket_url(base_url)


def test_missing_key_is_a_value_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADIUM_API_KEY", raising=False)
    with pytest.raises(AuthError, match="GRADIUM_API_KEY") as caught:
        gradium.client.GradiumClient()
    assert isinstance(caught.value, ValueError)


def test_key_from_the_environment_stays_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIUM_API_KEY", "gd_secret")
    client = gradium.GradiumClient()
    assert client.headers["x-api-key"] == "gd_secret"
    assert "gd_secret" not in repr(client)


def test_key_from_a_file_loses_its_newline() -> None:
    assert gradium.GradiumClient(api_key="gd_secret\n").headers["x-api-key"] == "gd_secret"


@pytest.mark.parametrize("key", ["gd_sec\nret", "gd_secr\u2028et", " "])
def test_key_that_no_header_can_carry_is_not_repeated(key: str) -> None:
    with pytest.raises(AuthError, match="printable ASCII") as caught:
        gradium.GradiumClient(api_key=key)
    assert "gd_sec" not in str(caught.value)


def result(output_format: str) -> gradium.S2SResult:
    raw = np.array([0, 16384, -32768], "<i2").tobytes()
    return gradium.S2SResult(raw, 48000, output_format, "r", "", [])


def test_result_as_arrays() -> None:
    assert result("pcm").pcm16().tolist() == [0, 16384, -32768]
    assert result("pcm_8000").pcm().tolist() == [0.0, 0.5, -1.0]
    assert result("pcm").pcm().dtype == np.float32


def test_result_of_another_format_has_no_samples() -> None:
    with pytest.raises(ValueError, match="got 'wav'"):
        result("wav").pcm16()


def test_unusable_arguments_fail_before_any_connection() -> None:
    client = gradium.GradiumClient(api_key="k")
    with pytest.raises(AudioError, match="got both"):
        client.s2s_realtime(source_format="ulaw_8000", sample_rate=8000)
    with pytest.raises(AudioError, match="expected input_format to be a string, got 8"):
        client.s2s_realtime(input_format=8)


def test_the_same_messages_as_events() -> None:
    setup: dict[str, Any] = {"input_format": "pcm_8000", "output_format": "pcm_8000"}

    async def main() -> tuple[list[ServiceEvent], list[ServiceEvent]]:
        async with loopback_server() as base_url:
            client = gradium.GradiumClient(base_url=base_url, api_key="k")
            stream = await client.s2s_stream(setup, bytes(1280))
            pulled = [event async for event in stream.events()]
            async with client.s2s_realtime(**setup) as s2s:
                await s2s.send_audio(bytes(1280))
                await s2s.send_eos()
                return pulled, [event async for event in s2s.events()]

    pulled, (ready, *pushed) = run(main())
    assert isinstance(ready, Ready)
    assert (ready.sample_rate, ready.frame_size, ready.model_name) == (8000, 640, "default")
    assert pulled == pushed == [Audio(bytes(1280), 0.0, 0.08), EndOfStream()]
