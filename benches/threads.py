"""How much faster two threads are than one, by the size of the buffer.

Each row: the same calls made by one thread and shared out to two, in turns; wall time, the best of some rounds. Small
buffers are worked on with the interpreter lock held, so two threads gain nothing there; from `DETACH_BYTES` of
`rust/python/src/buffer.rs` on it is let go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from machine import describe_machine
from speechwire import codec

SIZES = (4_096, 16_384, 32_768, 65_536, 131_072, 262_144, 1_048_576)
ROUNDS, CALL_BYTES = 7, 8_000_000

KERNELS: dict[str, Callable[[], Callable[[bytes], Any]]] = {
    "ulaw_encode": lambda: codec.ulaw_encode,
    "ulaw_decode": lambda: codec.ulaw_decode,
    "encode_audio_message": lambda: codec.encode_audio_message,
    "Resampler 24 to 8": lambda: codec.Resampler(24000, 8000).feed,
    "Resampler 8 to 24": lambda: codec.Resampler(8000, 24000).feed,
}


def seconds(threads: list[threading.Thread]) -> float:
    """Return how long it takes until all of them have ended."""
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def worker(new_call: Callable[[], Callable[[bytes], Any]], chunk: bytes, num_calls: int) -> threading.Thread:
    """Return a thread that makes so many calls on an object of its own."""
    call = new_call()

    def work() -> None:
        for _ in range(num_calls):
            call(chunk)

    return threading.Thread(target=work)


def main() -> None:
    """Print the table."""
    print(describe_machine())
    print(f"{'microseconds a call, and times as fast with two threads':55}" + "".join(f"{size:>16}" for size in SIZES))
    for name, new_call in KERNELS.items():
        cells = []
        for size in SIZES:
            chunk, num_calls = bytes(size), max(20, CALL_BYTES // size // 2)
            alone, shared = [], []
            for _ in range(ROUNDS):
                alone.append(seconds([worker(new_call, chunk, 2 * num_calls)]))
                shared.append(seconds([worker(new_call, chunk, num_calls) for _ in range(2)]))
            cells.append(f"{min(alone) / num_calls / 2 * 1e6:8.1f} ({min(alone) / min(shared):.2f})")
        print(f"{name:55}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
