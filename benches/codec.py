"""The codec beside other libraries: resampling, G.711, conversion, messages and a telephone leg.

What is not installed is listed as absent; `pip install 'speechwire[bench]'` has all of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import companding
import conversion
import messages
import phone_leg
import resampling
from machine import refuse_debug_build
from page import facts_of_the_run, render_page, terminal_table
from picture import render_picture
from timing import Settings, Table

KERNELS = (resampling, companding, conversion, messages, phone_leg)


def main() -> None:
    """Measure everything, print the tables, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rates and rounds")
    parser.add_argument("--output", type=Path, help="write this page, and the picture beside it")
    arguments = parser.parse_args()
    refuse_debug_build()
    settings = quick_settings() if arguments.quick else Settings(report=show_progress)
    facts = facts_of_the_run()
    print("\n".join(facts), end="\n\n", flush=True)
    start_s = time.monotonic()
    tables: list[Table] = []
    for kernel in KERNELS:
        found = kernel.measure(settings)
        show_progress("")
        print("\n".join(terminal_table(table) for table in found), flush=True)
        tables += found
    print(f"{time.monotonic() - start_s:.0f} s in all")
    if arguments.output:
        picture: Path = arguments.output.with_suffix(".svg")
        picture.write_text(render_picture(tables[0], tables[-1]))
        command = f"python benches/codec.py{' --quick' * arguments.quick} --output {arguments.output}"
        arguments.output.write_text(render_page(tables, command, picture.name, facts))


def quick_settings() -> Settings:
    """Return what gives a first impression in less than a minute."""
    return Settings(quick=True, rounds=5, span_s=0.004, report=show_progress)


def show_progress(line: str) -> None:
    """Show one line on standard error that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
