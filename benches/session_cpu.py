"""CPU of a client process that holds many real-time sessions: ours beside the official SDK.

Both run the same program over the same calls against the same server, one after the other and several times over, each
run in a process of its own. Only the streaming is counted, not imports and connecting. The column `correct` says
whether every session got back exactly what the server's resampler makes of its input.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from local_server import loopback_server
from machine import describe_machine
from speechwire.codec import Resampler

CLIENTS = {"gradium": "gradium", "speechwire": "speechwire.gradium"}
FRAME_S = 0.08
FRAME_BYTES = 3840
# A ramp of bytes: cheap, and no two frames of a session are the same.
PCM = bytes((i * i >> 7) & 0xFF for i in range(FRAME_BYTES * 50))
FRAMES = [PCM[start : start + FRAME_BYTES] for start in range(0, len(PCM), FRAME_BYTES)]


async def run_session(
    client: Any, start: asyncio.Event, ready: asyncio.Semaphore, delay_s: float, frames: int
) -> bytes:
    """Hold one session: a frame every 80 ms out, whatever comes in kept."""
    out = []
    loop = asyncio.get_running_loop()
    setup = {"input_format": "pcm", "output_format": "pcm", "voice_id": "YTpq7expH9539ERJ"}
    async with client.s2s_realtime(wait_for_ready_on_start=True, json_config={}, **setup) as s2s:

        async def produce() -> None:
            due = loop.time() + delay_s
            for number in range(frames):
                await asyncio.sleep(due - loop.time())
                due += FRAME_S
                await s2s.send_audio(FRAMES[number % len(FRAMES)])
            await s2s.send_eos()

        ready.release()
        await start.wait()
        producer = asyncio.create_task(produce())
        async for message in s2s:
            if message["type"] == "audio":
                out.append(message["audio"])
            elif message["type"] == "end_of_stream":
                break
        await producer
    return b"".join(out)


async def work(name: str, base_url: str, sessions: int, seconds: float) -> dict[str, object]:
    """Run the sessions with one client and measure them."""
    client = importlib.import_module(f"{CLIENTS[name]}").client.GradiumClient(base_url=base_url, api_key="k")
    frames = round(seconds / FRAME_S)
    start, ready = asyncio.Event(), asyncio.Semaphore(0)
    tasks = [
        asyncio.create_task(run_session(client, start, ready, FRAME_S * number / sessions, frames))
        for number in range(sessions)
    ]
    for _ in range(sessions):
        await ready.acquire()
    cpu_s, wall_s = time.process_time(), time.monotonic()
    start.set()
    outputs = await asyncio.gather(*tasks)
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    resampler = Resampler(24000, 48000)
    expected = b"".join(resampler.feed(FRAMES[number % len(FRAMES)]) for number in range(frames)) + resampler.flush()
    return {"cpu_s": cpu_s, "wall_s": wall_s, "correct": all(output == expected for output in outputs)}


def main() -> None:
    """Run every client in turn, several times, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        result = asyncio.run(work(arguments.work, arguments.base_url, arguments.sessions, arguments.seconds))
        print(json.dumps(result))
        return

    print(describe_machine())
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in CLIENTS}
    with loopback_server() as (base_url, _):
        for number in range(arguments.rounds):
            order = list(CLIENTS) if number % 2 == 0 else list(CLIENTS)[::-1]
            for name in order:
                command = [sys.executable, __file__, "--work", name, "--base-url", base_url]
                command += ["--sessions", str(arguments.sessions), "--seconds", str(arguments.seconds)]
                answer = subprocess.run(command, capture_output=True, text=True, check=True)
                results[name].append(json.loads(answer.stdout))
    print(f"{arguments.sessions} sessions, 24 kHz PCM out and 48 kHz PCM in, {arguments.seconds:g} s at real time")
    print(f"{'client':12} {'CPU ms per session-second':>26} {'ratio':>6}  correct")
    per_session = {
        name: statistics.median(1000 * row["cpu_s"] / arguments.sessions / arguments.seconds for row in rows)
        for name, rows in results.items()
    }
    for name, rows in results.items():
        ratio = per_session[name] / per_session["gradium"]
        correct = "yes" if all(row["correct"] for row in rows) else "NO"
        print(f"{name:12} {per_session[name]:26.3f} {ratio:6.2f}  {correct}")


if __name__ == "__main__":
    main()
