"""From a detector's frames of speech and silence to the steps that recognition reports."""

from __future__ import annotations

import math
from typing import Final

from speechwire.events import Inactivity, VadStep

__all__ = ["STEP_MS", "StepCounter", "inactivity_probability"]

STEP_MS: Final = 80
HORIZONS_S: Final = (0.5, 1.0, 2.0, 3.0)
# How pauses are taken to be: one in five ends the speaker's turn, the others last 0.3 s on average, exponentially.
_TURN_ENDS: Final = 0.2
_MEAN_PAUSE_S: Final = 0.3


def inactivity_probability(silence_s: float, horizon_s: float) -> float:
    """Return the probability that who has been silent for `silence_s` stays so for `horizon_s` more.

    With E(t) = exp(-t / 0.3), the share of the pauses inside a turn that last longer than t, it is by Bayes' rule
    (0.2 + 0.8 E(silence + horizon)) / (0.2 + 0.8 E(silence)): 0.57 after half a second for a horizon of 2 s, 0.99 after
    two. It grows with the silence. In speech, where the silence is 0.0, it is 0.0.
    """
    if silence_s <= 0.0:
        return 0.0
    return _lasts(silence_s + horizon_s) / _lasts(silence_s)


def _lasts(pause_s: float) -> float:
    """The share of all pauses that last longer than this."""
    return _TURN_ENDS + (1.0 - _TURN_ENDS) * math.exp(-pause_s / _MEAN_PAUSE_S)


class StepCounter:
    """Numbers the steps of one stream."""

    def __init__(self) -> None:
        self._num_steps = 0

    def step(self, silence_s: float) -> VadStep:
        """Return the next step, at whose end there have been `silence_s` of silence; 0.0 in speech."""
        number = self._num_steps
        self._num_steps += 1
        return VadStep(
            vad=tuple(
                Inactivity(horizon_s, round(inactivity_probability(silence_s, horizon_s), 6))
                for horizon_s in HORIZONS_S
            ),
            step_idx=number,
            step_duration_s=STEP_MS / 1000,
            total_duration_s=(number + 1) * STEP_MS / 1000,
        )
