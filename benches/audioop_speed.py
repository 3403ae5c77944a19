"""Every function of `speechwire.audioop` beside the module it replaces.

Both are called in rounds in one process, as `timing` has it: the best CPU time of a call, overhead included, and the
median of the ratios. No call gets the fragment of the one before: a processor learns the turns of a short one by heart.
The module beside is the standard library's up to Python 3.12, or the package audioop-lts. The column `correct` says
whether both returned the same. With `--bar`, exit status 1 means that a function was slower or wrong; a wrong one is
enough without it.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from machine import cpu_model, describe_machine
from speechwire import audioop
from timing import Settings, cells, time_interleaved

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop as peer

SIZES = (320, 3840)
WIDTHS = (1, 2, 3, 4)
SETTINGS = Settings(rounds=15, span_s=0.001)
# More than a processor's predictor remembers, less than its cache holds.
POOL_BYTES = 250_000


def speech(num_bytes: int, width: int, seed: int) -> bytes:
    """Return something between a voice and noise: its turns cannot be foretold, its neighbours are near."""
    source = random.Random(seed)
    top, value, samples = 2 ** (8 * width - 1) - 1, 0.0, []
    for index in range(num_bytes // width):
        value = 0.9 * value + 0.1 * source.uniform(-1, 1) + 0.02 * math.sin(index / 9)
        samples.append(round(max(-1.0, min(1.0, 2 * value)) * top))
    return b"".join(sample.to_bytes(width, sys.byteorder, signed=True) for sample in samples)


def cases(num_bytes: int, seed: int) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Yield a function, what is special about the call, and its arguments."""
    for width in WIDTHS:
        size = num_bytes - num_bytes % (2 * width)
        pcm, what = speech(size, width, seed), f"width {width}"
        for name in ("avg", "avgpp", "byteswap", "cross", "lin2alaw", "lin2ulaw", "max", "maxpp", "minmax", "reverse"):
            yield name, what, (pcm, width)
        yield "rms", what, (pcm, width)
        yield "getsample", what, (pcm, width, size // width // 2)
        yield "add", what, (pcm, pcm[::-1], width)
        yield "bias", what, (pcm, width, 1000)
        yield "mul", what, (pcm, width, 0.7)
        yield "tomono", what, (pcm, width, 0.5, 0.5)
        yield "tostereo", what, (pcm, width, 1.0, 0.5)
        yield "lin2adpcm", what, (pcm, width, None)
        yield "adpcm2lin", what, (pcm, width, (100, 20))
        for name in ("alaw2lin", "ulaw2lin"):
            yield name, what, (pcm, width)
        for new_width in WIDTHS:
            yield "lin2lin", f"width {width} to {new_width}", (pcm, width, new_width)
        for rates in ((8000, 24000), (24000, 8000), (8000, 11025)):
            yield "ratecv", f"{what}, {rates[0]} to {rates[1]}", (pcm, width, 1, *rates, None)
        yield "ratecv", f"{what}, stereo, filter", (pcm, width, 2, 8000, 16000, None, 3, 1)
    pcm = speech(num_bytes, 2, seed)
    yield "findfit", "", (pcm, pcm[num_bytes // 2 : num_bytes // 2 + 160])
    yield "findfactor", "", (pcm, pcm[::-1])
    yield "findmax", "", (pcm, num_bytes // 8)


def spread(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[[], None]:
    """Return a call that makes all calls of a pool, with nothing between them but the loop."""

    def call() -> None:
        for arguments in calls:
            function(*arguments)

    return call


def origin(module: ModuleType) -> str:
    """Return where a module comes from."""
    return "audioop-lts" if "site-packages" in str(module.__file__) else "the standard library"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="names of functions to measure, separated by commas; default: all")
    parser.add_argument("--bar", type=float, help="the ratio that every function has to reach")
    arguments = parser.parse_args()
    print(f"{describe_machine()}, {cpu_model()}")
    print(f"beside {origin(peer)}; the ratio is its time divided by ours")
    print(f"{'function':11} {'case':26} {'bytes':>6} {'ours us':>9} {'theirs us':>9} {'ratio':>6}  correct")
    is_good, lowest = True, math.inf
    for num_bytes in SIZES:
        for rows in zip(*(cases(num_bytes, seed) for seed in range(POOL_BYTES // num_bytes)), strict=True):
            (name, what, _), calls = rows[0], [row[2] for row in rows]
            if arguments.only and name not in arguments.only.split(","):
                continue
            ours, theirs = getattr(audioop, name), getattr(peer, name)
            is_correct = all(ours(*values) == theirs(*values) for values in calls)
            seconds = time_interleaved({"ours": spread(ours, calls), "theirs": spread(theirs, calls)}, SETTINGS)
            timed = cells(seconds, "theirs", len(calls))
            ours_s, theirs_s, ratio = timed["ours"].best_s, timed["theirs"].best_s, timed["ours"].ratio or 0.0
            lowest = min(lowest, ratio)
            is_good &= is_correct and (arguments.bar is None or ratio >= arguments.bar)
            row = f"{ours_s * 1e6:9.3f} {theirs_s * 1e6:9.3f} {ratio:6.2f}  {'yes' if is_correct else 'NO'}"
            print(f"{name:11} {what:26} {num_bytes:6} {row}", flush=True)
    print(f"lowest ratio: {lowest:.2f}")
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
