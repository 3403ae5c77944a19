"""The module `audioop`, which Python removed in 3.13: all of its functions, with the same results to the bit.

`from speechwire import audioop` in place of `import audioop`, or `install()` where the import cannot be changed.
`python -m speechwire.audioop PATH...` lists where a project uses the module.

A fragment is any contiguous buffer of signed samples, `width` bytes each, in little-endian byte order; hosts with the
other one are not supported. The mu-law encoder is that of the old module, which differs from ITU-T G.191 on 508
negative samples; `speechwire.codec` has the encoder of the ITU.
"""

from __future__ import annotations

import sys

from speechwire._core import audioop_add as add
from speechwire._core import audioop_adpcm2lin as adpcm2lin
from speechwire._core import audioop_alaw2lin as alaw2lin
from speechwire._core import audioop_avg as avg
from speechwire._core import audioop_avgpp as avgpp
from speechwire._core import audioop_bias as bias
from speechwire._core import audioop_byteswap as byteswap
from speechwire._core import audioop_cross as cross
from speechwire._core import audioop_findfactor as findfactor
from speechwire._core import audioop_findfit as findfit
from speechwire._core import audioop_findmax as findmax
from speechwire._core import audioop_getsample as getsample
from speechwire._core import audioop_lin2adpcm as lin2adpcm
from speechwire._core import audioop_lin2alaw as lin2alaw
from speechwire._core import audioop_lin2lin as lin2lin
from speechwire._core import audioop_lin2ulaw as lin2ulaw
from speechwire._core import audioop_max as max
from speechwire._core import audioop_maxpp as maxpp
from speechwire._core import audioop_minmax as minmax
from speechwire._core import audioop_mul as mul
from speechwire._core import audioop_ratecv as ratecv
from speechwire._core import audioop_reverse as reverse
from speechwire._core import audioop_rms as rms
from speechwire._core import audioop_tomono as tomono
from speechwire._core import audioop_tostereo as tostereo
from speechwire._core import audioop_ulaw2lin as ulaw2lin
from speechwire.errors import AudioopError as error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "add",
    "adpcm2lin",
    "alaw2lin",
    "avg",
    "avgpp",
    "bias",
    "byteswap",
    "cross",
    "error",
    "findfactor",
    "findfit",
    "findmax",
    "getsample",
    "lin2adpcm",
    "lin2alaw",
    "lin2lin",
    "lin2ulaw",
    "max",
    "maxpp",
    "minmax",
    "mul",
    "ratecv",
    "reverse",
    "rms",
    "tomono",
    "tostereo",
    "ulaw2lin",
    "install",
]


def install() -> None:
    """Make `import audioop` find this module, from now on and in the whole process.

    A module that was imported under that name before is replaced; who holds a reference to it keeps it. A second call
    changes nothing.
    """
    sys.modules["audioop"] = sys.modules["speechwire.audioop"]


def main(argv: Sequence[str] | None = None) -> int:
    """List the uses of `audioop` below some paths.

    Returns:
        0 if everything could be read, whether or not there are uses; 2 if something could not.
    """
    # Who imports the module for its functions does not pay for the command.
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(
        prog="python -m speechwire.audioop",
        description="List where Python files use the module audioop, which Python 3.13 removed.",
        epilog="Exit codes: 0 everything was read, 2 something could not be read or the usage was wrong.",
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a Python file, or a folder with some below"
    )
    num_uses = num_files = num_read = num_unread = 0

    def report(path: Path | str, error: Exception) -> None:
        nonlocal num_unread
        num_unread += 1
        reason = (isinstance(error, OSError) and error.strerror) or error
        sys.stderr.write(f"speechwire.audioop: {_shown(path)}: {reason}\n")

    for path in parser.parse_args(argv).paths:
        for file in _python_files(path, report):
            try:
                uses = _uses(file.read_bytes(), str(file))
            # The parser's words for what it cannot read; the last two are for nesting without end.
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                report(file, error)
                continue
            num_read += 1
            num_files += bool(uses)
            num_uses += len(uses)
            sys.stdout.writelines(f"{_shown(file)}:{line}: {name}\n" for line, name in uses)
    sys.stdout.write(f"{num_uses} uses in {num_files} of {num_read} files\n")
    sys.stdout.flush()
    return 2 if num_unread else 0


def _shown(path: Path | str) -> str:
    """Return a path as text that every output takes; its bytes need not be text."""
    return str(path).encode(errors="backslashreplace").decode()


def _run() -> int:
    """Run the command for a shell, whose output may end before ours does."""
    import os

    try:
        return main()
    except OSError as error:
        # What is still buffered for the output cannot be written when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"speechwire.audioop: standard output: {error.strerror or error}\n")
        return 2


def _python_files(path: Path, report: Callable[[Path | str, OSError], None]) -> Iterator[Path]:
    """Yield a file, or the Python files below a folder that are a project's own, in order."""
    import os
    import stat
    from pathlib import Path

    try:
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise OSError("expected a file or a folder, got a pipe, a device or a socket")
    except OSError as error:
        report(path, error)
        return
    if stat.S_ISREG(mode):
        yield path
        return
    for folder, folders, files in os.walk(path, onerror=lambda error: report(error.filename, error)):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        # A folder that is taken from the list is not visited.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_OWN)
        for name in sorted(files):
            file = Path(folder, name)
            # A link that leads nowhere is reported when it is read, a pipe that is called so is nobody's code.
            if name.endswith(".py") and not name.startswith(".") and (file.is_file() or not file.exists()):
                yield file


_NOT_OWN = ("__pycache__", "node_modules", "site-packages")


def _uses(source: bytes, filename: str) -> list[tuple[int, str]]:
    """Return the lines of a file that import the module or take something from it, and what they take."""
    import ast
    import warnings

    with warnings.catch_warnings():
        # What else may be wrong with the file is not our subject.
        warnings.simplefilter("ignore")
        nodes = list(ast.walk(ast.parse(source, filename)))
    found: set[tuple[int, str]] = set()
    aliases: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "audioop":
                    aliases.add(alias.asname or alias.name)
                    found.add((node.lineno, "import audioop"))
        elif isinstance(node, ast.ImportFrom):
            if node.module == "audioop" and node.level == 0:
                found.update((alias.lineno, f"audioop.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _imports_audioop(node):
            found.add((node.lineno, "import audioop"))
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and _imports_audioop(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            aliases.update(target.id for target in targets if isinstance(target, ast.Name))
    for node in nodes:
        if isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.NamedExpr):
                owner = owner.target
            if (isinstance(owner, ast.Name) and owner.id in aliases) or _imports_audioop(owner):
                found.add((node.lineno, f"audioop.{node.attr}"))
    return sorted(found)


def _imports_audioop(node: ast.AST | None) -> bool:
    """Return whether an expression is `__import__("audioop")` or `importlib.import_module("audioop")`."""
    import ast

    if not isinstance(node, ast.Call) or not node.args:
        return False
    function, name = node.func, node.args[0]
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return called in ("__import__", "import_module") and isinstance(name, ast.Constant) and name.value == "audioop"


if __name__ == "__main__":
    raise SystemExit(_run())
