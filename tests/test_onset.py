"""Where speech begins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from speechwire.server.onset import Onset

CHUNK = 160


def chunk(amplitude: int) -> bytes:
    return (amplitude * np.where(np.arange(CHUNK) % 2, 1, -1)).astype("<i2").tobytes()


def places(amplitudes: list[int]) -> list[int]:
    """Return before which chunks speech begins."""
    onset, found, num_given = Onset(8000), [], 0
    for amplitude in amplitudes:
        for pcm in onset.feed(chunk(amplitude)):
            if pcm is None:
                found.append(num_given)
            else:
                num_given += 1
    return found


def test_speech_begins_with_the_first_loud_chunk() -> None:
    assert places([0] * 10 + [3000] * 10) == [10]


def test_a_click_and_a_humming_line_are_no_speech() -> None:
    assert places([0, 9000, 9000, 0] * 10 + [300] * 50) == []


def test_a_pause_between_words_does_not_begin_it_anew() -> None:
    assert places([3000] * 5 + [0] * 14 + [3000] * 5) == [0]
    assert places([3000] * 5 + [0] * 20 + [3000] * 5) == [0, 25]


@given(st.lists(st.sampled_from([0, 300, 3000]), max_size=60))
def test_all_audio_comes_in_its_order_and_at_most_two_chunks_late(amplitudes: list[int]) -> None:
    onset, out = Onset(8000), []
    for number, amplitude in enumerate(amplitudes):
        out += [pcm for pcm in onset.feed(chunk(amplitude)) if pcm is not None]
        assert len(out) >= number - 1
    assert out == [chunk(amplitude) for amplitude in amplitudes][: len(out)]
