from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechwire.server.engines.activity import StepCounter, inactivity_probability

HORIZONS_S = (0.5, 1.0, 2.0, 3.0)


@given(st.floats(0.0, 100.0), st.floats(0.0, 10.0), st.sampled_from(HORIZONS_S))
def test_probability_grows_with_the_silence_and_stays_one(silence_s: float, more_s: float, horizon_s: float) -> None:
    less, more = (inactivity_probability(s, horizon_s) for s in (silence_s, silence_s + more_s))
    assert 0.0 <= less <= more + 1e-12 <= 1.0 + 2e-12


@pytest.mark.parametrize("horizon_s", HORIZONS_S)
def test_probability_is_nothing_in_speech_and_certain_after_long_silence(horizon_s: float) -> None:
    assert inactivity_probability(0.0, horizon_s) == 0.0
    assert inactivity_probability(0.08, horizon_s) < 0.5
    assert inactivity_probability(3.0, horizon_s) > 0.999


def test_probability_is_what_its_formula_says() -> None:
    assert inactivity_probability(0.5, 2.0) == pytest.approx(0.57, abs=0.005)
    assert inactivity_probability(2.0, 2.0) == pytest.approx(0.995, abs=0.005)


def test_a_longer_silence_to_come_is_less_likely() -> None:
    probabilities = [inactivity_probability(0.3, horizon_s) for horizon_s in HORIZONS_S]
    assert all(longer < shorter for shorter, longer in pairwise(probabilities))


def test_steps_are_numbered_and_timed() -> None:
    steps = StepCounter()
    first, second = steps.step(0.0), steps.step(0.08)
    assert (first.step_idx, first.step_duration_s, first.total_duration_s) == (0, 0.08, 0.08)
    assert (second.step_idx, second.total_duration_s) == (1, 0.16)
    assert tuple(entry.horizon_s for entry in second.vad) == HORIZONS_S
    assert all(entry.probability == 0.0 for entry in first.vad)
    assert all(0.0 < entry.probability < 0.5 for entry in second.vad)
