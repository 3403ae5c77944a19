"""The bench of the jitter buffer: its traces, measures, verdicts and pictures; nothing here asserts who is better."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

import jitter
import jitter_measures
import jitter_peers
import jitter_traces
import picture

PACKETS = [bytes([n % 251, n % 7]) * jitter_peers.FRAME_SIZE for n in range(100)]
STEADY = jitter_traces.Trace("steady", jitter_traces.sending_times(100) + 10)


class Talk:
    """Answers with the frames it is given, one after the other."""

    def __init__(self, frames: list[jitter_peers.Frame]) -> None:
        self.frames = frames

    def push(self, number: int, pcm: bytes, now_ms: float) -> None:
        pass

    def pop(self, now_ms: float) -> jitter_peers.Frame:
        return self.frames.pop(0) if self.frames else jitter_peers.NOTHING


def frame_of(number: int) -> jitter_peers.Frame:
    return jitter_peers.Frame((number + 1) * jitter_peers.FRAME_SIZE, pcm=PACKETS[number])


def test_delay_is_the_time_from_arrival_to_playing() -> None:
    # Packet 0 arrives at 10 ms; frames are asked for at 3, 23, 43 ms and so on.
    found = jitter_measures.measure(STEADY, jitter_peers.FixedDelay(50), PACKETS)
    assert found.delay_ms == pytest.approx(63 - 10)
    assert found.concealed_percent == 0
    assert found.faults == []
    assert found.rating == pytest.approx(jitter_measures.rating(153, 0))


def test_what_comes_too_late_for_a_fixed_delay_is_concealed_and_said_to_be_missing() -> None:
    arrivals_ms = STEADY.arrivals_ms.copy()
    arrivals_ms[10] += 200
    found = jitter_measures.measure(jitter_traces.Trace("late", arrivals_ms), jitter_peers.FixedDelay(50), PACKETS)
    assert found.concealed_percent == pytest.approx(1)
    assert found.faults == ["did not play 1.0 % of what arrived"]


def test_what_the_network_lost_is_no_fault_of_the_buffer() -> None:
    arrivals_ms = STEADY.arrivals_ms.copy()
    arrivals_ms[10] = np.nan
    found = jitter_measures.measure(jitter_traces.Trace("lost", arrivals_ms), jitter_peers.FixedDelay(50), PACKETS)
    assert found.concealed_percent == pytest.approx(0)
    assert found.faults == []


def test_buffer_that_plays_a_packet_twice_or_another_one_is_found_wrong() -> None:
    twice = [frame_of(n) for n in [*range(51), 50, *range(51, 100)]]
    assert jitter_measures.measure(STEADY, Talk(twice), PACKETS).faults == ["played twice 1.0 % of what arrived"]
    swapped = [frame_of(n) for n in range(100)]
    swapped[50] = jitter_peers.Frame(swapped[50].end, pcm=PACKETS[60])
    assert jitter_measures.measure(STEADY, Talk(swapped), PACKETS).faults == [
        "1.0 % of the frames are not what they say"
    ]


@pytest.mark.parametrize(("delay_ms", "loss_percent", "expected"), [(0, 0, 93.2), (177.3, 0, 88.9), (100, 25.1, 43.3)])
def test_rating_is_that_of_the_e_model(delay_ms: float, loss_percent: float, expected: float) -> None:
    assert jitter_measures.rating(delay_ms, loss_percent) == pytest.approx(expected, abs=0.1)


def test_traces_are_the_same_again_and_lose_and_delay_what_they_should() -> None:
    for name in jitter_traces.MODELS:
        trace = jitter_traces.make_trace(name, 60, 1)
        assert np.array_equal(trace.arrivals_ms, jitter_traces.make_trace(name, 60, 1).arrivals_ms, equal_nan=True)
        assert not np.array_equal(trace.arrivals_ms, jitter_traces.make_trace(name, 60, 2).arrivals_ms, equal_nan=True)
        arrived = trace.arrivals_ms[~trace.lost]
        assert len(trace.arrivals_ms) == 3000
        assert len(arrived) > 0.9 * 3000
        assert (np.diff(arrived) >= 0).all()


def test_losses_come_in_bursts_of_the_length_and_share_asked_for() -> None:
    lost = jitter_traces.bursty_loss(np.random.default_rng(1), 200_000, 0.1, 2.5)
    num_bursts = int((np.diff(lost.astype(int)) == 1).sum())
    assert lost.mean() == pytest.approx(0.1, rel=0.1)
    assert lost.sum() / num_bursts == pytest.approx(2.5, rel=0.1)


def test_stall_holds_packets_until_its_end() -> None:
    waits_ms = jitter_traces.stalls(np.random.default_rng(1), 10_000, 5.0, (100, 100))
    assert waits_ms.max() <= 100
    held = np.flatnonzero(waits_ms)
    assert len(held)
    assert np.diff(waits_ms[held])[np.diff(held) == 1] == pytest.approx(-20)


def test_delay_chosen_afterwards_gives_up_a_packet_where_that_pays() -> None:
    transit_ms = np.tile(10.0, 100)
    transit_ms[30] = 300
    trace = jitter_traces.Trace("one late", jitter_traces.sending_times(100) + transit_ms)
    parts = [slice(0, 50), slice(50, 100)]
    assert jitter_traces.best_by_talkspurt(trace, parts, 100) == (0, 1)
    assert jitter_traces.best_by_talkspurt(trace, parts, 1e6) == pytest.approx((49 * 290 / 100, 0))


def test_queue_starts_when_it_is_full_and_plays_an_answer_whole() -> None:
    turn = jitter_traces.Turn(np.repeat([210.0, 270.0, 710.0], 4), None)
    empty = jitter_measures.answer([turn], jitter_peers.Queue(0), PACKETS)
    assert empty.start_ms == pytest.approx(10)
    assert empty.faults == []
    # 500 ms pass from the first frame to that of the chunk that stalled, and 160 of them had something to play.
    assert empty.gap_percent == pytest.approx(100 * 340 / 240)
    full = jitter_measures.answer([turn], jitter_peers.Queue(160), PACKETS)
    assert full.start_ms == pytest.approx(70)
    assert full.gap_percent == pytest.approx(100 * 280 / 240)


def test_player_that_goes_on_after_clear_is_found_wrong() -> None:
    class Deaf(jitter_peers.Queue):
        def clear(self) -> None:
            pass

    turns = [jitter_traces.Turn(np.repeat([200.0, 260.0], 4), 300.0), jitter_traces.Turn(np.full(4, 200.0), None)]
    assert jitter_measures.answer(turns, jitter_peers.Queue(0), PACKETS).faults == []
    assert "played what was broken off" in jitter_measures.answer(turns, Deaf(0), PACKETS).faults


def test_model_of_neteq_waits_for_what_comes_late_and_conceals_what_does_not() -> None:
    quiet = jitter_peers.Pitch(np.array([50]), np.array([1.0]), np.array([True]))
    arrivals_ms = jitter_traces.sending_times(200) + 10
    arrivals_ms[100] += 300
    arrivals_ms = np.maximum.accumulate(arrivals_ms)
    arrivals_ms[150] = np.nan
    payloads = PACKETS * 2
    found = jitter_measures.measure(
        jitter_traces.Trace("stall", arrivals_ms), jitter_peers.HistogramModel(quiet), payloads
    )
    assert found.faults == []
    assert found.concealed_percent > 0


def test_our_buffer_is_correct_by_the_measure_of_the_bench() -> None:
    rng = np.random.default_rng(1)
    pcm = (4000 * np.sin(np.arange(16000) / 10) + rng.normal(0, 100, 16000)).astype("<i2")
    payloads = jitter_measures.packets(pcm)
    for name in ("wifi", "congested"):
        trace = jitter_traces.make_trace(name, 2, 1)
        assert jitter_measures.measure(trace, jitter_peers.Speechwire(), payloads).faults == []
    turns = jitter_traces.make_turns(5, 1)
    assert jitter_measures.answer(turns, jitter_peers.Speechwire(mode="playout"), payloads).faults == []


def test_plots_show_every_curve_and_are_valid_xml() -> None:
    curves = [
        picture.Curve("speechwire", [(10, 1), (100, 0.1)], (20, 0.5)),
        picture.Curve("letter", [], (30, 2), mark="L"),
        picture.Curve("dashed", [(10, 2), (100, 0.2)], stroke="dashed"),
    ]
    drawing = ElementTree.fromstring(picture.render_plots([("one", curves), ("two", curves)], "x", "y"))
    space = "{http://www.w3.org/2000/svg}"
    # Once in the legend and once in each of the plots.
    assert len(drawing.findall(f"{space}polyline")) == 2 * 3
    assert len(drawing.findall(f"{space}circle")) == 3
    assert [text.text for text in drawing.findall(f"{space}text")].count("L") == 3


def test_table_is_filled_in_between_its_markers_and_nowhere_else() -> None:
    page_text = "head\n<!-- talks -->\nold\n<!-- end -->\ntail\n"
    assert jitter.fill(page_text, {"talks": "new"}) == "head\n<!-- talks -->\n\nnew\n\n<!-- end -->\ntail\n"
    with pytest.raises(ValueError, match="expected a section 'answers'"):
        jitter.fill(page_text, {"answers": "new"})


def test_delay_between_two_points_of_a_curve_is_interpolated_and_not_made_up_beyond() -> None:
    points = [(10.0, 1.0), (1000.0, 0.1)]
    assert jitter.delay_at(points, 10**-0.5) == pytest.approx(100)
    assert np.isnan(jitter.delay_at(points, 2.0))
