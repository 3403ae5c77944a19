"""Many real-time sessions at once: one client process, one server process, every sample counted.

The lateness of a frame is the time from sending it to having its samples back; input and output have the same rate, so
what comes back must equal what was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from local_server import cpu_seconds, loopback_server
from machine import describe_machine
from speechwire.errors import SessionError
from speechwire.gradium import GradiumClient

FRAME_S = 0.08
FRAME_BYTES = 3840


class Outcome:
    """What one session saw."""

    def __init__(self) -> None:
        self.lateness_s: list[float] = []
        self.failure: str | None = None
        self.correct = False


async def run_session(client: GradiumClient, number: int, delay_s: float, frames: int) -> Outcome:
    """Hold one session for its whole time."""
    outcome = Outcome()
    payload = [bytes([number & 0xFF, frame & 0xFF]) * (FRAME_BYTES // 2) for frame in range(frames)]
    sent_at: list[float] = []
    received = bytearray()
    loop = asyncio.get_running_loop()
    try:
        async with client.s2s_realtime(
            input_format="pcm_24000", output_format="pcm_24000", wait_for_ready_on_start=True
        ) as s2s:

            async def produce() -> None:
                due = loop.time() + delay_s
                for frame in payload:
                    await asyncio.sleep(due - loop.time())
                    due += FRAME_S
                    sent_at.append(loop.time())
                    await s2s.send_audio(frame)
                await s2s.send_eos()

            producer = asyncio.create_task(produce())
            async for message in s2s:
                if message["type"] == "audio":
                    received += message["audio"]
                    outcome.lateness_s.append(loop.time() - sent_at[len(received) // FRAME_BYTES - 1])
            await producer
    except SessionError as error:
        outcome.failure = str(error)
    outcome.correct = bytes(received) == b"".join(payload)
    return outcome


async def run_sessions(base_url: str, sessions: int, seconds: float) -> list[Outcome]:
    """Hold all sessions, their frames spread evenly over the 80 ms."""
    client = GradiumClient(base_url=base_url, api_key="k")
    frames = round(seconds / FRAME_S)
    return await asyncio.gather(
        *(run_session(client, number, 1.0 + FRAME_S * number / sessions, frames) for number in range(sessions))
    )


def main() -> None:
    """Run the load once and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    arguments = parser.parse_args()
    print(describe_machine())
    with loopback_server() as (base_url, pid):
        server_cpu_s, client_cpu_s, start_s = cpu_seconds(pid), time.process_time(), time.monotonic()
        outcomes = asyncio.run(run_sessions(base_url, arguments.sessions, arguments.seconds))
        wall_s = time.monotonic() - start_s
        server_cpu_s, client_cpu_s = cpu_seconds(pid) - server_cpu_s, time.process_time() - client_cpu_s
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    correct = sum(outcome.correct for outcome in outcomes)
    lateness_ms = sorted(1000 * value for outcome in outcomes for value in outcome.lateness_s)
    print(f"{arguments.sessions} sessions for {arguments.seconds:g} s (wall {wall_s:.1f} s)")
    print(f"failed: {len(failures)}   every sample back, in order and equal: {correct} of {arguments.sessions}")
    if lateness_ms:
        at = {share: lateness_ms[int(share * (len(lateness_ms) - 1))] for share in (0.5, 0.99, 0.999, 1.0)}
        print(
            "lateness of a frame, ms:  " + "   ".join(f"{100 * share:g} % {value:.1f}" for share, value in at.items())
        )
    print(f"CPU: client {100 * client_cpu_s / wall_s:.0f} %, server {100 * server_cpu_s / wall_s:.0f} % of one core")
    for failure in failures[:5]:
        print(f"  {failure}")
    raise SystemExit(1 if failures or correct != arguments.sessions else 0)


if __name__ == "__main__":
    main()
