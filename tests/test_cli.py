"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import wave
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

EXAMPLES = Path(__file__).parent.parent / "examples"
SAMPLE = EXAMPLES / "train_station.wav"
COMMAND = [sys.executable, "-m", "speechwire.cli"]


def environment(**changes: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "GRADIUM_API_KEY"} | changes


def speechwire(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(**changes))


@contextmanager
def serving(*arguments: str, **changes: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [*COMMAND, "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield line.split()[-1], process
        finally:
            process.kill()


def test_translate_offline(tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    done = speechwire("translate", SAMPLE, "-o", out, "--to", "es")
    assert done.returncode == 0, done.stderr
    assert "no --url and no key: translating offline" in done.stderr
    assert "quiero comprar" in done.stdout.lower()
    assert "mañana" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    with wave.open(str(out)) as result:
        assert (result.getframerate(), result.getnchannels(), result.getsampwidth()) == (48000, 1, 2)
        assert result.getnframes() > 2 * 48000
        assert len(result.readframes(result.getnframes())) == 2 * result.getnframes()
    assert list(tmp_path.iterdir()) == [out]


def test_translate_against_a_server(tmp_path: Path) -> None:
    with serving("--engine", "loopback", "--api-key", "one", "--api-key", "two") as (address, _):
        out = tmp_path / "out.wav"
        url = f"{address}/api"
        done = speechwire(
            "translate", SAMPLE, "-o", out, "--to", "es", "--url", url, "--no-realtime", "--api-key", "two"
        )
        assert done.returncode == 0, done.stderr
        assert "offline" not in done.stderr
        with wave.open(str(SAMPLE)) as sent, wave.open(str(out)) as received:
            assert received.getnframes() >= 2 * sent.getnframes()
        refused = speechwire("translate", SAMPLE, "-o", out, "--to", "es", "--url", url, GRADIUM_API_KEY="three")
        assert refused.returncode == 1
        assert refused.stderr == "speechwire: error from the server: API key is revoked or expired (code 1008)\n"


def test_transcribe_offline() -> None:
    done = speechwire("transcribe", SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "no --url and no key: transcribing offline, inside this program\n"
    assert "Where is the train station?" in done.stdout
    assert done.stdout.endswith("\n")
    assert done.stdout.count("\n") == 1


def test_transcribe_as_json() -> None:
    done = speechwire("transcribe", SAMPLE, "--json", "--language", "en")
    words = [json.loads(line) for line in done.stdout.splitlines()]
    assert "station?" in [word["text"] for word in words]
    assert all(word["start_s"] < word["stop_s"] for word in words)
    assert [word["start_s"] for word in words] == sorted(word["start_s"] for word in words)


def test_transcribe_of_silence_prints_nothing(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000))
    done = speechwire("transcribe", tmp_path / "silence.wav")
    assert (done.returncode, done.stdout) == (0, "")


def test_speak_offline(tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    done = speechwire("speak", "Guten Morgen. Wie geht es Ihnen?", "-o", out, "--language", "de")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: ")
    with wave.open(str(out)) as result:
        assert (result.getframerate(), result.getnchannels(), result.getsampwidth()) == (48000, 1, 2)
        assert result.getnframes() > 48000
    command = [*COMMAND, "speak", "-", "-o", str(out)]
    piped = subprocess.run(command, input="", capture_output=True, text=True, timeout=100, env=environment())
    assert (piped.returncode, piped.stderr) == (1, "speechwire: expected a text to speak, got ''\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stops_cleanly(number: signal.Signals) -> None:
    with serving("--engine", "loopback") as (_, process):
        process.send_signal(number)
        output, errors = process.communicate(timeout=100)
        assert (process.returncode, output, errors) == (0, "", "")


def test_serve_tells_how_a_call_ended() -> None:
    with serving("--engine", "loopback", "--api-key", "secret") as (address, process):
        with connect(address.replace("http", "ws", 1) + "/api/telephony/vonage?key=secret") as call:
            call.send("Hello?")
            with pytest.raises(ConnectionClosedError):
                call.recv(10)
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert errors.endswith(" vonage call without a start ended: protocol: expected a JSON object, got 'H' at byte 0\n")
    assert len(errors.splitlines()) == 1


def test_serve_stops_while_it_loads_its_engine(tmp_path: Path) -> None:
    # A mode that does not answer, so that it goes on loading until it is stopped.
    (tmp_path / "modes").mkdir()
    (tmp_path / "modes" / "eng-spa.mode").write_text("slow")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    changes = {"APERTIUM_DATADIR": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    ) as process:
        # It starts processes when it can be stopped.
        while not Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text():
            time.sleep(0.005)
        process.terminate()
        process.terminate()
        output, errors = process.communicate(timeout=100)
        assert (process.returncode, output, errors) == (0, "", "")


def test_serve_keeps_to_its_limits() -> None:
    setup = '{"type":"setup","output_format":"pcm"}'
    with serving("--engine", "loopback", "--base-path", "/v1", "--max-requests", "1") as (address, _):
        url = address.replace("http", "ws", 1) + "/v1/speech/tts"
        with connect(url) as first, connect(url) as second:
            first.send(setup)
            assert json.loads(first.recv(60))["type"] == "ready"
            second.send(setup)
            assert json.loads(second.recv(60))["message"] == "Concurrency limit exceeded"
    # In a server of its own, for the other limit is tried while a session goes on.
    with serving("--engine", "loopback", "--max-session", "0.5") as (address, _):
        with connect(address.replace("http", "ws", 1) + "/api/speech/tts") as websocket:
            websocket.send(setup)
            assert json.loads(websocket.recv(60))["type"] == "ready"
            assert json.loads(websocket.recv(60))["message"] == "session duration limit exceeded"


def test_serve_refuses_an_empty_key() -> None:
    done = speechwire("serve", "--engine", "loopback", "--port", "0", "--api-key", "")
    assert done.returncode == 1
    assert "empty" in done.stderr


def test_serve_says_why_it_cannot() -> None:
    with serving("--engine", "loopback") as (address, _):
        done = speechwire("serve", "--engine", "loopback", "--port", address.rpartition(":")[2])
        assert (done.returncode, done.stderr) == (1, "speechwire: Address already in use\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-file.wav", "--to", "es"], "speechwire: no-such-file.wav: No such file or directory\n"),
        ([str(EXAMPLES / "PROVENANCE.md"), "--to", "es"], "RIFF"),
        ([str(SAMPLE), "--to", "de"], "no offline translation for en-de"),
        ([str(SAMPLE), "--to", "es", "--url", "http://127.0.0.1:1/api"], "could not connect to ws://127.0.0.1:1/api/"),
        ([str(SAMPLE), "--to", "es", "--url", "ftp://host"], "expected a base_url of scheme http"),
    ],
)
def test_failures_are_one_line_and_leave_no_file(tmp_path: Path, arguments: list[str], says: str) -> None:
    out = tmp_path / "out.wav"
    done = speechwire("translate", *arguments, "-o", out)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("speechwire: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["translate"],
        ["translate", "a", "-o", "b", "--to", "xx"],
        ["sing"],
        ["serve", "--port", "70000"],
        ["serve", "--max-session", "0"],
        ["serve", "--max-session", "soon"],
        ["serve", "--max-call", "0"],
        ["serve", "--max-requests", "0"],
        ["serve", "--stt", "whisper"],
        ["serve", "--mt", "opus-mt"],
        ["serve", "--tts", "espeak:en"],
        ["serve", "--engine", "loopback", "--stt", "pocketsphinx"],
        ["serve", "--engine", "loopback", "--upstream", "http://127.0.0.1:1/api"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert speechwire(*arguments).returncode == 2


def test_a_wrong_name_of_a_model_lists_the_names() -> None:
    said = speechwire("serve", "--mt", "moses").stderr
    assert "argument --mt: expected apertium, argos[:FOLDER] or opus-mt:FOLDER, got 'moses'" in said


def test_a_gateway_needs_a_key() -> None:
    done = speechwire("serve", "--engine", "gradium", "--upstream", "http://127.0.0.1:1/api")
    assert done.returncode == 1
    assert done.stderr == "speechwire: missing API key: give api_key or set GRADIUM_API_KEY\n"


def test_a_gateway_interprets_by_the_service_behind_it(tmp_path: Path) -> None:
    with serving("--engine", "loopback") as (upstream, _):
        with serving("--engine", "gradium", "--upstream", f"{upstream}/api", GRADIUM_API_KEY="k") as (address, _):
            done = speechwire(
                "translate",
                SAMPLE,
                "-o",
                tmp_path / "out.wav",
                "--to",
                "es",
                "--url",
                f"{address}/api",
                "--no-realtime",
            )
    assert done.returncode == 0, done.stderr
    with wave.open(str(SAMPLE)) as sent, wave.open(str(tmp_path / "out.wav")) as heard:
        duration_s = sent.getnframes() / sent.getframerate()
        assert abs(heard.getnframes() / heard.getframerate() - duration_s) < 0.1


def test_missing_program_is_named(tmp_path: Path) -> None:
    done = speechwire("translate", SAMPLE, "-o", tmp_path / "out.wav", "--to", "es", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "apt-get install" in done.stderr


@pytest.mark.parametrize("example", ["s2s_realtime.py", "phone_caller.py"])
def test_examples_run(example: str) -> None:
    with serving("--engine", "loopback") as (address, _):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / example), str(SAMPLE), f"{address}/api"],
            capture_output=True,
            text=True,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    assert "segment 1" in done.stdout
    with wave.open(str(SAMPLE)) as sent:
        assert f"{int(sent.getnframes() / 24000)}." in done.stdout.splitlines()[-1]


def test_a_simulated_call_is_interpreted(tmp_path: Path) -> None:
    # A short greeting, so that nobody has to wait for all of the recording.
    speech, heard = tmp_path / "speech.wav", tmp_path / "heard.wav"
    with wave.open(str(SAMPLE)) as sample, wave.open(str(speech), "wb") as cut:
        cut.setparams(sample.getparams())
        cut.writeframes(sample.readframes(3 * sample.getframerate()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "phone_interpreter.py"),
         "--simulate", str(speech), "-o", str(heard), "--port", str(port)],
        capture_output=True, text=True, timeout=100, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "3.02 s said" in done.stdout  # whole frames
    with wave.open(str(heard)) as said:
        assert (said.getframerate(), said.getnchannels()) == (8000, 1)
        samples = array("h", said.readframes(said.getnframes()))
    # He hears nothing until he has been understood, and then somebody speak for a while.
    assert max(map(abs, samples[:8000])) == 0
    assert sum(abs(sample) > 300 for sample in samples) > 4000
