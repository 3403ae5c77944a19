from __future__ import annotations

import array
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speechwire import _core, codec
from speechwire.errors import AudioError, ContainerError, WireError

DOCS = Path(__file__).parent.parent / "docs" / "codec.md"
PCM = np.arange(-200, 200, dtype="<i2").tobytes()


def test_import_loads_nothing_but_the_extension() -> None:
    script = (
        "import sys; import speechwire.codec; print(sorted({'numpy', 'asyncio', 'json', 'typing'} & {*sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_module_exports_the_whole_extension_but_audioop() -> None:
    assert sorted(codec.__all__) == sorted(name for name in _core.__all__ if not name.startswith("audioop_"))
    assert all(getattr(codec, name) is getattr(_core, name) for name in codec.__all__)


def test_docs_name_all_of_it_and_their_example_runs() -> None:
    text = DOCS.read_text()
    assert not [name for name in codec.__all__ if f"`{name}`" not in text]
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", example], check=True)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (DOCS.parent / link).exists(), link


def test_classes_say_where_they_live() -> None:
    for cls in vars(codec).values():
        assert not isinstance(cls, type) or cls.__module__ == "speechwire._core"


def test_build_info_tells_version_and_profile() -> None:
    info = codec.build_info()
    assert info["version"].count(".") == 2
    assert info["profile"] in ("release", "debug")
    assert info["target"].endswith(sys.platform)
    assert isinstance(info["cpu_features"], list)


@pytest.mark.parametrize(
    "wrap",
    [
        bytearray,
        memoryview,
        lambda data: memoryview(bytearray(data)),
        lambda data: array.array("h", data),
        lambda data: np.frombuffer(data, np.int16),
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(data, np.int16).reshape(-1, 2),
    ],
)
def test_every_buffer_of_pcm_is_taken(wrap: Callable[[bytes], bytes]) -> None:
    assert codec.ulaw_encode(wrap(PCM)) == codec.ulaw_encode(PCM)
    assert codec.pcm_to_float(wrap(PCM)) == codec.pcm_to_float(PCM)
    assert codec.encode_audio_message(wrap(PCM)) == codec.encode_audio_message(PCM)
    assert codec.FrameSlicer(10).feed(wrap(PCM)) == codec.FrameSlicer(10).feed(PCM)
    transcoder = codec.Transcoder("pcm", "alaw_8000")
    assert transcoder.feed(wrap(PCM)) == codec.Transcoder("pcm", "alaw_8000").feed(PCM)


def test_buffers_of_other_items_are_refused() -> None:
    with pytest.raises(AudioError, match=r'^expected a buffer of bytes or of int16 items, got format "d"$'):
        codec.ulaw_encode(np.zeros(4))
    with pytest.raises(AudioError, match=r'^expected a buffer of bytes, got format "h"$'):
        codec.ulaw_decode(np.zeros(4, np.int16))
    with pytest.raises(AudioError, match=r'^expected a buffer of bytes or of float32 items, got format "h"$'):
        codec.pcm_from_float(np.zeros(4, np.int16))


@pytest.mark.parametrize("encode", [codec.ulaw_encode, codec.pcm_to_float, codec.FrameSlicer(10).feed])
def test_samples_in_the_byte_order_of_networks_are_refused(encode: Callable[..., object]) -> None:
    with pytest.raises(AudioError, match=r'^expected a buffer of bytes or of int16 items, got format ">h"$'):
        encode(np.frombuffer(PCM, ">i2"))
    with pytest.raises(AudioError, match=r'^expected a buffer of bytes or of float32 items, got format ">f"$'):
        codec.pcm_from_float(np.zeros(4, ">f4"))


def test_strided_buffers_are_refused() -> None:
    with pytest.raises(AudioError, match=r"^expected a C-contiguous buffer, got one with strides$"):
        codec.ulaw_encode(np.zeros(8, np.int16)[::2])


@pytest.mark.parametrize("value", ["text", None, 3])
def test_objects_without_a_buffer_are_a_type_error(value: bytes) -> None:
    with pytest.raises(TypeError):
        codec.ulaw_encode(value)


def test_floats_are_rounded_half_to_even_and_saturate() -> None:
    units = np.array([0.5, 1.5, -0.5, -2.5, 32767.4, 40000, -40000, np.inf, -np.inf, np.nan])
    floats = (units / 32768).astype(np.float32)
    expected = [0, 2, 0, -2, 32767, 32767, -32768, 32767, -32768, 0]
    assert np.frombuffer(codec.pcm_from_float(floats), np.int16).tolist() == expected
    assert codec.pcm_from_float(floats.tobytes()) == codec.pcm_from_float(floats)


def test_every_sample_survives_the_way_through_float() -> None:
    pcm = np.arange(-32768, 32768).astype("<i2").tobytes()
    floats = codec.pcm_to_float(pcm)
    np.testing.assert_array_equal(np.frombuffer(floats, "<f4"), np.arange(-32768, 32768) / 32768)
    assert codec.pcm_from_float(floats) == pcm


def test_partial_samples_are_refused() -> None:
    with pytest.raises(AudioError, match=r"^expected whole samples of 4 bytes, got 6 bytes$"):
        codec.pcm_from_float(bytes(6))
    with pytest.raises(AudioError, match=r"^expected whole samples of 2 bytes, got 3 bytes$"):
        codec.pcm_to_float(bytes(3))


def test_each_kind_of_error_has_its_exception() -> None:
    with pytest.raises(AudioError) as audio:
        codec.Transcoder("flac", "pcm")
    with pytest.raises(ContainerError) as container:
        codec.WavReader().feed(b"OggS" + bytes(8))
    with pytest.raises(WireError) as wire:
        codec.decode_message("x")
    assert [type(caught.value) for caught in (audio, container, wire)] == [AudioError, ContainerError, WireError]


def test_object_used_by_two_threads_raises_or_answers() -> None:
    resampler = codec.Resampler(8000, 48000, quality="high")
    chunk, lengths, failures = bytes(2_000_000), [], []

    def feed() -> None:
        for _ in range(5):
            try:
                lengths.append(len(resampler.feed(chunk)))
            except RuntimeError as error:
                failures.append(str(error))

    threads = [threading.Thread(target=feed) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(lengths) == {6 * len(chunk)}
    assert set(failures) <= {"Already borrowed"}
