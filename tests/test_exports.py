"""What each module offers is what it says it offers."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from test_layers import MODULES


@pytest.mark.parametrize(
    "module", sorted(set(MODULES) - {"__init__", "server.dialects.__init__", "server.engines.models.__init__"})
)
def test_all_names_exist(module: str) -> None:
    loaded = importlib.import_module(f"speechwire.{module.removesuffix('.__init__')}")
    assert loaded.__all__
    for name in loaded.__all__:
        assert hasattr(loaded, name), name


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_codec_loads_the_extension_and_nothing_heavy() -> None:
    loaded = loaded_by("import speechwire.codec")
    assert "speechwire._core" in loaded
    assert not loaded & {"numpy", "asyncio", "websockets", "json", "speechwire.gradium"}


def test_audioop_loads_the_extension_and_nothing_heavy() -> None:
    loaded = loaded_by("import speechwire.audioop")
    assert "speechwire._core" in loaded
    assert not loaded & {"argparse", "ast", "asyncio", "audioop", "numpy", "pathlib", "typing", "websockets"}


def test_client_loads_no_server_and_no_numpy() -> None:
    loaded = loaded_by("from speechwire import gradium")
    assert not loaded & {"httpx", "numpy", "starlette", "uvicorn", "pocketsphinx", "speechwire.server"}


def test_telephone_leg_loads_neither_network_nor_numpy() -> None:
    loaded = loaded_by("import speechwire.telephony")
    assert not loaded & {"asyncio", "numpy", "socket", "websockets", "speechwire.gradium", "speechwire.server"}
