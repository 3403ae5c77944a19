"""From whatever an application holds as audio to the bytes that a wire format wants.

Bytes, numpy arrays, iterables and asynchronous iterables of them come in; chunks of one wire format go out.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from speechwire.codec import FrameSlicer, Transcoder, pcm_from_float
from speechwire.errors import AudioError
from speechwire.formats import FRAME_MS, bytes_per_sample, bytes_per_second
from speechwire.formats import sample_rate as sample_rate_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    AudioChunk: TypeAlias = bytes | bytearray | memoryview | NDArray[np.int16] | NDArray[np.float32]
    AudioInput: TypeAlias = AudioChunk | Iterable[AudioChunk] | AsyncIterable[AudioChunk]

__all__ = ["AudioConverter", "Pacer", "check_audio", "draw", "is_array", "iterate_audio", "pace"]

T = TypeVar("T")

CONTAINER_CHUNK_BYTES: Final = 8192  # of a container, whose bytes do not tell how long they play
_BYTES = (bytes, bytearray, memoryview)


def is_array(audio: object) -> bool:
    """Tell whether `audio` is a numpy array, without importing numpy for those who do not use it."""
    return type(audio).__module__ == "numpy" and hasattr(audio, "dtype")


class AudioConverter:
    """Turns chunks into the bytes of one wire format; keeps the state of that conversion between chunks.

    Args:
        target_format: Format name to produce, with its rate written out.
        source_format: Format name of the bytes that come in; None if they are in `target_format` already.
        sample_rate: Rate in Hz of the PCM or the arrays that come in, where `source_format` does not say it; None if
            it is that of `target_format`.
    """

    def __init__(self, target_format: str, *, source_format: str | None = None, sample_rate: int | None = None) -> None:
        if source_format is not None and sample_rate is not None:
            raise AudioError(f"expected source_format or sample_rate, got both: {source_format!r} and {sample_rate}")
        if sample_rate is not None:
            source_format = f"pcm_{sample_rate}"
        self.source_format = source_format or target_format
        self.target_format = target_format
        # Also between equal raw formats, where it keeps samples whole; what a container holds is its own affair.
        self._transcoder: Transcoder | None = None
        if self.source_format != target_format or sample_rate_of(target_format) is not None:
            self._transcoder = Transcoder(self.source_format, target_format)

    def feed(self, chunk: AudioChunk) -> bytes:
        """Convert one chunk; returns b"" where the chunk completed nothing.

        Raises:
            AudioError: A chunk that is neither bytes nor a 1-D int16 or float32 array, or an array where the source
                is not PCM.
        """
        data = bytes(chunk) if isinstance(chunk, _BYTES) else self._array_bytes(chunk)
        return data if self._transcoder is None else b"".join(self._transcoder.feed(data))

    def flush(self) -> bytes:
        """Return the tail that the conversion still holds; the converter is at its start again.

        Raises:
            AudioError: The input ended within a sample.
        """
        return b"" if self._transcoder is None else b"".join(self._transcoder.flush())

    def _array_bytes(self, chunk: Any) -> bytes:
        if not is_array(chunk):
            raise AudioError(f"expected bytes or a numpy array of audio, got {type(chunk).__name__}")
        if not self.source_format.startswith("pcm"):
            raise AudioError(
                f"audio np.ndarray can only be sent when the input is pcm, got {self.source_format!r}; "
                "give the array's sample_rate to have it converted"
            )
        if chunk.ndim != 1:
            raise AudioError(f"audio np.ndarray must be 1-dimensional, got {chunk.ndim} dimensions")
        if chunk.dtype.name == "int16":
            little_endian: bytes = chunk.astype("<i2", copy=False).tobytes()
            return little_endian
        if chunk.dtype.name == "float32":
            return pcm_from_float(chunk.astype("<f4", copy=False).tobytes())
        raise AudioError(f"audio np.ndarray must be int16 or float32, got {chunk.dtype.name}")


class Pacer:
    """Says how long to wait so that audio leaves at the speed at which it plays; the caller owns the clock.

    The schedule is absolute: waiting too long once is caught up with, and never adds up.
    """

    def __init__(self) -> None:
        self._start_s: float | None = None
        self._sent_s = 0.0

    def wait_s(self, audio_s: float, now_s: float) -> float:
        """Return the seconds to wait before sending the next `audio_s` seconds of audio; never negative."""
        if self._start_s is None:
            self._start_s = now_s
        wait = self._start_s + self._sent_s - now_s
        self._sent_s += audio_s
        return max(0.0, wait)


async def iterate_audio(audio: AudioInput, audio_format: str) -> AsyncGenerator[AudioChunk, None]:
    """Yield the chunks of any accepted input; a whole buffer is cut into frames of `audio_format`.

    Raises:
        AudioError: `audio` is none of bytes, a numpy array, or an iterable of these.
    """
    num_samples = (sample_rate_of(audio_format) or 0) * FRAME_MS // 1000
    if isinstance(audio, _BYTES):
        step = num_samples * bytes_per_sample(audio_format) or CONTAINER_CHUNK_BYTES
        for chunk in _slices(memoryview(audio).cast("B"), step):
            yield chunk
    elif is_array(audio):
        for chunk in _slices(audio, num_samples or CONTAINER_CHUNK_BYTES):
            yield chunk
    else:
        check_audio(audio)
        async with aclosing(draw(audio)) as chunks:
            async for chunk in chunks:
                yield chunk


def check_audio(audio: object) -> None:
    """Raise AudioError unless `audio` is bytes, a numpy array, or something that can be iterated for them."""
    is_wrong = not isinstance(audio, (*_BYTES, AsyncIterable, Iterable)) or isinstance(audio, str | Mapping)
    if is_wrong and not is_array(audio):
        raise AudioError(f"expected bytes, a numpy array or an iterable of them, got {type(audio).__name__}")


async def draw(source: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Yield what a source yields, whichever kind it is; a generator is closed when this ends, in whatever way."""
    if isinstance(source, AsyncIterable):
        iterator = aiter(source)
        try:
            async for item in iterator:
                yield item
        finally:
            # The session may end before the source does; then the source still runs its own clean-up.
            if inspect.isasyncgen(iterator):
                await iterator.aclose()
    else:
        for item in source:
            yield item
            # A source that never awaits must not keep the loop from receiving.
            await asyncio.sleep(0)


async def pace(chunks: AsyncGenerator[bytes, None], audio_format: str) -> AsyncGenerator[bytes, None]:
    """Cut chunks into frames and yield them at the speed at which they play.

    Raises:
        AudioError: `audio_format` is a container, whose bytes do not tell how long they play.
    """
    per_second = bytes_per_second(audio_format)
    if per_second is None:
        raise AudioError(
            f"real-time pacing needs a raw input_format, got {audio_format!r}; "
            "name the container in source_format and send pcm"
        )
    slicer = FrameSlicer(per_second * FRAME_MS // 1000)
    pacer = Pacer()
    now = asyncio.get_running_loop().time
    async with aclosing(chunks):
        async for chunk in chunks:
            for frame in slicer.feed(chunk):
                await asyncio.sleep(pacer.wait_s(len(frame) / per_second, now()))
                yield frame
    tail = slicer.flush()
    if tail:
        await asyncio.sleep(pacer.wait_s(len(tail) / per_second, now()))
        yield tail


def _slices(audio: Any, step: int) -> Iterator[Any]:
    for start in range(0, len(audio), step):
        yield audio[start : start + step]
