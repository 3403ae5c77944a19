"""Speech synthesis with the program eSpeak NG."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

from speechwire.codec import WavReader
from speechwire.server.engines import EngineError
from speechwire.server.engines.program import in_thread, stream_program
from speechwire.server.engines.sentences import spread_words
from speechwire.server.engines.stages import Spoken
from speechwire.server.voices import FEMALE, MALE, Voice

__all__ = ["EspeakSynthesizer", "espeak_voice"]

# eSpeak NG's formant voices have this rate; its header is checked against it.
_SAMPLE_RATE = 22050
_WORDS_PER_MINUTE = 175  # at speed 1.0, the program's own; it takes 80 to 450
_VOICES = {"en": "en-us", "es": "es", "fr": "fr", "de": "de", "pt": "pt"}
# The accents and variants that eSpeak NG has. Its variants change pitch and formants of any language, but only where it
# is named as its file is: "en" is British, and "en-gb" would leave the variant out.
_ACCENTS = {"en-us": "en-us", "en-gb": "en", "es-es": "es", "es-mx": "es-419", "pt-br": "pt-br"}
_VARIANTS = {
    **{timbre: f"f{number}" for number, timbre in enumerate(FEMALE, 1)},
    **{timbre: f"m{number}" for number, timbre in enumerate(MALE, 1)},
}


def espeak_voice(language: str, voice: Voice | None) -> str:
    """Return eSpeak NG's name for a voice in a language; the accent of a voice from another language is not used."""
    if voice is None:
        return _VOICES[language]
    accent = _ACCENTS.get(voice.locale) if voice.language == language else None
    return f"{accent or _VOICES[language]}+{_VARIANTS[voice.timbre]}"


class EspeakSynthesizer:
    """Speaks English, Spanish, French, German and Portuguese, one process per sentence.

    `timeout_s` bounds how long a sentence may take in all.
    """

    def __init__(self, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that `synthesize` yields."""
        return _SAMPLE_RATE

    async def start(self) -> None:
        """Verify that eSpeak NG is installed."""
        if shutil.which("espeak-ng") is None:
            raise EngineError("program espeak-ng is not installed; run apt-get install espeak-ng")

    def check_language(self, language: str) -> None:
        """Raise EngineError if there is no voice for `language`."""
        if language not in _VOICES:
            raise EngineError(f"no voice for language {language}; expected one of {', '.join(_VOICES)}")

    async def stop(self) -> None:
        """Nothing to release."""

    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        """Say a sentence."""
        pcm = await in_thread(self._synthesize, text, language, voice, speed)
        for word in spread_words(text, 0.0, len(pcm) / 2 / _SAMPLE_RATE):
            await say(word)
        await say(pcm)

    def _synthesize(self, text: str, language: str, voice: Voice | None, speed: float) -> bytes:
        self.check_language(language)
        reader = WavReader()
        arguments = ["espeak-ng", "--stdin", "--stdout", "-b", "1", "-v", espeak_voice(language, voice)]
        arguments += ["-s", str(round(_WORDS_PER_MINUTE * speed))]
        pcm = b"".join(map(reader.feed, stream_program(arguments, text, timeout_s=self._timeout_s)))
        if reader.sample_rate != _SAMPLE_RATE:
            raise EngineError(f"expected {_SAMPLE_RATE} Hz from espeak-ng, got {reader.sample_rate} Hz")
        return pcm
