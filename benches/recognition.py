"""The recogniser on spoken sentences: wrong words, how late a sentence is known, and what a stream costs.

Every sentence is recognised as fast as it goes: in a stream of its own, where nothing is known of the voice yet; in a
talk with a second between the sentences; and by a server over a WebSocket, which says a word when 0.8 s more have been
heard. Then come talks at the pace of speech, one alone and several at once: late is the time from a sentence's last
sound to its text.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from speechwire.gradium import GradiumClient
from speechwire.server import serve
from speechwire.server.engines.local import LocalEngine
from speechwire.server.engines.recognize import PocketSphinxRecognizer
from speechwire.server.engines.stages import Activity, Heard, Utterance
from spoken_sentences import (
    HELD_OUT,
    SAMPLE_RATE,
    TUNING,
    VOICES,
    SpokenSentence,
    loud_span,
    normalize,
    speak,
    word_errors,
)

STEP_BYTES = 2560
STEP_S = 0.08
PAUSE = bytes(2 * SAMPLE_RATE)


@dataclass
class Stream:
    """What became of the sentences of one stream."""

    sentences: Sequence[SpokenSentence]
    texts: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    busy_s: float = 0.0

    @property
    def pcm(self) -> bytes:
        return b"".join(sentence.pcm + PAUSE for sentence in self.sentences)

    @property
    def errors(self) -> int:
        return word_errors(" ".join(self.texts), self.reference)

    @property
    def reference(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / (2 * SAMPLE_RATE)


async def recognize(recognizer: PocketSphinxRecognizer, sentences: Sequence[SpokenSentence], *, paced: bool) -> Stream:
    """Recognise sentences in a stream."""
    stream = Stream(sentences)
    began = time.monotonic()
    ends: list[float] = []
    offset_s = 0.0
    for sentence in sentences:
        ends.append(offset_s + loud_span(sentence.pcm)[1])
        offset_s += len(sentence.pcm + PAUSE) / (2 * SAMPLE_RATE)

    async def audio() -> AsyncIterator[bytes]:
        pcm = stream.pcm
        for number, start in enumerate(range(0, len(pcm), STEP_BYTES), 1):
            if paced:
                # A piece is there when its last sample has been spoken.
                await asyncio.sleep(began + number * STEP_S - time.monotonic())
            yield pcm[start : start + STEP_BYTES]

    async def report(heard: Heard) -> None:
        if isinstance(heard, Activity):
            stream.busy_s += heard.busy_s
        elif isinstance(heard, Utterance) and heard.is_final and heard.words:
            now_s = time.monotonic() - began
            stream.texts.append(" ".join(word.text for word in heard.words))
            if paced:
                stream.late_s.append(now_s - max(end_s for end_s in ends if end_s <= now_s))

    await recognizer.recognize("en", audio(), report)
    return stream


async def transcribe(base_url: str, sentence: SpokenSentence) -> str:
    """Return what a server hears."""
    client = GradiumClient(base_url=base_url, api_key="k")
    return (await client.stt({"input_format": f"pcm_{SAMPLE_RATE}"}, sentence.pcm)).text


async def recognize_by_wire(base_url: str, sentence: SpokenSentence) -> Stream:
    """Recognise a sentence by a server."""
    return Stream([sentence], [await transcribe(base_url, sentence)])


def summarize(name: str, streams: Sequence[Stream]) -> str:
    """Return wrong words by voice, and how the finals compare with the sentences."""

    def rate(some: Sequence[Stream]) -> str:
        return f"{sum(s.errors for s in some) / sum(len(normalize(s.reference)) for s in some):6.1%}"

    voices = "  ".join(
        f"{voice} {rate([stream for stream in streams if stream.sentences[0].voice == voice])}" for voice in VOICES
    )
    num_sentences = sum(len(stream.sentences) for stream in streams)
    num_texts = sum(len(stream.texts) for stream in streams)
    return f"{name:24} {rate(streams)}  {voices}  {num_texts} texts of {num_sentences} sentences"


def summarize_pace(streams: Sequence[Stream]) -> str:
    """Return what streams at the pace of speech cost, and how late their texts were."""
    late_ms = sorted(1000 * late_s for stream in streams for late_s in stream.late_s)
    cost = sum(stream.busy_s for stream in streams) / sum(stream.duration_s for stream in streams)
    return (
        f"{len(streams)} at the pace of speech: late {statistics.median(late_ms):.0f} ms, "
        f"at most {late_ms[-1]:.0f} ms; {cost:.3f} s of one CPU for a second of each"
    )


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=8, help="how many at once")
    streams_at_once = parser.parse_args().streams
    recognizer = PocketSphinxRecognizer(max_streams=streams_at_once)
    await recognizer.start()
    try:
        for name, texts in (("tuning", TUNING), ("held out", HELD_OUT)):
            spoken = speak(texts)
            alone = [await recognize(recognizer, [sentence], paced=False) for sentence in spoken]
            print(summarize(f"{name}, each alone", alone), flush=True)
            talks = [
                await recognize(recognizer, [s for s in spoken if s.voice == voice], paced=False) for voice in VOICES
            ]
            print(summarize(f"{name}, in a talk", talks), flush=True)
            async with serve(LocalEngine()) as address:
                by_wire = [await recognize_by_wire(f"{address}/api/", sentence) for sentence in spoken]
            print(summarize(f"{name}, over the wire", by_wire), flush=True)
        for num_streams in (1, streams_at_once):
            spoken = speak(HELD_OUT[:12], VOICES)
            talks = await asyncio.gather(
                *(
                    recognize(recognizer, [s for s in spoken if s.voice == VOICES[n % len(VOICES)]], paced=True)
                    for n in range(num_streams)
                )
            )
            print(summarize_pace(talks), flush=True)
    finally:
        await recognizer.stop()


if __name__ == "__main__":
    asyncio.run(main())
