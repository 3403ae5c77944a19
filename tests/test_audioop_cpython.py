"""CPython's own tests of `audioop` pass, unmodified, with `speechwire.audioop` installed under that name.

The file is the running interpreter's test/test_audioop.py. Python has none from 3.13 on, where the environment variable
SPEECHWIRE_TEST_AUDIOOP may name the file of an older version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROGRAM = """
import importlib.util, json, sys, unittest
import speechwire.audioop
speechwire.audioop.install()
spec = importlib.util.spec_from_file_location("test_audioop", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromModule(module))
print(json.dumps({
    "module": module.audioop.__name__,
    "is_ours": module.audioop is speechwire.audioop,
    "run": result.testsRun,
    "failed": len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses),
    "skipped": len(result.skipped),
}))
"""


def cpython_file() -> Path:
    named = os.environ.get("SPEECHWIRE_TEST_AUDIOOP")
    return Path(named) if named else Path(sysconfig.get_path("stdlib")) / "test" / "test_audioop.py"


def test_cpythons_tests_pass() -> None:
    file = cpython_file()
    if "SPEECHWIRE_TEST_AUDIOOP" not in os.environ and not file.exists():
        pytest.skip(f"{file} does not exist: Python 3.13 removed it, and some systems package tests apart")
    answer = subprocess.run([sys.executable, "-c", PROGRAM, file], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result.pop("run") >= 25, answer.stderr
    assert result == {"module": "speechwire.audioop", "is_ours": True, "failed": 0, "skipped": 0}, answer.stderr
