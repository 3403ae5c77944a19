"""Push audio as a microphone would give it, and print and keep what comes back meanwhile.

speechwire serve --engine loopback --port 8000
python examples/s2s_realtime.py examples/train_station.wav http://127.0.0.1:8000/api
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from speechwire import gradium
from speechwire.codec import WavReader


async def microphone(pcm: bytes) -> AsyncIterator[bytes]:
    """Yield 80 ms frames of 24 kHz mono PCM at the speed of speech."""
    for start in range(0, len(pcm), 3840):
        yield pcm[start : start + 3840]
        await asyncio.sleep(0.08)


async def main(pcm: bytes, base_url: str) -> None:
    """Run one session."""
    client = gradium.GradiumClient(base_url=base_url, api_key="any")
    async with client.s2s_realtime(
        voice_id="B36pbz5_UoWn4BDl",
        json_config={"target_language": "es"},
        wait_for_ready_on_start=True,
    ) as s2s:

        async def send() -> None:
            async for frame in microphone(pcm):
                await s2s.send_audio(frame)
            await s2s.send_eos()

        num_bytes = 0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            async for message in s2s:
                if message["type"] == "audio":
                    num_bytes += len(message["audio"])
                elif message["type"] == "text":
                    print(message["text"], flush=True)
    print(f"{num_bytes // 2 / 48000:.2f} s of audio at 48 kHz")


wav, url = sys.argv[1:]
asyncio.run(main(WavReader().feed(Path(wav).read_bytes()), url))
