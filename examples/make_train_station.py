"""Makes train_station.wav next to this file. Needs the programs flite and sox (apt-get install flite sox)."""

from __future__ import annotations

import subprocess
from pathlib import Path

SENTENCES = (
    "good morning.",
    "where is the train station?",
    "i want to buy a ticket for tomorrow.",
    "the weather is very nice today.",
)
VOICE = "slt"
VOICE_SAMPLE_RATE = 16000
SAMPLE_RATE = 24000
# flite leaves about a quarter of a second between sentences of one call; a speaker leaves more.
PAUSE_S = 0.6


def speak(sentence: str) -> bytes:
    """Return the sentence as s16le mono PCM at VOICE_SAMPLE_RATE."""
    wav = pipe(["flite", "-voice", VOICE, "-t", sentence, "-o", "/dev/stdout"])
    return pipe(["sox", "-t", "wav", "-", *raw(VOICE_SAMPLE_RATE)], wav)


def pipe(arguments: list[str], data: bytes = b"") -> bytes:
    """Run a program on `data` and return what it writes."""
    return subprocess.run(arguments, check=True, input=data, stdout=subprocess.PIPE).stdout  # noqa: S603


def raw(sample_rate: int) -> list[str]:
    """Return sox's options for headerless PCM on a pipe."""
    return ["-t", "raw", "-r", str(sample_rate), "-e", "signed", "-b", "16", "-c", "1", "-"]


def main() -> None:
    pause = bytes(2 * int(PAUSE_S * VOICE_SAMPLE_RATE))
    pcm = pause.join(speak(sentence) for sentence in SENTENCES)
    path = Path(__file__).with_name("train_station.wav")
    # -D: no dither, so that the same programs make the same file again.
    pipe(["sox", "-D", *raw(VOICE_SAMPLE_RATE), "-r", str(SAMPLE_RATE), "-b", "16", "-c", "1", str(path)], pcm)


if __name__ == "__main__":
    main()
