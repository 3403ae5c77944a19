"""Speech synthesis with Piper: neural voices, each a file of its own with the settings beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from speechwire.codec import resample
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.threads import ModelThread, import_library, reading
from speechwire.server.engines.sentences import spread_words
from speechwire.server.engines.stages import Spoken
from speechwire.server.voices import Voice

__all__ = ["PiperSynthesizer"]

_EXTRA: Final = "piper"
_SILENCE_LEVEL: Final = 300  # of 32768; what a voice has before and behind its words is below
# Voices for other alphabets fetch a dictionary when they are first used.
_PHONEMES: Final = ("espeak", "text")
# Two brackets would begin a spelling in phonemes.
_BRACKET: Final = re.compile(r"\[(?=\[)")


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the file beside a voice says of it."""

    language: str
    sample_rate: int


class PiperSynthesizer:
    """Speaks with one voice for each language, whatever voice is asked for.

    Sentences of all requests wait for each other: each is computed on all processors. Piper does not tell when it says
    a word: the time from the first sound of a sentence to the last is shared out by letters.

    Args:
        files: The voices' .onnx files, each with its .onnx.json beside it, of different languages.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._thread = ModelThread("piper")
        self._library: Any = None
        self._voices: dict[str, Any] = {}
        self._sample_rate = 0

    @property
    def sample_rate(self) -> int:
        """The highest of the voices' rates in Hz, to which the others are resampled; known once it has started."""
        return self._sample_rate

    async def start(self) -> None:
        """Load all voices, and let each say a word."""
        await self._thread.call(self._load)

    async def stop(self) -> None:
        """Release the voices and their threads."""
        self._thread.stop()
        self._voices.clear()

    def check_language(self, language: str) -> None:
        """Raise EngineError if no voice speaks `language`."""
        if language not in self._voices:
            raise EngineError(f"no voice for language {language}; expected one of {', '.join(sorted(self._voices))}")

    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        """Say a sentence once all of it has been computed: its PCM in pieces, cut where a word begins.

        Silence at its start is left out.
        """
        self.check_language(language)
        pcm = await self._thread.call(self._synthesize, self._voices[language], text, speed)
        first, last = _sound(pcm)
        pcm = pcm[2 * first :]
        said = 0
        for word in spread_words(text, 0.0, (last - first) / self._sample_rate):
            begin = 2 * int(word.start_s * self._sample_rate)
            if begin > said:
                await say(pcm[said:begin])
                said = begin
            await say(word)
        if said < len(pcm):
            await say(pcm[said:])

    def _load(self) -> None:
        self._library = import_library("piper", _EXTRA)
        for file in self._files:
            settings = _read_settings(file)
            if settings.language in self._voices:
                raise EngineError(f"expected one voice for a language, got a second for {settings.language}: {file}")
            with reading(file):
                self._voices[settings.language] = self._library.PiperVoice.load(file)
            self._sample_rate = max(self._sample_rate, settings.sample_rate)
        for voice in self._voices.values():
            self._synthesize(voice, "a", 1.0)

    def _synthesize(self, voice: Any, text: str, speed: float) -> bytes:
        settings = self._library.SynthesisConfig(length_scale=voice.config.length_scale / speed)
        chunks = voice.synthesize(_BRACKET.sub("[ ", text), settings)
        pcm = b"".join(chunk.audio_int16_bytes for chunk in chunks)
        sample_rate = int(voice.config.sample_rate)
        return pcm if sample_rate == self._sample_rate else resample(pcm, sample_rate, self._sample_rate)


def _read_settings(file: Path) -> _Settings:
    """Return what is said of a voice; raises EngineError with what is missing and how to get it."""
    described = file.with_name(f"{file.name}.json")
    for needed in (file, described):
        if not needed.is_file():
            raise EngineError(
                f"file {needed} of the Piper voice is missing; run python -m piper.download_voices "
                f"--download-dir {file.parent} {file.stem}"
            )
    try:
        settings = json.loads(described.read_text("utf-8"))
        phonemes = settings.get("phoneme_type", "espeak")
        # eSpeak NG's name, which may have a region: "en-us".
        found = _Settings(settings["espeak"]["voice"].partition("-")[0], int(settings["audio"]["sample_rate"]))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise EngineError(f"file {described} is not that of a Piper voice: {error!r}") from error
    if phonemes not in _PHONEMES:
        raise EngineError(f"expected a voice with phonemes of type {' or '.join(_PHONEMES)}, got {phonemes}: {file}")
    return found


def _sound(pcm: bytes) -> tuple[int, int]:
    """Return the sample at which a sentence begins to be heard, and the one behind its last sound."""
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) > _SILENCE_LEVEL)
    return (int(loud[0]), int(loud[-1]) + 1) if loud.size else (0, len(pcm) // 2)
