"""What a bench needs to say about the machine and the build, and what it refuses to run on."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import warnings
from pathlib import Path
from typing import Any

from speechwire.codec import build_info


def refuse_debug_build() -> None:
    """Leave the program if the extension is a debug build, whose times mean nothing."""
    if build_info()["profile"] != "release":
        raise SystemExit("this is a debug build; build with --release")


def describe_machine() -> str:
    """Return one line on the machine and the build; refuses a debug build."""
    refuse_debug_build()
    features = " ".join(str(feature) for feature in build_info()["cpu_features"])
    return f"{platform.machine()}, {os.cpu_count()} CPUs ({features}), Python {platform.python_version()}"


def cpu_model() -> str:
    """Return the name of the CPU as the kernel gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def load_peer(module: str) -> Any:
    """Import a library to compare with; None if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # audioop announces its removal
        try:
            return importlib.import_module(module)
        except ImportError:
            return None


def peer_version(distribution: str) -> str:
    """Return the version of an installed distribution, or "absent"."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
