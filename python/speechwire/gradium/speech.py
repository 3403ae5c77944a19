"""The pulled and the buffered calls of the three products; the client's methods of the same names lead here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from speechwire.errors import AudioError
from speechwire.gradium.results import S2SResult, STTResult, TextWithTimestamps, TTSResult
from speechwire.gradium.resume import ReconnectPolicy
from speechwire.gradium.stream import S2s, S2SStream, Stt, STTStream, Tts, TTSStream
from speechwire.gradium.wire import S2SSetup, STTSetup, TTSSetup
from speechwire.source import check_audio, is_array

if TYPE_CHECKING:
    from speechwire.gradium.client import GradiumClient
    from speechwire.gradium.stream import TextInput
    from speechwire.source import AudioInput

__all__ = [
    "S2SResult",
    "S2SSetup",
    "S2SStream",
    "STTResult",
    "STTSetup",
    "STTStream",
    "TTSResult",
    "TTSSetup",
    "TTSStream",
    "TextWithTimestamps",
    "s2s",
    "s2s_stream",
    "stt",
    "stt_stream",
    "tts",
    "tts_stream",
]


async def tts_stream(
    client: GradiumClient,
    setup: TTSSetup | Mapping[str, Any],
    text: TextInput,
    tts_endpoint: str | None = None,
    *,
    reconnect: ReconnectPolicy | None = None,
) -> TTSStream:
    """Open a synthesis and return its output as a stream, ready to be iterated.

    Args:
        client: Where the service is.
        setup: Fields of the setup; it is not changed. `output_format` defaults to "wav".
        text: A string, or an iterable or asynchronous iterable of strings, each of whole words.
        tts_endpoint: Route of the service; the client's own unless given.
        reconnect: When to go on over another connection; None for never. See `ReconnectPolicy`.

    Raises:
        SessionError: No connection, no `ready`, or a refusal.
        WireError: An option outside its range.
        TypeError: `text` is neither; nothing was sent.
    """
    if not isinstance(text, str | Iterable | AsyncIterable) or isinstance(text, bytes | Mapping):
        raise TypeError(f"expected text to be str or an iterable of str, got {type(text).__name__}")
    session = Tts(client, tts_endpoint, wait_for_ready_on_start=True, reconnect=reconnect, **setup)
    await session.__aenter__()
    return TTSStream(session, text)


async def tts(
    client: GradiumClient,
    setup: TTSSetup | Mapping[str, Any],
    text: TextInput,
    tts_endpoint: str | None = None,
    *,
    reconnect: ReconnectPolicy | None = None,
) -> TTSResult:
    """Speak a whole text and return the whole audio; arguments as in `tts_stream`.

    Raises:
        SessionError: The answer did not end with `end_of_stream`; a part of it is never returned as the whole.
    """
    stream = await tts_stream(client, setup, text, tts_endpoint, reconnect=reconnect)
    async with aclosing(stream.iter_bytes()) as chunks:
        raw_data = b"".join([chunk async for chunk in chunks])
    return TTSResult(
        raw_data=raw_data,
        sample_rate=stream.sample_rate,
        output_format=stream.output_format,
        request_id=stream.request_id,
        text_with_timestamps=stream.text_with_timestamps,
    )


async def stt_stream(
    client: GradiumClient,
    setup: STTSetup | Mapping[str, Any],
    audio: AudioInput,
    stt_endpoint: str | None = None,
    *,
    sample_rate: int | None = None,
    source_format: str | None = None,
    realtime: bool = False,
    reconnect: ReconnectPolicy | None = None,
) -> STTStream:
    """Open a recognition over a source of audio and return its output as a stream, ready to be iterated.

    Args:
        client: Where the service is.
        setup: Fields of the setup; it is not changed. `input_format` defaults to "wav", and to "pcm" for arrays.
        audio: Bytes, a 1-D int16 or float32 array, or an iterable or asynchronous iterable of them.
        stt_endpoint: Route of the service; the client's own unless given.
        sample_rate: Rate in Hz of the PCM or the arrays, where it is not that of `input_format`; they are resampled.
        source_format: Wire format name of the bytes, where it is not `input_format`.
        realtime: Send at the speed at which the audio plays, in 80 ms frames.
        reconnect: When to go on over another connection; None for never. See `ReconnectPolicy`.

    Raises:
        SessionError: No connection, no `ready`, or a refusal.
        WireError: An option outside its range.
    """
    check_audio(audio)
    if is_array(audio) or sample_rate is not None or realtime:
        setup = {"input_format": "pcm", **setup}
    session = Stt(
        client,
        stt_endpoint,
        sample_rate=sample_rate,
        source_format=source_format,
        wait_for_ready_on_start=True,
        reconnect=reconnect,
        **setup,
    )
    await session.__aenter__()
    return STTStream(session, audio, realtime=realtime)


async def stt(
    client: GradiumClient,
    setup: STTSetup | Mapping[str, Any],
    audio: AudioInput,
    sample_rate: int | None = None,
    stt_endpoint: str | None = None,
    *,
    source_format: str | None = None,
    realtime: bool = False,
    reconnect: ReconnectPolicy | None = None,
) -> STTResult:
    """Recognise a whole recording; arguments as in `stt_stream`. An array needs its `sample_rate`.

    Raises:
        SessionError: The answer did not end with `end_of_stream`; a part of it is never returned as the whole.
        AudioError: Audio that cannot be used as given; it is a ValueError.
    """
    _require_rate(audio, sample_rate)
    stream = await stt_stream(
        client,
        setup,
        audio,
        stt_endpoint,
        sample_rate=sample_rate,
        source_format=source_format,
        realtime=realtime,
        reconnect=reconnect,
    )
    async with aclosing(stream.iter_text()) as texts:
        segments = [text async for text in texts]
    return STTResult(" ".join(text.text for text in segments), segments, stream.request_id)


async def s2s_stream(
    client: GradiumClient,
    setup: S2SSetup | Mapping[str, Any],
    audio: AudioInput,
    s2s_endpoint: str | None = None,
    *,
    sample_rate: int | None = None,
    source_format: str | None = None,
    realtime: bool = False,
    reconnect: ReconnectPolicy | None = None,
) -> S2SStream:
    """Open an interpreting session over a source of audio and return its output as a stream, ready to be iterated.

    Arguments as in `stt_stream`; `input_format` and `output_format` default to "pcm".

    Raises:
        SessionError: No connection, no `ready`, or a refusal.
        WireError: An option outside its range.
    """
    check_audio(audio)
    session = S2s(
        client,
        s2s_endpoint,
        sample_rate=sample_rate,
        source_format=source_format,
        wait_for_ready_on_start=True,
        reconnect=reconnect,
        **setup,
    )
    await session.__aenter__()
    return S2SStream(session, audio, realtime=realtime)


async def s2s(
    client: GradiumClient,
    setup: S2SSetup | Mapping[str, Any],
    audio: AudioInput,
    sample_rate: int | None = None,
    s2s_endpoint: str | None = None,
    *,
    source_format: str | None = None,
    realtime: bool = False,
    reconnect: ReconnectPolicy | None = None,
) -> S2SResult:
    """Send a whole recording and return the whole answer; arguments as in `s2s_stream`.

    An array needs its `sample_rate`.

    Raises:
        SessionError: The answer did not end with `end_of_stream`; a part of it is never returned as the whole.
        AudioError: Audio that cannot be used as given; it is a ValueError.
    """
    _require_rate(audio, sample_rate)
    stream = await s2s_stream(
        client,
        setup,
        audio,
        s2s_endpoint,
        sample_rate=sample_rate,
        source_format=source_format,
        realtime=realtime,
        reconnect=reconnect,
    )
    async with aclosing(stream.iter_audio()) as chunks:
        raw_data = b"".join([chunk async for chunk in chunks])
    texts = stream.text_with_timestamps
    return S2SResult(
        raw_data=raw_data,
        sample_rate=stream.sample_rate,
        output_format=stream.output_format,
        request_id=stream.request_id,
        text=" ".join(text.text for text in texts),
        text_with_timestamps=texts,
    )


def _require_rate(audio: AudioInput, sample_rate: int | None) -> None:
    if is_array(audio) and sample_rate is None:
        raise AudioError("sample_rate is required for np.ndarray audio input, got None")
