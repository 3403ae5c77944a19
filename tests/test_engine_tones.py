from __future__ import annotations

from array import array

import numpy as np
import pytest

from speechwire.server.engines.tones import tone


@pytest.mark.parametrize("sample_rate", [8000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("hz", [200, 440, 997, 3500])
def test_tone_is_a_sine_of_its_pitch(sample_rate: int, hz: int) -> None:
    samples = np.array(array("h", tone(sample_rate, hz, 2 * sample_rate + 7)))
    expected = 9000 * np.sin(2 * np.pi * hz / sample_rate * np.arange(len(samples)))
    assert len(samples) == 2 * sample_rate + 7
    assert np.abs(samples - expected).max() < 0.51


def test_tone_of_no_pitch_is_silence() -> None:
    assert tone(8000, 0, 100) == bytes(200)


def test_no_samples_are_no_bytes() -> None:
    assert tone(8000, 440, 0) == b""
