"""Speech recognition with faster-whisper: Whisper models in CTranslate2, in about a hundred languages.

Whisper hears whole utterances. So the stream is cut at its pauses, and nothing is known of an utterance before it ends.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from speechwire.events import Flush, Transcript
from speechwire.server.engines import EngineError
from speechwire.server.engines.models.threads import ModelThread, import_library, reading
from speechwire.server.engines.models.utterances import SAMPLE_RATE, Speech, UtteranceCutter
from speechwire.server.engines.stages import Activity, Heard, Utterance

__all__ = ["WhisperRecognizer"]

_EXTRA: Final = "faster-whisper"
# Without the tokenizer's file the library would fetch one.
_FILES: Final = ("model.bin", "config.json", "tokenizer.json")
_VAD_MODE: Final = 2  # of WebRTC's detector: 0 keeps most, 3 drops most
_FULL_SCALE: Final = 32768.0


class WhisperRecognizer:
    """Recognises the languages of a Whisper model: English alone if its name ends in ".en".

    Streams share the model: each utterance is recognised on all processors, and waits for those before it.

    Args:
        model: A folder with a model in CTranslate2's form, or a size such as "base", then looked up in Hugging Face's
            cache of this machine.
        max_streams: Streams that this machine can recognise in real time.
    """

    def __init__(self, model: str = "base", max_streams: int = 2) -> None:
        self._name = model
        self._max_streams = max_streams
        self._thread = ModelThread("faster-whisper")
        self._model: Any = None
        self._languages: frozenset[str] = frozenset()
        self._vad: Any = None

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the s16le mono PCM that `recognize` expects."""
        return SAMPLE_RATE

    @property
    def max_streams(self) -> int | None:
        """Streams that this machine can recognise in real time."""
        return self._max_streams

    async def start(self) -> None:
        """Load the model and let it hear a second of silence."""
        await self._thread.call(self._load)

    async def stop(self) -> None:
        """Release the model and its threads."""
        self._thread.stop()
        self._model = None

    def check_language(self, language: str) -> None:
        """Raise EngineError if the model was not made for `language`."""
        if language not in self._languages:
            # Of a hundred, those that it does have would be no help.
            known = "en" if self._languages == {"en"} else f"one of the {len(self._languages)} of the model"
            raise EngineError(f"expected as source language {known}, got {language}")

    async def recognize(
        self, language: str, audio: AsyncIterator[bytes | Flush], report: Callable[[Heard], Awaitable[None]]
    ) -> None:
        """Recognise one stream, an utterance after the other; all of them are final."""
        self.check_language(language)
        cutter = UtteranceCutter(self._vad.Vad(_VAD_MODE, SAMPLE_RATE, 0.02).is_speech)
        busy_s = 0.0

        async def hear(speech: Speech) -> None:
            nonlocal busy_s
            words, took_s = await self._thread.call(self._transcribe, speech, language)
            busy_s += took_s
            if words:
                await report(Utterance(words, is_final=True))

        async for piece in audio:
            if isinstance(piece, Flush):
                for speech in cutter.flush():
                    await hear(speech)
                await report(piece)
                continue
            for found in cutter.feed(piece):
                if isinstance(found, Speech):
                    await hear(found)
                else:
                    # The detector's 10 microseconds for a frame are not counted.
                    await report(Activity(found, busy_s))
                    busy_s = 0.0
        for speech in cutter.flush():
            await hear(speech)

    def _load(self) -> None:
        library = import_library("faster_whisper", _EXTRA)
        self._vad = import_library("pocketsphinx", _EXTRA)
        folder = _find_model(library, self._name)
        with reading(folder):
            self._model = library.WhisperModel(
                str(folder),
                compute_type="auto",  # the fastest that the processor has, which is 8 bits on most
                cpu_threads=len(os.sched_getaffinity(0)),
                local_files_only=True,
            )
        self._languages = frozenset(self._model.supported_languages)
        self._transcribe(Speech(bytes(2 * SAMPLE_RATE), 0.0), "en")

    def _transcribe(self, speech: Speech, language: str) -> tuple[tuple[Transcript, ...], float]:
        """Return the words of an utterance, and the seconds that it took."""
        began = perf_counter()
        samples = np.frombuffer(speech.pcm, "<i2").astype(np.float32) / _FULL_SCALE
        segments, _ = self._model.transcribe(
            samples,
            language=language,
            # The most likely word, once: the usual five beams and five retries would take several times as long.
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            # The times are those of the words; those of segments would be so many more words to find.
            word_timestamps=True,
            without_timestamps=True,
        )
        # All of an utterance is in the first segment. The next would be what the library hears in the pause behind the
        # last word, for the price of another utterance.
        segment = next(iter(segments), None)
        words: list[Transcript] = []
        stop_s = 0.0
        duration_s = len(samples) / SAMPLE_RATE
        for word in segment.words if segment else ():
            # What attention says of time may go back, and beyond the end.
            start_s = min(max(stop_s, float(word.start)), duration_s)
            stop_s = min(max(start_s, float(word.end)), duration_s)
            if text := word.word.strip():
                words.append(Transcript(text, *(round(speech.start_s + time_s, 6) for time_s in (start_s, stop_s))))
        return tuple(words), perf_counter() - began


def _find_model(library: Any, name: str) -> Path:
    """Return the folder of a model, complete; raises EngineError with what is missing."""
    sizes = library.available_models()
    how = f"run python -c \"from faster_whisper import download_model; download_model('{name}')\""
    folder = Path(name)
    if not folder.is_dir():
        if name not in sizes:
            raise EngineError(f"expected a folder with a Whisper model or one of {', '.join(sizes)}, got {name}")
        try:
            folder = Path(library.download_model(name, local_files_only=True))
        except OSError as error:
            raise EngineError(f"Whisper model {name} is not on this machine; {how}") from error
    elif name not in sizes:
        how = "a folder of CTranslate2's converter needs --copy_files tokenizer.json preprocessor_config.json"
    for file in _FILES:
        if not (folder / file).is_file():
            raise EngineError(f"file {folder / file} of the Whisper model is missing; {how}")
    return folder
