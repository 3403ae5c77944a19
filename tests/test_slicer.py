from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.codec import FrameSlicer
from speechwire.errors import AudioError


@given(st.lists(st.binary(max_size=60), max_size=12), st.integers(1, 40))
def test_any_cut_gives_the_same_frames(chunks: list[bytes], frame_bytes: int) -> None:
    slicer = FrameSlicer(frame_bytes)
    frames = [frame for chunk in chunks for frame in slicer.feed(chunk)]
    whole = b"".join(chunks)
    assert frames == [whole[i : i + frame_bytes] for i in range(0, len(whole) - frame_bytes + 1, frame_bytes)]
    assert slicer.pending_bytes == len(whole) % frame_bytes
    assert slicer.flush() == whole[len(frames) * frame_bytes :]
    assert slicer.pending_bytes == 0


def test_slicer_keeps_remainder_between_chunks() -> None:
    slicer = FrameSlicer(4)
    assert slicer.feed(b"abc") == []
    assert slicer.feed(b"defgh") == [b"abcd", b"efgh"]
    assert slicer.flush() == b""


def test_pad_fills_only_a_started_frame() -> None:
    slicer = FrameSlicer(4)
    assert slicer.flush(b"\xff") == b""
    slicer.feed(b"a")
    assert slicer.flush(pad=b"\xff") == b"a\xff\xff\xff"
    assert slicer.flush(b"\xff") == b""


def test_large_chunks_are_cut_alike() -> None:
    audio = bytes(range(256)) * 1024
    slicer = FrameSlicer(1000)
    frames = slicer.feed(audio)
    assert b"".join(frames) + slicer.flush() == audio
    assert {len(frame) for frame in frames} == {1000}


def test_frame_of_no_bytes_is_refused() -> None:
    with pytest.raises(AudioError, match=r"^expected a frame of at least 1 byte, got 0$"):
        FrameSlicer(0)


@pytest.mark.parametrize("pad", [b"", b"ab"])
def test_pad_has_to_be_one_byte(pad: bytes) -> None:
    with pytest.raises(AudioError, match=rf"^expected a pad of 1 byte, got {len(pad)} bytes$"):
        FrameSlicer(4).flush(pad)
