"""English sentences, spoken by the voices of Debian's `flite`, and how many of their words a recogniser gets wrong.

They stand here and not among the tests because both the tests and the benches measure with them. The settings of the
recogniser are chosen on `TUNING`; `HELD_OUT` is what a figure is reported on. Both were written before anything was
measured, and no sentence or voice is chosen by its result. No audio is committed: it is spoken once into a folder for
temporary files. The programs of a distribution may speak a little differently from those of another.

Of flite's voices two are missing. `kal` is `kal16` at 8 kHz, where the recogniser's model expects sounds up to 6.8 kHz:
47 % of its words are wrong. `awb_time` only knows how to tell the time.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
import wave
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_RATE = 16000
VOICES = ("awb", "kal16", "rms", "slt")

TUNING = (
    "Good evening, I have a reservation for two nights.",
    "Where can I find a taxi?",
    "How much does this jacket cost?",
    "I am looking for the nearest bank.",
    "The flight to London leaves at seven in the morning.",
    "Could you please speak more slowly?",
    "My brother works in a hospital.",
    "We would like a table by the window.",
    "Is there a pharmacy near the hotel?",
    "I lost my passport on the train.",
    "The children are playing in the garden.",
    "Please bring me a glass of water.",
    "It will rain in the afternoon.",
    "She has lived in this city for ten years.",
    "What time does the museum close?",
    "I need a doctor because my stomach hurts.",
    "The bus stops in front of the church.",
    "Can you help me with my suitcase?",
    "They want to visit the old castle on Sunday.",
    "This soup is too cold.",
    "I forgot to call my mother yesterday.",
    "Do you have a room with a bath?",
    "The road to the beach is closed.",
    "He bought a new car last week.",
    "Let us meet at the main entrance at noon.",
    "Which platform does the train leave from?",
    "I would like to change some money.",
    "The food in this restaurant is excellent.",
    "You should see the mountains in winter.",
    "Are these seats free?",
    "My room key does not work.",
    "We are going to the market to buy fresh fish.",
    "The letter arrived on Monday.",
    "How long does it take to walk to the station?",
    "I am sorry that I am late.",
    "Thank you very much for your help.",
)
HELD_OUT = (
    "Excuse me, where is the post office?",
    "I would like a cup of coffee with milk.",
    "The airport is far from the center of the city.",
    "Can I pay with a credit card?",
    "My sister is a teacher at a small school.",
    "We missed the last bus to the village.",
    "What do you recommend for dinner?",
    "There is a problem with the air conditioning.",
    "I have been waiting here for half an hour.",
    "The next train leaves in twenty minutes.",
    "Please turn left at the second corner.",
    "He does not eat meat or fish.",
    "How many people live in this town?",
    "I want to send this package to Germany.",
    "The water in the lake is very clean.",
    "Could you take a picture of us?",
    "They arrived late because of the traffic.",
    "I need a bigger size of these shoes.",
    "Is breakfast included in the price?",
    "Our plane was delayed by the storm.",
    "She speaks three languages.",
    "Where did you learn to cook so well?",
    "The shops are closed on holidays.",
    "I have a terrible headache.",
    "You can leave your bags at the reception.",
    "My friends are coming to visit me next month.",
    "What is the name of this street?",
    "It is too expensive for me.",
    "The old man sat down under a tree.",
    "Do you know a good place to swim?",
    "We walked along the river for two hours.",
    "I will give you my phone number.",
    "The bill is not correct.",
    "Somebody stole my wallet this morning.",
    "Would you like to come with us?",
    "Have a nice day and see you tomorrow.",
)


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence, who speaks it, and how that sounds.

    Args:
        pcm: s16le mono at 16 kHz, with the silence that the voice puts before and behind it.
    """

    text: str
    voice: str
    pcm: bytes


def speak(texts: Iterable[str], voices: Sequence[str] = VOICES) -> list[SpokenSentence]:
    """Return every sentence in every voice, voice by voice."""
    texts = tuple(texts)
    return [SpokenSentence(text, voice, _spoken(text, voice)) for voice in voices for text in texts]


def normalize(text: str) -> list[str]:
    """Return the words as they are compared: lower case, without marks."""
    return re.sub(r"[^a-z' ]", "", text.lower()).split()


def word_errors(heard: str, reference: str) -> int:
    """Return how many words have to be replaced, left out or put in to make the reference of what was heard."""
    there, wanted = normalize(heard), normalize(reference)
    row = list(range(len(wanted) + 1))
    for n, word in enumerate(there, 1):
        last, row[0] = row[0], n
        for m, other in enumerate(wanted, 1):
            last, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, last + (word != other))
    return row[-1]


def loud_span(pcm: bytes) -> tuple[float, float]:
    """Return where sound begins and ends, in seconds: the samples above 1 % of full scale."""
    loud = [n for n, sample in enumerate(array("h", pcm)) if abs(sample) > 327]
    return loud[0] / SAMPLE_RATE, (loud[-1] + 1) / SAMPLE_RATE


def _spoken(text: str, voice: str) -> bytes:
    name = hashlib.sha256(f"{voice}/{text}".encode()).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / "speechwire-sentences" / f"{name}.wav"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        # Whole or not at all, also while another process speaks the same.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            spoken = Path(folder) / "spoken.wav"
            subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(spoken)], check=True)
            spoken.rename(path)
    with wave.open(str(path)) as wav:
        shape = wav.getframerate(), wav.getnchannels(), wav.getsampwidth()
        if shape != (SAMPLE_RATE, 1, 2):
            raise ValueError(f"expected s16le mono PCM at {SAMPLE_RATE} Hz from voice {voice}, got {shape}")
        pcm: bytes = wav.readframes(wav.getnframes())
        return pcm
