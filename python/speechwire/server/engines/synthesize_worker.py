"""The process in which eSpeak NG speaks, and the words that it begins as it goes.

The library keeps the state of its noise and of its pitch from one sentence to the next, so each is spoken by a fork of
its own in which nothing was spoken before: the same sentence always sounds the same, and one on which the library
crashes takes nothing along.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechwire.server.engines import EngineError
from speechwire.server.engines.worker import FAILURE, read_messages, write_message

__all__ = ["AUDIO", "DONE", "SAMPLE_RATE", "SENTENCE", "WORDS", "WORDS_PAYLOAD", "SpokenWords"]

SENTENCE = b"s"  # to the worker: JSON with text, voice and words_per_minute
WORDS = b"w"  # from the worker: the next words of the text, and the samples from which and to which they are spoken
AUDIO = b"a"  # from the worker: s16le mono PCM
DONE = b"."  # from the worker: the sentence is over
WORDS_PAYLOAD = struct.Struct("<HII")

SAMPLE_RATE = 22050  # that of eSpeak NG's formant voices; the library is asked, too
_PIECE_MS = 80
_SILENCE_LEVEL = 300  # the library's pause has less
# What the library takes for the start of a command, or for the end of the text; none of it is ever spoken.
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F], " ")

# From eSpeak NG's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_ENDPAUSE = 0x1000
_RATE = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_WORD = 1


class _Event(ctypes.Structure):
    """The `espeak_EVENT` of speak_lib.h; the text's characters are counted from 1."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_void_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SpokenWords:
    """Puts the words of a text before the PCM in which they begin.

    Silence at the start is left out. The library says where it begins a word, but joins some and leaves others out:
    words that it does not name share the span of the one before them. A span ends with its last sound, for which its
    PCM is held back until the next begins.

    Args:
        text: What the library speaks.
    """

    def __init__(self, text: str) -> None:
        words = list(re.finditer(r"\S+", text))
        self._starts = [word.start() for word in words]
        self._has_letters = [any(map(str.isalnum, word[0])) for word in words]
        self._held = bytearray()
        self._held_from = 0  # sample at which what is held begins, without the silence at the start
        self._cut_samples: int | None = None  # the silence at the start, once it is over
        self._silent_samples = 0
        self._begun = 0  # words that have been told, or whose span is open
        self._told = 0
        self._open_from = 0  # sample at which the open span begins
        self._waiting: list[tuple[int, int]] = []  # begins of words in the silence at the start

    def feed(self, pcm: bytes, begins: list[tuple[int, int]]) -> Iterator[tuple[bytes, bytes]]:
        """Yield messages, words and PCM, that are complete with the next PCM and the words that begin in it.

        Args:
            pcm: s16le mono.
            begins: For each word its first character, counted from 0, and its sample, counted from the text's first.
        """
        self._waiting += begins
        if self._cut_samples is None:
            sound = pcm.lstrip(b"\0")
            if not sound:
                self._silent_samples += len(pcm) // 2
                return
            cut = (len(pcm) - len(sound)) // 2  # a sample whose low byte is 0 begins with it
            self._cut_samples = self._silent_samples + cut
            pcm = pcm[2 * cut :]
        self._held += pcm
        for character, sample in self._waiting:
            yield from self._begin(bisect_right(self._starts, character) - 1, max(0, sample - self._cut_samples))
        self._waiting = []

    def flush(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the words and the PCM that are left."""
        if self._cut_samples is None:
            # Nothing is to be heard: a pause is all that the text is.
            self._held += bytes(2 * self._silent_samples)
        end = self._held_from + len(self._held) // 2
        yield from self._tell(len(self._starts), end)
        yield from self._release(end)

    def _begin(self, word: int, sample: int) -> Iterator[tuple[bytes, bytes]]:
        # A part of a word that is begun already is named for itself: "e-mail", "3.5".
        if word < self._begun:
            return
        yield from self._tell(word, sample)
        yield from self._release(sample)
        self._begun = word + 1
        self._open_from = sample

    def _tell(self, until: int, sample: int) -> Iterator[tuple[bytes, bytes]]:
        """Close the open span at a sample, with all words before `until`."""
        if until == self._told:
            return
        stop = self._last_sound(sample)
        # Marks at its end that stand alone, such as a dash, are not spoken.
        spoken = until
        while spoken > self._begun and not self._has_letters[spoken - 1]:
            spoken -= 1
        if spoken > self._told:
            yield WORDS, WORDS_PAYLOAD.pack(spoken - self._told, self._open_from, stop)
        if until > spoken:
            yield WORDS, WORDS_PAYLOAD.pack(until - spoken, stop, stop)
        self._told = self._begun = until

    def _last_sound(self, sample: int) -> int:
        """The sample behind the last that is heard in the open span."""
        first = self._open_from - self._held_from
        heard = memoryview(self._held).cast("h")[first : sample - self._held_from]
        for number in range(len(heard) - 1, -1, -1):
            if abs(heard[number]) > _SILENCE_LEVEL:
                return self._open_from + number + 1
        return self._open_from

    def _release(self, sample: int) -> Iterator[tuple[bytes, bytes]]:
        """Give out what is held before a sample, in pieces."""
        end = 2 * (sample - self._held_from)
        piece_bytes = 2 * (SAMPLE_RATE * _PIECE_MS // 1000)
        for offset in range(0, end, piece_bytes):
            yield AUDIO, bytes(self._held[offset : min(end, offset + piece_bytes)])
        del self._held[:end]
        self._held_from = sample


def load_library() -> tuple[ctypes.CDLL, bytes | None]:
    """Load eSpeak NG: the wheel's, which is the same wherever it is installed, else the system's.

    Returns:
        The library, and the directory of its data or None for its own.

    Raises:
        EngineError: Neither is there; the message has the line that installs one.
    """
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError):
        try:
            return ctypes.CDLL("libespeak-ng.so.1"), None
        except OSError:
            raise EngineError("library espeak-ng is not installed; run pip install 'speechwire[local]'") from None
    # The library has room for 160 characters of a path, which is less than some directories have.
    os.chdir(Path(espeakng_loader.get_data_path()).parent)
    return library, b"."


def _speak(library: ctypes.CDLL, data: bytes | None, text: str, voice: str, words_per_minute: int) -> None:
    """Speak a sentence as messages; the library has not been used in this process before.

    Raises:
        EngineError: The library cannot.
    """
    sample_rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, _PIECE_MS, data, _INITIALIZE_DONT_EXIT)
    if sample_rate != SAMPLE_RATE:
        raise EngineError(f"expected {SAMPLE_RATE} Hz from espeak-ng, got {sample_rate}")
    # From 1.52 on the noise in a voice begins with the time of day, unless it is told otherwise.
    if hasattr(library, "espeak_ng_SetRandSeed"):
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise EngineError(f"espeak-ng has no voice {voice}")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    words = SpokenWords(text)

    def take(pcm: Any, num_samples: int, events: Any) -> int:
        begins = []
        for event in events:
            if event.type == _EVENT_LIST_TERMINATED:
                break
            if event.type == _EVENT_WORD:
                begins.append((event.text_position - 1, event.sample))
        for message in words.feed(ctypes.string_at(pcm, 2 * num_samples) if pcm else b"", begins):
            write_message(*message)
        return 0

    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    # Each character is replaced by one, so that those behind it keep their places.
    encoded = text.translate(_CONTROLS).encode(errors="replace") + b"\0"
    status = library.espeak_Synth(
        encoded, ctypes.c_size_t(len(encoded)), 0, _POS_CHARACTER, 0, _CHARS_UTF8 | _ENDPAUSE, None, None
    )
    if status != 0:
        raise EngineError(f"expected status 0 from espeak-ng, got {status}")
    for message in words.flush():
        write_message(*message)
    write_message(DONE)


def _abort(unraisable: Any) -> None:
    """End the process where an exception could only be ignored: in what the library calls."""
    sys.__unraisablehook__(unraisable)
    os._exit(1)


def _serve() -> None:
    sys.unraisablehook = _abort
    loaded: tuple[ctypes.CDLL, bytes | None] | EngineError
    try:
        loaded = load_library()
    except EngineError as error:
        loaded = error
    for _, payload in read_messages():
        if isinstance(loaded, EngineError):
            write_message(FAILURE, str(loaded).encode())
            continue
        child = os.fork()
        if child == 0:
            try:
                _speak(*loaded, **json.loads(payload))
            except EngineError as error:
                write_message(FAILURE, str(error).encode())
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            write_message(FAILURE, f"espeak-ng ended with status {status}".encode())


if __name__ == "__main__":
    _serve()
