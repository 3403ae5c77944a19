"""Large buffers are worked on without the interpreter lock, small ones with it; an object has one user at a time."""

from __future__ import annotations

import base64
import gc
import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from speechwire import audioop, codec

LARGE = 8_000_000
WITH_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

pytestmark = pytest.mark.skipif(not WITH_GIL, reason="this interpreter has no lock to let go of")


def wav(pcm: bytes) -> bytes:
    return codec.WavWriter(8000).feed(pcm)


# What is called, and its input made of PCM.
CALLS: dict[str, tuple[Callable[[], Callable[[Any], Any]], Callable[[bytes], Any]]] = {
    "ulaw_encode": (lambda: codec.ulaw_encode, bytes),
    "alaw_decode": (lambda: codec.alaw_decode, bytes),
    "ulaw_to_alaw": (lambda: codec.ulaw_to_alaw, bytes),
    "pcm_to_float": (lambda: codec.pcm_to_float, bytes),
    "resample": (lambda: lambda pcm: codec.resample(pcm, 8000, 24000), bytes),
    "resample of an array": (
        lambda: lambda pcm: codec.resample(pcm, 8000, 24000),
        lambda pcm: np.frombuffer(pcm, np.int16),
    ),
    "encode_audio_message": (lambda: codec.encode_audio_message, bytes),
    "decode_message": (lambda: codec.decode_message, lambda pcm: json.dumps({"audio": base64.b64encode(pcm).decode()})),
    "Resampler": (lambda: codec.Resampler(8000, 24000).feed, bytes),
    "Transcoder": (lambda: codec.Transcoder("pcm_8000", "ulaw_8000").feed, bytes),
    "WavReader": (lambda: codec.WavReader().feed, wav),
    "FrameSlicer": (lambda: codec.FrameSlicer(LARGE).feed, bytes),
    "audioop.lin2ulaw": (lambda: lambda pcm: audioop.lin2ulaw(pcm, 2), bytes),
}


@pytest.fixture(autouse=True)
def switches_only_when_the_lock_is_let_go() -> Iterator[None]:
    # Whatever is collected in the middle of a call may let it go as well, such as a socket of an earlier test.
    gc.disable()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)
    gc.enable()


def others_run_during(call: Callable[[Any], Any], argument: Any) -> bool:
    """Tell whether another thread, which is ready to run, gets to run while this one is in a call."""
    events: list[str] = []
    start = threading.Lock()
    start.acquire()

    def watch() -> None:
        with start:
            events.append("another ran")

    watcher = threading.Thread(target=watch)
    watcher.start()
    # Wakes the watcher up. It can go on as soon as this thread lets the interpreter's lock go, and not before.
    start.release()
    call(argument)
    events.append("returned")
    watcher.join(60)
    assert sorted(events) == ["another ran", "returned"]
    return events[0] == "another ran"


def others_run_during_a_long(
    new_call: Callable[[], Callable[[Any], Any]], pcm: bytes, convert: Callable[..., Any]
) -> bool:
    """Tell whether another thread runs during calls, up to eight times as long because the system may be busy."""
    return any(others_run_during(new_call(), convert(pcm * 2 ** (number // 2))) for number in range(8))


@pytest.mark.parametrize("name", CALLS)
def test_large_buffers_let_other_threads_run(name: str) -> None:
    new_call, convert = CALLS[name]
    pcm = np.random.default_rng(1).integers(-20000, 20000, LARGE // 2, np.int16).tobytes()
    assert others_run_during_a_long(new_call, pcm, convert)


@pytest.mark.parametrize("name", CALLS)
def test_small_buffers_keep_the_lock(name: str) -> None:
    new_call, convert = CALLS[name]
    new_call()(convert(bytes(640)))  # the first of all looks up what arrays are, without the lock
    assert not others_run_during(new_call(), convert(bytes(640)))


def opus(pcm: bytes) -> bytes:
    writer = codec.OggOpusWriter(48000)
    return writer.feed(pcm) + writer.flush()


# One frame of Opus is already a long time.
OPUS_CALLS: dict[str, tuple[Callable[[], Callable[[Any], Any]], Callable[[bytes], Any]]] = {
    "OggOpusReader": (lambda: codec.OggOpusReader().feed, opus),
    "OggOpusWriter": (lambda: codec.OggOpusWriter(48000).feed, bytes),
    "Transcoder from Opus": (lambda: codec.Transcoder("opus", "ulaw_8000").feed, opus),
    "Transcoder to Opus": (lambda: codec.Transcoder("pcm_48000", "opus").feed, bytes),
}


@pytest.mark.parametrize("name", OPUS_CALLS)
def test_opus_always_lets_other_threads_run(name: str) -> None:
    new_call, convert = OPUS_CALLS[name]
    pcm = np.random.default_rng(1).integers(-20000, 20000, 96000, np.int16).tobytes()
    assert others_run_during_a_long(new_call, pcm, convert)


@pytest.mark.parametrize(
    "new_object",
    [
        lambda: codec.Resampler(8000, 48000, quality="high"),
        lambda: codec.Transcoder("pcm_8000", "pcm_48000"),
        lambda: codec.WavReader(),
        lambda: codec.OggOpusWriter(48000),
    ],
)
def test_object_in_use_by_another_thread_raises(new_object: Callable[[], Any]) -> None:
    # Up to eight times as long because the system may be busy.
    assert any(is_refused_during_use(new_object(), LARGE * 2 ** (number // 2)) for number in range(8))


def is_refused_during_use(stream: Any, num_bytes: int) -> bool:
    """Feed a stream while another thread does; tell whether that was refused, and check that it works afterwards."""
    chunk = wav(bytes(num_bytes)) if isinstance(stream, codec.WavReader) else bytes(num_bytes)
    called = threading.Event()
    results: list[int] = []

    def work() -> None:
        called.set()
        results.append(len(stream.feed(chunk)))

    thread = threading.Thread(target=work)
    thread.start()
    called.wait(60)
    try:
        stream.feed(b"")
    except RuntimeError as error:
        refused = str(error) == "Already borrowed"
    else:
        refused = False
    thread.join(60)
    assert results
    assert not stream.feed(b"")
    return refused
