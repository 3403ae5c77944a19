"""Translate mu-law audio of a telephone line, 20 ms at a time, and get mu-law back; no resampling by hand.

speechwire serve --engine loopback --port 8000
python examples/phone_caller.py examples/train_station.wav http://127.0.0.1:8000/api
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from speechwire import gradium
from speechwire.codec import Transcoder


def telephone_line(path: str) -> Iterator[bytes]:
    """Yield 160-byte mu-law frames, as a telephone carrier sends them."""
    transcoder = Transcoder("wav", "ulaw_8000", frame_ms=20)
    yield from transcoder.feed(Path(path).read_bytes())
    yield from transcoder.flush()


async def main(path: str, base_url: str) -> None:
    """Run one call through the service."""
    client = gradium.GradiumClient(base_url=base_url, api_key="any")
    setup = {
        "input_format": "pcm",  # what the service gets: 24 kHz
        "output_format": "ulaw_8000",
        "voice_id": "B36pbz5_UoWn4BDl",
        "json_config": {"target_language": "es"},
    }
    stream = await client.s2s_stream(setup, telephone_line(path), source_format="ulaw_8000")
    num_bytes = 0
    async for chunk in stream.iter_audio():
        num_bytes += len(chunk)
    for segment in stream.text_with_timestamps:
        print(f"[{segment.start_s:.2f} s] {segment.text}")
    print(f"{num_bytes / 8000:.2f} s of mu-law")


asyncio.run(main(*sys.argv[1:]))
