"""Speech synthesis with the library eSpeak NG, in processes of our own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable

from speechwire.server.engines import EngineError
from speechwire.server.engines.sentences import spread_words
from speechwire.server.engines.stages import Spoken
from speechwire.server.engines.synthesize_worker import AUDIO, DONE, SAMPLE_RATE, SENTENCE, WORDS_PAYLOAD
from speechwire.server.engines.together import finish
from speechwire.server.engines.worker import FAILURE, Worker
from speechwire.server.voices import FEMALE, MALE, Voice

__all__ = ["EspeakSynthesizer", "espeak_voice"]

_MODULE = "speechwire.server.engines.synthesize_worker"
_WORDS_PER_MINUTE = 175  # at speed 1.0, the library's own; it takes 80 to 450
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
    """Speaks English, Spanish, French, German and Portuguese, a sentence in each process, first come, first served.

    Args:
        timeout_s: How long a sentence may take, without the time that it waits for its turn or `say` takes.
        num_workers: Processes; a sentence takes one of them for some milliseconds. Two at most unless given.
    """

    def __init__(self, timeout_s: float = 10.0, *, num_workers: int | None = None) -> None:
        self._timeout_s = timeout_s
        self._num_workers = num_workers or min(2, os.cpu_count() or 1)
        self._turns = asyncio.Semaphore(self._num_workers)
        self._idle: list[Worker] = []
        self._is_stopped = False

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of the PCM that `synthesize` says."""
        return SAMPLE_RATE

    def check_language(self, language: str) -> None:
        """Raise EngineError if there is no voice for `language`."""
        if language not in _VOICES:
            raise EngineError(f"no voice for language {language}; expected one of {', '.join(_VOICES)}")

    async def start(self) -> None:
        """Start the processes, and speak a word with one of them.

        Raises:
            EngineError: eSpeak NG is not installed.
        """
        if self._is_stopped:
            self._is_stopped = False
            self._turns = asyncio.Semaphore(self._num_workers)  # whoever stopped it has kept the old ones
        for _ in range(self._num_workers):
            self._idle.append(await Worker.start(_MODULE))
        await self.synthesize("one", "en", None, 1.0, _say_nothing)

    async def stop(self) -> None:
        """Wait for the sentences that are being spoken, and end the processes; any later sentence fails."""
        if self._is_stopped:
            return
        self._is_stopped = True
        for _ in range(self._num_workers):
            await self._turns.acquire()
        while self._idle:
            await self._idle.pop().stop()

    async def synthesize(
        self,
        text: str,
        language: str,
        voice: Voice | None,
        speed: float,
        say: Callable[[Spoken], Awaitable[None]],
    ) -> None:
        """Say a sentence while it is being spoken; silence at its start is left out.

        Cancelling waits for the few milliseconds until the process has spoken the rest.

        Raises:
            EngineError: The synthesis failed or took too long, or was stopped.
        """
        self.check_language(language)
        if self._is_stopped:
            raise EngineError("espeak-ng was stopped")
        request = json.dumps({
            "text": text,
            "voice": espeak_voice(language, voice),
            "words_per_minute": round(_WORDS_PER_MINUTE * speed),
        })  # fmt: skip
        # Bounded by the sentence: its process serves the next while this one's client is slow.
        messages: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        await self._turns.acquire()
        speaking = asyncio.create_task(self._speak(request.encode(), messages.put_nowait))
        try:
            words = text.split()
            while (message := await messages.get())[0] != DONE:
                kind, payload = message
                if kind == FAILURE:
                    raise EngineError(payload.decode())
                if kind == AUDIO:
                    await say(payload)
                    continue
                count, start, stop = WORDS_PAYLOAD.unpack(payload)
                for word in spread_words(" ".join(words[:count]), start / SAMPLE_RATE, stop / SAMPLE_RATE):
                    await say(word)
                del words[:count]
        finally:
            await finish(speaking)

    async def _speak(self, request: bytes, put: Callable[[tuple[bytes, bytes]], None]) -> None:
        """Have a sentence spoken by a process that is free, and put its messages; a turn has been taken for it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                worker, message = await self._begin(request)
                try:
                    while message[0] != DONE:
                        put(message)
                        message = await worker.receive()
                except BaseException:
                    # What is left of the sentence in its pipe must not get into the next.
                    await worker.stop()
                    raise
            self._idle.append(worker)
        except TimeoutError:
            put((FAILURE, f"espeak-ng took more than {self._timeout_s:g} s".encode()))
        except EngineError as error:
            put((FAILURE, str(error).encode()))
        else:
            put(message)
        finally:
            self._turns.release()

    async def _begin(self, request: bytes) -> tuple[Worker, tuple[bytes, bytes]]:
        """Return a process that has begun the sentence, and its first message."""
        while True:
            is_old = bool(self._idle)
            worker = self._idle.pop() if is_old else await Worker.start(_MODULE)
            try:
                await worker.send(SENTENCE, request)
                return worker, await worker.receive()
            except BaseException as error:
                # One that had died while nobody looked costs nobody anything.
                is_over = not (is_old and worker.has_ended and isinstance(error, EngineError))
                await worker.stop()
                if is_over:
                    raise


async def _say_nothing(_: Spoken) -> None:
    pass
