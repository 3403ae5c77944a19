"""The scripted engine behind the server: the examples of its page, with our client, the official SDK and pytest."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradium
import pytest

import speechwire.gradium
from harness import run
from speechwire.errors import ServerError
from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines.script import ScriptEngine
from speechwire.server.engines.tones import tone
from test_cli import serving
from test_cli import speechwire as command

PAGE = (Path(__file__).parent.parent / "docs" / "script.md").read_text()
INTERPRETING, RECOGNITION, FAILURE = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BOTH = pytest.mark.parametrize("sdk", [gradium, speechwire.gradium], ids=lambda sdk: sdk.__name__)


def write(folder: Path, scenario: str) -> Path:
    path = folder / "talk.yaml"
    path.write_text(scenario, "utf-8")
    return path


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * 24000))


def test_example_of_interpreting(tmp_path: Path) -> None:
    async def main() -> tuple[list[tuple[str, float, float]], bytes, float]:
        loop = asyncio.get_running_loop()
        texts, audio, times = [], b"", []
        async with serve(ScriptEngine(write(tmp_path, INTERPRETING))) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            setup = {"input_format": "pcm_24000", "output_format": "pcm", "json_config": {"target_language": "es"}}
            stream = await client.s2s_stream(setup, silence(3))
            async for message in stream.iter_events():
                if message["type"] == "text":
                    times.append(loop.time())
                    texts.append((message["text"], message["start_s"], message["stop_s"]))
                elif message["type"] == "audio":
                    audio += message["audio"]
        return texts, audio, times[1] - times[0]

    texts, audio, gap_s = run(main(), held_clock=True)
    assert texts == [("¿Dónde está la estación?", 0.0, 1.2), ("Gracias.", 1.2, 1.68)]
    assert audio == tone(48000, 440, 57600) + tone(48000, 440, 23040)
    assert gap_s == pytest.approx(0.3, abs=0.05)


def test_example_of_recognition(tmp_path: Path) -> None:
    async def main() -> list[dict[str, Any]]:
        messages = []
        async with serve(ScriptEngine(write(tmp_path, RECOGNITION))) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            # Texts wait for 48 frames more of audio, unless they are flushed.
            config = {"language": "en", "delay_in_frames": 48}
            async with client.stt_realtime(input_format="pcm_24000", json_config=config) as stt:
                await stt.send_audio(silence(1.2))
                await stt.send_flush(flush_id=7)
                async for message in stt:
                    messages.append(message)
                    if message["type"] == "flushed":
                        await stt.send_audio(silence(2))
                        await stt.send_eos()
        return messages

    messages = run(main(), held_clock=True)
    kinds = [message["type"] for message in messages]
    assert kinds == [
        "ready", *["step"] * 15, "text", "end_text", "text", "end_text", "flushed", *["step"] * 25, "end_of_stream",
    ]  # fmt: skip
    assert [(m["text"], m["start_s"]) for m in messages if m["type"] == "text"] == [("Good", 0.24), ("morning.", 0.64)]
    assert [m["stop_s"] for m in messages if m["type"] == "end_text"] == [0.64, 1.2]
    inactive = [m["vad"][2]["inactivity_prob"] for m in messages if m["type"] == "step"]
    assert all(probability > 0 for probability in inactive[:3])
    assert inactive[3:15] == [0.0] * 12
    assert inactive[15:] == sorted(inactive[15:])
    assert inactive[15] < 0.5 < 0.99 < inactive[-1]


def test_example_of_a_failure(tmp_path: Path) -> None:
    async def main() -> tuple[list[str], list[float], ServerError, str]:
        loop = asyncio.get_running_loop()
        words, times = [], []
        async with serve(ScriptEngine(write(tmp_path, FAILURE))) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            setup = {"output_format": "pcm", "voice_id": "any"}
            stream = await client.tts_stream(setup, "One. Two three.")
            with pytest.raises(ServerError) as raised:
                async for message in stream.iter_events():
                    times.append(loop.time())
                    if message["type"] == "text":
                        words.append(message["text"])
            again = await client.tts(setup, "One. Two three.")
        return words, times, raised.value, " ".join(word.text for word in again.text_with_timestamps)

    words, times, error, again = run(main(), held_clock=True)
    assert words == ["One.", "Two", "three."]
    assert times[0] == pytest.approx(2, abs=0.05)
    assert (error.code, error.reason, error.received_ms) == (1011, "the voice has gone", 640)
    assert again == "One. Two three."


@BOTH
def test_both_clients_get_what_the_script_says(tmp_path: Path, sdk: Any) -> None:
    async def main() -> tuple[Any, Any, Any]:
        path = write(tmp_path, INTERPRETING + RECOGNITION.partition("\n")[2] + "  - {product: tts, turns: []}\n")
        async with serve(ScriptEngine(path)) as address:
            client = sdk.client.GradiumClient(base_url=f"{address}/api/", api_key="k")
            s2s = {"input_format": "pcm", "output_format": "pcm", "json_config": {"target_language": "es"}}
            stt = {"input_format": "pcm", "json_config": {"language": "en"}}
            async with asyncio.timeout(100):
                return (
                    await client.s2s(s2s, silence(3)),
                    await client.stt(stt, silence(2)),
                    await client.tts({"output_format": "pcm", "voice_id": "any"}, "One two."),
                )

    interpreted, recognised, spoken = asyncio.run(main())
    assert interpreted.raw_data == tone(48000, 440, 57600) + tone(48000, 440, 23040)
    assert [text.text for text in interpreted.text_with_timestamps] == ["¿Dónde está la estación?", "Gracias."]
    assert [(text.text, text.start_s) for text in recognised.text_with_timestamps] == [
        ("Good", 0.24),
        ("morning.", 0.64),
    ]
    assert [text.text for text in spoken.text_with_timestamps] == ["One", "two."]
    assert spoken.raw_data == tone(48000, 440, 23040)


@pytest.mark.parametrize(
    ("kind", "code", "says"),
    [
        ("internal", 1011, "gone"),
        ("input", 1008, "gone"),
        ("duration", 1008, "session duration limit exceeded"),
        ("busy", 1008, "Concurrency limit exceeded"),
    ],
)
def test_kind_of_an_error_is_what_the_client_sees(tmp_path: Path, kind: str, code: int, says: str) -> None:
    turn = f"{{at_s: 0.5, error: {{message: gone, kind: {kind}}}}}"
    path = write(tmp_path, f"sessions: [{{product: stt, turns: [{turn}]}}]")

    async def main() -> ServerError:
        async with serve(ScriptEngine(path)) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            with pytest.raises(ServerError) as raised:
                await client.stt({"input_format": "pcm_24000"}, silence(1))
            return raised.value

    error = run(main())
    assert (error.code, error.reason) == (code, says)


@pytest.mark.parametrize("delay_in_frames", [0, 7])
def test_recognised_texts_leave_before_an_error(tmp_path: Path, delay_in_frames: int) -> None:
    turns = "{at_s: 0.4, text: Well}, {at_s: 0.5, text: Hello, error: {message: gone}}"
    path = write(tmp_path, f"sessions: [{{product: stt, turns: [{turns}]}}]")

    async def main() -> list[str]:
        heard = []
        async with serve(ScriptEngine(path)) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            setup = {"input_format": "pcm_24000", "json_config": {"delay_in_frames": delay_in_frames}}
            stream = await client.stt_stream(setup, silence(1))
            with pytest.raises(ServerError, match="gone"):
                async for message in stream.iter_events():
                    heard += [message["text"]] if message["type"] == "text" else []
        return heard

    assert run(main()) == ["Well", "Hello"]


@pytest.mark.parametrize("output_format", ["pcm_8000", "pcm_22050", "ulaw_8000", "wav", "opus"])
def test_audio_leaves_whole_before_the_next_turn(tmp_path: Path, output_format: str) -> None:
    turns = "{at_s: 1, text: a, audio: {duration_s: 0.5}}, {at_s: 2, delay_ms: 15000, text: b}"
    path = write(tmp_path, f"sessions: [{{product: s2s, turns: [{turns}]}}]")

    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        async with serve(ScriptEngine(path)) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            setup = {"input_format": "pcm", "output_format": output_format}
            stream = await client.s2s_stream(setup, silence(3))
            return [
                (loop.time(), message["stop_s"]) async for message in stream.iter_events() if message["type"] == "audio"
            ]

    heard = run(main(), held_clock=True)
    assert max(stop_s for when, stop_s in heard if when < 14) == pytest.approx(0.56)


def test_request_that_no_session_fits_gets_an_error(tmp_path: Path) -> None:
    async def main() -> ServerError:
        async with serve(ScriptEngine(write(tmp_path, INTERPRETING))) as address:
            client = GradiumClient(base_url=f"{address}/api/", api_key="k")
            with pytest.raises(ServerError) as raised:
                await client.tts({"output_format": "pcm", "voice_id": "v"}, "Hello.")
            return raised.value

    error = run(main())
    assert error.code == 1011
    assert "no session of talk.yaml is for this request: product 'tts'" in error.reason


def test_snippet_of_a_test_runs(tmp_path: Path) -> None:
    write(tmp_path, RECOGNITION)
    (tmp_path / "test_application.py").write_text(SNIPPET)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_application.py"],
        cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_command_serves_a_script(tmp_path: Path) -> None:
    path = write(tmp_path, RECOGNITION.replace("    language: en\n", ""))
    with serving("--engine", "script", "--script", str(path)) as (address, _):
        client = GradiumClient(base_url=f"{address}/api/", api_key="k")
        assert client.sync.stt({"input_format": "pcm_24000"}, silence(2)).text == "Good morning."


@pytest.mark.parametrize(
    "arguments", [["--engine", "script"], ["--script", "a"], ["--engine", "local", "--script", "a"]]
)
def test_command_takes_script_and_engine_together(arguments: list[str]) -> None:
    done = command("serve", *arguments)
    assert done.returncode == 2
    assert "--engine script and --script FILE together" in done.stderr


@pytest.mark.parametrize(
    ("scenario", "says"),
    [("sessions: [{product: stt, turn: []}]", "expected keys among "), (None, "No such file or directory")],
)
def test_command_says_what_is_wrong_before_it_listens(tmp_path: Path, scenario: str | None, says: str) -> None:
    path = tmp_path / "talk.yaml"
    if scenario is not None:
        path.write_text(scenario)
    done = command("serve", "--engine", "script", "--script", path, "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"speechwire: {path}: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
