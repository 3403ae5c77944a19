"""The wheel installs into a clean environment of every CPython on this machine, and its codec works there alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# The first of them builds the wheel.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parent.parent
PROBE = """
import json, sys
import speechwire.codec as codec
opus = codec.OggOpusWriter(8000)
heavy = sorted({"numpy", "asyncio", "websockets"} & set(sys.modules))
print(json.dumps({
    "code": codec.ulaw_encode(b"\\x00\\x01").hex(),
    "samples": len(codec.resample(bytes(1600), 8000, 24000)) // 2,
    "opus": len(codec.OggOpusReader().feed(opus.feed(bytes(1600)) + opus.flush())),
    "version": codec.build_info()["version"],
    "profile": codec.build_info()["profile"],
    "heavy": heavy,
}))
"""


def interpreters() -> list[Path]:
    """Return one CPython per minor version, 3.11 or newer, from PATH and beside the running one."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    beside = Path(sys.base_prefix).parent  # version managers keep their interpreters side by side
    folders += [folder / "bin" for folder in beside.iterdir()]
    found: dict[str, Path] = {}
    for minor in range(11, 20):
        for folder in folders:
            candidate = folder / f"python3.{minor}"
            if candidate.exists() and f"3.{minor}" not in found and _is_cpython(candidate, minor):
                found[f"3.{minor}"] = candidate
    return list(found.values())


def _is_cpython(candidate: Path, minor: int) -> bool:
    code = "import sys, venv; print(sys.implementation.name, sys.version_info[1])"
    answer = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
    return answer.stdout.split() == ["cpython", str(minor)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    # If libopus has to be built, the cmake for it is there, too.
    path = os.pathsep.join([str(maturin.parent), os.environ.get("PATH", "")])
    build: list[str | Path] = [maturin, "build", "--quiet", "--release", "--out", out]
    subprocess.run(build, cwd=ROOT, check=True, env={**os.environ, "PATH": path})
    (built,) = out.glob("speechwire-*.whl")
    return built


def test_wheel_is_abi3_and_small(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    assert wheel.stat().st_size < 2_000_000
    with zipfile.ZipFile(wheel) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < 5_000_000


def test_wheel_has_the_licence_of_libopus(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/LICENSE-libopus"))
        assert b"Redistributions in binary form must reproduce the above copyright" in archive.read(name)


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: path.name)
def test_wheel_works_in_a_clean_environment(python: Path, wheel: Path, tmp_path: Path) -> None:
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    inside = tmp_path / "env" / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", inside]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    answer = subprocess.run([inside, "-I", "-c", PROBE], capture_output=True, text=True, check=True, cwd=tmp_path)
    result = json.loads(answer.stdout)
    assert result.pop("version") in wheel.name
    assert result == {"code": "e7", "samples": 2400, "opus": 9600, "profile": "release", "heavy": []}
