"""The benches' own arithmetic, verdicts and pages; nothing here asserts a time."""

from __future__ import annotations

import datetime
import itertools
import runpy
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import calls
import companding
import conversion
import machine
import messages
import page
import phone_leg
import picture
import resampling
from speechwire import codec
from timing import Cell, Row, Settings, Table, cells, time_interleaved, verdict

CODEC = Path(machine.__file__).with_name("codec.py")
TINY = Settings(quick=True, rounds=1, span_s=0.0)
KERNELS = (resampling, companding, messages, phone_leg)


class FakeClock:
    """Stands still but for what the calls add."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def spend(self, *seconds: float) -> None:
        self.now_s += seconds[0]


def test_each_round_times_every_contestant_once_and_long_enough() -> None:
    clock = FakeClock()
    calls = {"slow": lambda: clock.spend(0.5), "fast": lambda: clock.spend(0.125)}
    seconds = time_interleaved(calls, Settings(rounds=3, span_s=1.0), clock)
    assert seconds == {"slow": [0.5] * 3, "fast": [0.125] * 3}


def test_ratio_is_the_median_of_the_rounds_and_time_the_best() -> None:
    # The machine is three times as slow in the second round, and only then.
    seconds = {"base": [4.0, 12.0, 4.0], "other": [2.0, 6.0, 1.0]}
    assert cells(seconds, "base", num_calls=2) == {"base": Cell(2.0, 1.0), "other": Cell(0.5, 2.0)}


def test_without_the_baseline_there_are_times_and_no_ratios() -> None:
    assert cells({"other": [2.0]}, "base") == {"other": Cell(2.0, None)}
    assert page.ratio(Cell(2.0, None)) == "-"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(9.996e-6, "10.0"), (1.234e-6, "1.23"), (99.96e-6, "100"), (0.001, "1000")]
)
def test_times_have_three_digits(seconds: float, shown: str) -> None:
    assert page.micros(Cell(seconds, None)) == shown


def test_debug_build_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    debug_build = {**codec.build_info(), "profile": "debug"}
    monkeypatch.setattr(machine, "build_info", lambda: debug_build)
    monkeypatch.setattr(sys, "argv", [str(CODEC)])
    with pytest.raises(SystemExit, match="this is a debug build"):
        runpy.run_path(str(CODEC), run_name="__main__")
    with pytest.raises(SystemExit, match="this is a debug build"):
        machine.describe_machine()


def test_without_any_peer_ours_is_measured_and_the_others_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel in KERNELS:
        monkeypatch.setattr(kernel, "load_peer", lambda module: None)
    tables = list(itertools.chain.from_iterable(kernel.measure(TINY) for kernel in (*KERNELS, conversion)))
    absent = {name for table in tables for name in table.absent}
    assert absent >= {"soxr HQ", "libsamplerate best", "PyAV", "audioop", "msgspec, typed", phone_leg.BASELINE}
    for table in tables:
        assert table.rows[0].name.startswith("speechwire")
        assert all(len(row.cells) == len(table.columns) for row in table.rows)
        assert all(len(row.facts) == len(table.fact_columns) for row in table.rows)
        assert not {row.name for row in table.rows} & set(table.absent)
        assert [row.correct for row in table.rows if row.name.startswith("speechwire")] != []
        assert {row.correct for row in table.rows if row.name.startswith("speechwire")} == {"yes"}
    text = page.render_page(tables, "make bench-codec", "benchmarks.svg", page.facts_of_the_run())
    assert "Absent, because not installed: soxr QQ" in text
    assert all(row.name in text for table in tables for row in table.rows)
    for table in tables:
        assert table.rows[0].name in page.terminal_table(table)
    ElementTree.fromstring(picture.render_picture(tables[0], phone_leg.measure(TINY)[0]))


def test_page_names_day_build_and_versions() -> None:
    facts = page.facts_of_the_run(datetime.date(2026, 1, 2))
    assert facts[0].startswith("02 January 2026, ")
    assert "profile release" in facts[1]
    assert "cpu_features" in facts[1]
    assert f"numpy {np.__version__}" in facts[2]


def test_absent_distribution_has_no_version() -> None:
    assert machine.peer_version("no-such-distribution") == "absent"
    assert machine.load_peer("no_such_module") is None


def test_picture_shows_what_is_wrong_as_hollow() -> None:
    rows = [
        Row("speechwire balanced", [Cell(4e-6, 2.0)], "yes", lag_ms=(5.9, 5.9)),
        Row("one & another", [Cell(2e-6, 4.0)], verdict(["spurs at 0 dB"]), lag_ms=(50.0, 90.0)),
    ]
    table = Table("t", "", "b", ["8 to 24"], rows)
    drawn = picture.render_picture(table, table)
    classes = [node.get("class") for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}circle")]
    assert classes == ["dot ours", "dot ours", "dot wrong", "dot wrong"]


@pytest.mark.parametrize("value", [0.11, 1.3, 3.1, 7.0, 9.9, 70.0])
def test_a_scale_has_a_line_of_its_grid_wherever_its_values_lie(value: float) -> None:
    place, ticks = picture.log_scale([value, 1.01 * value], 0.0, 100.0)
    assert ticks
    assert all(0.0 <= place(number) <= 100.0 for number in (*ticks, value, 1.01 * value))


def test_reference_of_g711_is_what_the_core_does() -> None:
    for law in companding.LAWS:
        both = companding.contestants(law)["speechwire"]
        assert both is not None
        assert companding.judge_encoder(law, both.encode) == "yes"
        assert companding.judge_decoder(law, both.decode) == "yes"
        other = companding.numpy_law("alaw" if law == "ulaw" else "ulaw")
        assert companding.judge_encoder(law, other.encode).startswith("no: ")
        assert companding.judge_decoder(law, other.decode).startswith("no: ")


def test_standard_audioop_is_said_to_differ_in_mulaw() -> None:
    audioop = machine.load_peer("audioop")
    if audioop is None:
        pytest.skip("no audioop on this Python")
    encode = companding.audioop_law(audioop, "ulaw").encode
    assert companding.judge_encoder("ulaw", encode) == "no: 508 of 65536 samples differ"


def test_resampler_that_repeats_samples_is_found_wrong() -> None:
    def repeat(input_rate: int, output_rate: int) -> resampling.Feed:
        return lambda chunk: np.repeat(np.frombuffer(chunk, "<i2"), output_rate // input_rate).tobytes()

    found = resampling.examine(repeat, 8000, 24000, 20)
    assert found.missing_ms == 0
    assert found.spurs_db > resampling.SPUR_LIMIT_DB
    assert resampling.summarize("x", [], [found], [8000]).correct.startswith("no: ")


@pytest.mark.parametrize("quality", ["balanced", "low_latency", "high"])
def test_measured_lag_is_the_delay_of_the_resampler(quality: Any) -> None:
    found = resampling.examine(resampling.make_speechwire(quality), 48000, 8000, 20)
    expected = codec.Resampler(48000, 8000, quality=quality).delay_ms
    assert found.lag_ms == pytest.approx((expected, expected), abs=0.02)


def test_audio_held_back_counts_as_lag() -> None:
    def hold(input_rate: int, output_rate: int) -> resampling.Feed:
        waiting: list[bytes] = []

        def feed(chunk: bytes) -> bytes:
            waiting.append(chunk)
            return waiting.pop(0) if len(waiting) > 1 else b""

        return feed

    found = resampling.examine(hold, 16000, 16000, 20)
    assert found.missing_ms == 20
    assert found.lag_ms == pytest.approx((20, 20), abs=0.02)


def test_parser_that_takes_bad_base64_is_found_wrong() -> None:
    pairs = messages.contestants()
    lax, strict = pairs[messages.BASELINE], pairs["speechwire"]
    assert lax is not None
    assert strict is not None
    assert messages.judge_parse(lax[1], b"audio").startswith("no: takes foreign characters")
    assert messages.judge_parse(strict[1], b"audio") == "yes"


def test_conversion_that_wraps_is_found_wrong() -> None:
    def wrap(data: bytes) -> bytes:
        scaled = np.nan_to_num(np.frombuffer(data, "<f4") * 32768, posinf=0, neginf=0)
        return bytes(scaled.astype(np.int64).astype("<i2").tobytes())

    assert conversion.judge_from_float(wrap).startswith("no: 1.5 becomes 1")
    assert conversion.judge_from_float(codec.pcm_from_float) == "yes"


def test_of_a_call_every_frame_is_looked_for() -> None:
    sent = [bytes([number]) * 80 + bytes([number + 1]) * 80 for number in range(0, 200, 2)]
    whole = b"".join(sent)
    assert calls.count_frames(sent, whole) == (0, 0)
    assert calls.count_frames(sent, bytes(500) + whole) == (0, 0)
    assert calls.count_frames(sent, whole[:1600] + whole[1760:]) == (1, 0)
    assert calls.count_frames(sent, whole[:-320]) == (2, 0)
    assert calls.count_frames(sent, whole[1600:] + whole[:1600]) == (10, 0)
    # One that was drawn out is there, though not as it was.
    assert calls.count_frames(sent, whole[:1600] + b"\xee" * 220 + whole[1760:]) == (0, 1)
    assert calls.count_frames(sent, b"") == (100, 0)


def test_lateness_counts_from_the_earliest_frame_and_dryness_from_the_last() -> None:
    on_time_s = [0.02 * number for number in range(200)]
    assert max(calls.lateness_ms(on_time_s)) == pytest.approx(0.0, abs=1e-6)
    held_up_s = [*on_time_s[:100], *(time_s + 0.05 for time_s in on_time_s[100:])]
    # All that follow, but for the last frame of the call, which has nothing behind it to be in time for.
    assert sum(value > 49 for value in calls.lateness_ms(held_up_s)) == 99
    assert [number for number, value in enumerate(calls.dry_ms(held_up_s)) if value > 1] == [100]


def test_messages_are_found_however_the_stream_was_cut() -> None:
    stream = (
        b"\x81\x03abc"
        + b"\x81\x7e\x01\x00"
        + b"d" * 256
        + b"\x89\x00"
        + b"\x81\x7f"
        + bytes(6)
        + b"\x01\x02"
        + b"e" * 258
    )
    whole = [(1, b"abc"), (1, b"d" * 256), (9, b""), (1, b"e" * 258)]
    for place in range(len(stream) + 1):
        first, rest = calls.split_messages(stream[:place])
        second, rest = calls.split_messages(rest + stream[place:])
        assert (first + second, rest) == (whole, b"")
