from __future__ import annotations

import os
import time

import pytest

from processes import MARK, Processes


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """The processes that the test starts, to be found by a mark in their environment."""
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(MARK, value)
    return Processes(f"{MARK}={value}")
