from __future__ import annotations

import os
import socket
import time
import wave
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from processes import MARK, Processes
from speechwire.codec import Resampler

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def speech() -> bytes:
    """The four sentences of the demo, as the recogniser wants them: s16le mono PCM at 16 kHz."""
    with wave.open(str(Path(__file__).parents[1] / "examples" / "train_station.wav")) as wav:
        resampler = Resampler(wav.getframerate(), 16000)
        pcm: bytes = resampler.feed(wav.readframes(wav.getnframes())) + resampler.flush()
        return pcm


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """The processes that the test starts, to be found by a mark in their environment."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(MARK, value)
    return Processes(f"{MARK}={value}")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a network: whoever looks for it fails."""

    def fail(*args: object) -> None:
        raise AssertionError(f"nobody is to be asked: {args}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, fail)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, fail)
