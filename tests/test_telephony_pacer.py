"""The deadlines of frames."""

from __future__ import annotations

import pytest

from speechwire.telephony.pacer import Pacer


def test_first_frames_go_ahead_and_the_rest_keeps_the_grid() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    assert pacer.deadline is None
    deadlines: list[float | None] = []
    for _ in range(6):
        pacer.leave(pacer.deadline or 5.0, 5.0)
        deadlines.append(pacer.deadline)
    assert deadlines == pytest.approx([5.0, 5.0, 5.0, 5.02, 5.04, 5.06])
    assert (pacer.num_early, pacer.num_late) == (3, 0)
    assert pacer.dry_at == pytest.approx(5.12)


def test_lateness_does_not_move_the_grid() -> None:
    pacer = Pacer(20, 0, is_steady=True)
    pacer.begin(1.0)
    leaves = [pacer.leave(now, now) for now in (1.0, 1.035, 1.04, 1.06)]
    assert [departure.interval for departure in leaves] == [0, 1, 2, 3]
    assert [departure.plays_at for departure in leaves] == pytest.approx([1.0, 1.02, 1.04, 1.06])
    assert pacer.deadline == pytest.approx(1.08)


def test_a_frame_is_late_from_when_its_audio_was_there() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    for _ in range(4):
        pacer.leave(0.0, 0.0)
    pacer.leave(0.05, 0.049)
    assert pacer.num_late == 0
    assert pacer.max_late_ms == pytest.approx(1.0)
    pacer.leave(0.065, 0.02)
    assert pacer.num_late == 1
    assert pacer.max_late_ms == pytest.approx(25.0)


def test_steady_grid_leaves_out_what_is_too_late() -> None:
    pacer = Pacer(20, 0, is_steady=True)
    pacer.begin(0.0)
    assert pacer.leave(0.059, 0.0).interval == 0
    late = pacer.leave(0.205, 0.02)
    assert late.interval == 10
    assert late.dry_s == pytest.approx(0.18)
    assert pacer.deadline == pytest.approx(0.22)


def test_grid_starts_anew_when_the_far_end_has_run_dry() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    for _ in range(4):
        pacer.leave(0.0, 0.0)
    assert pacer.leave(0.08, 0.08).dry_s == 0.0
    departure = pacer.leave(0.31, 0.31)
    assert departure.interval == 15
    assert departure.dry_s == pytest.approx(0.21)
    assert pacer.deadline == pytest.approx(0.31)


def test_lead_grows_by_what_a_frame_that_was_there_came_too_late() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    for _ in range(4):
        pacer.leave(0.0, 0.0)
    assert pacer.leave(0.11, 0.0).dry_s == pytest.approx(0.03)
    departures = [pacer.leave(0.11, 0.0) for _ in range(4)]
    assert [departure.plays_at for departure in departures] == pytest.approx([0.13, 0.15, 0.17, 0.19])
    # The grid of leaving stands where it stood, 90 ms ahead of that of playing, and the same again is not heard.
    assert pacer.deadline == pytest.approx(0.12)
    assert pacer.leave(0.205, 0.0).dry_s == 0.0
    # Half of this the service has spent.
    pacer.leave(0.33, 0.28)
    assert pacer.dry_at == pytest.approx(0.35)
    for _ in range(10):
        pacer.leave(0.33, 0.28)
    assert pacer.dry_at is not None
    assert pacer.deadline is not None
    assert pacer.dry_at - pacer.deadline == pytest.approx(0.14)


def test_lead_does_not_grow_beyond_what_the_buffer_keeps() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    pacer.leave(0.0, 0.0)
    for _ in range(20):
        pacer.leave(9.0, 0.0)
    assert pacer.dry_at == pytest.approx(9.4)
    assert pacer.deadline == pytest.approx(9.2)


def test_forgotten_grid_goes_on_counting() -> None:
    pacer = Pacer(20, 60, is_steady=False)
    pacer.leave(0.0, 0.0)
    pacer.forget()
    pacer.forget()
    assert (pacer.deadline, pacer.dry_at) == (None, None)
    departure = pacer.leave(9.0, 9.0)
    assert (departure.interval, departure.dry_s, departure.plays_at) == (1, 0.0, 9.0)
