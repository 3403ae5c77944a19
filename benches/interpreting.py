"""The local engine in real time: from the end of a spoken sentence to its first translated sound, alone and in company.

The sample is streamed at the speed of speech over a WebSocket to a server in a process of its own. A sentence ends with
its last 10 ms above -50 dBFS; its translation begins to be heard with the first sample above -40 dBFS of its first word
or later. The lag between the two has five parts:

  endpoint    until the engine has heard enough silence to know that the sentence is over
  recognise   from then until its words are known
  translate   until they are known in the other language
  synthesise  until the first audible piece of them is there
  wire        the rest: encoding, sending, and decoding

With several sessions at once, each frame of audio is due when it would come in a session alone: at the end of its
sentence, plus the median lag alone, plus its place in the translation. What comes later than that is late.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import wave
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import describe_machine
from speechwire.errors import SessionError
from speechwire.events import Flush
from speechwire.gradium import GradiumClient
from speechwire.server import ServerLimits, serve
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.stages import Activity, Heard, Spoken, Utterance
from speechwire.server.engines.synthesize import EspeakSynthesizer
from speechwire.server.engines.translate import ApertiumTranslator
from speechwire.server.voices import Voice

SAMPLE = Path(__file__).parents[1] / "examples" / "train_station.wav"
FRAME_S = 0.08
STEP_S = 0.08
PAUSE_S = 1.0  # behind the sample, so that its last sentence ends like the others
SPEECH_LEVEL = 104  # -50 dBFS
AUDIBLE_LEVEL = 328  # -40 dBFS
PARTS = ("endpoint", "recognise", "translate", "synthesise", "wire")


# --- the server's side: stages that tell when they were done


def tell(**fields: Any) -> None:
    sys.stdout.write(f"{json.dumps({**fields, 'at': time.monotonic()})}\n")
    sys.stdout.flush()


class TimedRecognizer(PocketSphinxRecognizer):
    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        heard_at: list[tuple[float, float]] = []
        steps = 0

        async def timed() -> AsyncIterator[bytes | Flush]:
            heard_s = 0.0
            async for item in audio:
                if isinstance(item, bytes):
                    heard_s += len(item) / 2 / self.sample_rate
                    heard_at.append((heard_s, time.monotonic()))
                yield item

        async def timed_report(heard: Heard) -> None:
            nonlocal steps
            if isinstance(heard, Activity):
                steps += 1
            elif isinstance(heard, Utterance) and heard.is_final and heard.words:
                decided_s = (steps + 1) * STEP_S
                known = [at for heard_s, at in heard_at if heard_s >= decided_s - STEP_S / 2]
                tell(stage="recognise", decided_at=known[0] if known else heard_at[-1][1])
            await report(heard)

        await super().recognize(language, timed(), timed_report)


class TimedTranslator(ApertiumTranslator):
    async def translate(self, text: str, source: str, target: str) -> str:
        translated = await super().translate(text, source, target)
        tell(stage="translate")
        return translated


class TimedSynthesizer(EspeakSynthesizer):
    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        is_silent = True

        async def timed_say(spoken: Spoken) -> None:
            nonlocal is_silent
            if is_silent and isinstance(spoken, bytes) and first_audible(spoken) is not None:
                is_silent = False
                tell(stage="synthesise")
            await say(spoken)

        await super().synthesize(text, language, voice, speed, timed_say)


async def run_server(max_recognitions: int | None) -> None:
    engine = LocalEngine(TimedRecognizer(), TimedTranslator(), TimedSynthesizer())
    began = time.monotonic()
    limits = ServerLimits(max_recognitions=max_recognitions)
    async with serve(engine, limits=limits) as address:
        tell(address=address, started_s=time.monotonic() - began)
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def timed_server(max_recognitions: int | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the base URL of a server process, and the list that is what its stages told when the block is over."""
    command = [sys.executable, __file__, "--serve", str(max_recognitions or 0)]
    told: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            while "address" not in (first := json.loads(process.stdout.readline())):
                pass  # the stages are warmed up
            print(f"server ready after {first['started_s']:.2f} s")
            yield f"{first['address']}/api/", told
        finally:
            process.stdin.close()
            told += map(json.loads, process.stdout)


# --- the client's side


@dataclass
class Sentence:
    """One sentence of a session, in seconds of the monotonic clock."""

    ended_at: float
    arrivals: list[tuple[float, float]] = field(default_factory=list)  # place in the translation, when it came
    heard_at: float | None = None

    @property
    def lag_s(self) -> float:
        assert self.heard_at is not None
        return self.heard_at - self.ended_at


def first_audible(pcm: bytes) -> int | None:
    return next((n for n, sample in enumerate(array("h", pcm)) if abs(sample) > AUDIBLE_LEVEL), None)


def sentence_ends(pcm: bytes, sample_rate: int) -> list[float]:
    """Return where the sentences of the sample end, in seconds: in front of 400 ms of quiet, or of the end."""
    samples = array("h", pcm)
    size = sample_rate // 100
    loud = [max(map(abs, samples[n : n + size])) > SPEECH_LEVEL for n in range(0, len(samples) - size, size)]
    loud += [False] * 41
    return [(n + 1) / 100 for n in range(len(loud) - 40) if loud[n] and not any(loud[n + 1 : n + 41])]


async def run_session(base_url: str, pcm: bytes, sample_rate: int, ends: list[float], delay_s: float) -> list[Sentence]:
    """Stream the sample once; return its sentences."""
    client = GradiumClient(base_url=base_url, api_key="k")
    loop = asyncio.get_running_loop()
    sentences: list[Sentence] = []
    frame_bytes = 2 * int(sample_rate * FRAME_S)
    is_new = True
    starts: list[float] = []
    async with client.s2s_realtime(
        input_format=f"pcm_{sample_rate}",
        output_format="pcm_24000",
        json_config={"target_language": "es"},
        wait_for_ready_on_start=True,
    ) as s2s:
        await asyncio.sleep(delay_s)
        began = loop.time()
        sentences = [Sentence(began + end_s) for end_s in ends]

        async def produce() -> None:
            # A frame can only be sent when all of it has been spoken.
            for number, offset in enumerate(range(0, len(pcm), frame_bytes), 1):
                await asyncio.sleep(began + number * FRAME_S - loop.time())
                await s2s.send_audio(pcm[offset : offset + frame_bytes])
            await s2s.send_eos()

        producer = asyncio.create_task(produce())
        async for message in s2s:
            if message["type"] == "text":
                if is_new:
                    starts.append(message["start_s"])
                is_new = message["text"].endswith((".", "?", "!"))
            elif message["type"] == "audio" and starts and len(starts) <= len(sentences):
                sentence = sentences[len(starts) - 1]
                place_s = message["start_s"] - starts[-1]
                sentence.arrivals.append((place_s, loop.time()))
                if sentence.heard_at is None and message["stop_s"] > starts[-1]:
                    skipped = max(0, round(-place_s * 24000))
                    if first_audible(message["audio"][2 * skipped :]) is not None:
                        sentence.heard_at = loop.time()
        await producer
    if len(starts) != len(sentences) or any(sentence.heard_at is None for sentence in sentences):
        raise RuntimeError(f"expected {len(sentences)} translated sentences, got {len(starts)}")
    return sentences


def measure_alone(pcm: bytes, sample_rate: int, ends: list[float], rounds: int) -> list[Sentence]:
    sentences: list[Sentence] = []
    with timed_server(None) as (base_url, told):
        for _ in range(rounds):
            sentences += asyncio.run(run_session(base_url, pcm, sample_rate, ends, 0.0))
    by_stage = {
        stage: [t for t in told if t.get("stage") == stage] for stage in ("recognise", "translate", "synthesise")
    }
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    for sentence, heard, translated, spoken in zip(sentences, *by_stage.values(), strict=True):
        assert sentence.heard_at is not None
        edges = [
            sentence.ended_at, heard["decided_at"], heard["at"], translated["at"], spoken["at"], sentence.heard_at
        ]  # fmt: skip
        for part, begin, end in zip(PARTS, edges, edges[1:], strict=False):
            parts[part].append(end - begin)
    lags = [sentence.lag_s for sentence in sentences]
    print(f"\nlag alone, {len(lags)} sentences: median {statistics.median(lags):.3f} s, worst {max(lags):.3f} s")
    for part in PARTS:
        print(f"  {part:<11} median {statistics.median(parts[part]):.3f} s, worst {max(parts[part]):.3f} s")
    return sentences


def measure_together(
    pcm: bytes, sample_rate: int, ends: list[float], sessions: int, rounds: int, lag_alone_s: float
) -> None:
    late: list[float] = []
    lags: list[float] = []

    async def main(base_url: str) -> None:
        for _ in range(rounds):
            # Speakers of different places in the sample.
            span_s = len(pcm) / 2 / sample_rate
            runs = [
                asyncio.create_task(run_session(base_url, pcm, sample_rate, ends, span_s * n / sessions / 2))
                for n in range(sessions)
            ]
            await asyncio.sleep(1.0)
            with suppress(SessionError):
                await run_session(base_url, pcm, sample_rate, ends, 0.0)
                raise RuntimeError(f"expected session {sessions + 1} to be refused")
            for sentences in await asyncio.gather(*runs):
                for sentence in sentences:
                    lags.append(sentence.lag_s)
                    due = sentence.ended_at + lag_alone_s
                    late.extend(at - (due + max(0.0, place_s)) for place_s, at in sentence.arrivals)

    with timed_server(sessions) as (base_url, _):
        asyncio.run(main(base_url))
    print(
        f"\n{sessions} at once, {len(lags)} sentences, one more refused each time: lag median "
        f"{statistics.median(lags):.3f} s, worst {max(lags):.3f} s; {len(late)} frames, latest {max(late):+.3f} s, "
        f"{sum(value > 0.5 for value in late)} later than 0.5 s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="times the sample of four sentences is streamed")
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(run_server(arguments.serve or None))
        return
    with wave.open(str(SAMPLE)) as wav:
        sample_rate = wav.getframerate()
        pcm = wav.readframes(wav.getnframes()) + bytes(2 * int(PAUSE_S * sample_rate))
    ends = sentence_ends(pcm, sample_rate)
    print(describe_machine())
    lags = [sentence.lag_s for sentence in measure_alone(pcm, sample_rate, ends, arguments.rounds)]
    measure_together(pcm, sample_rate, ends, arguments.sessions, arguments.rounds, statistics.median(lags))


if __name__ == "__main__":
    main()
