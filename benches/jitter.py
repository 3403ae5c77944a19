"""The jitter buffer beside others: how long packets wait, and how much has to be made up.

Each trace carries the same talk of flite's voices. A buffer is asked for a frame every 20 ms; the clock is simulated,
so a run gives the same figures again. What is not installed is listed as absent.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from codec import show_progress
from jitter_measures import Answers, Outcome, answer, correct, measure, packets, talk, talkspurts
from jitter_peers import FixedDelay, HistogramModel, Maker, PlayerMaker, Queue, Speechwire, find_pitch, other_peers
from jitter_traces import MODELS, Trace, best_by_talkspurt, make_trace, make_turns
from machine import peer_version, refuse_debug_build
from picture import Curve, render_plots

OURS, MODEL, FIXED, ORACLE = "speechwire", "NetEQ, modelled", "fixed delay", "known afterwards"
PRICES_MS = (10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0, 1000.0, 3000.0)
QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
DELAYS_MS = (20, 40, 60, 80, 100, 140, 200, 300, 400)
ORACLE_PRICES_MS = tuple(50.0 * 2**n for n in range(14))
GATHERED_MS = (0, 160, 240, 320, 480)
STARTS_MS = (0.0, 120.0, 200.0)
# What the picture shows; its scales are logarithmic, so less concealment than that stands at the edge.
LEAST_PERCENT, MOST_PERCENT, LEAST_MS = 0.05, 10.0, 10.0
TITLES = {
    "wifi": "Wi-Fi",
    "lte": "LTE",
    "lte_regime": "LTE, coverage good and bad by turns",
    "congested": "congested link",
    "ws_tcp": "WebSocket",
    "server_rt": "speech server, 80 ms at once",
}


@dataclass(frozen=True)
class Runs:
    """What one contestant made of every trace, over all seeds."""

    by_trace: dict[str, list[Outcome]]

    def delay_ms(self, name: str) -> float:
        return float(np.mean([outcome.delay_ms for outcome in self.by_trace[name]]))

    def concealed_percent(self, name: str) -> float:
        return float(np.mean([outcome.concealed_percent for outcome in self.by_trace[name]]))

    def rating(self, name: str) -> float:
        return float(np.mean([outcome.rating for outcome in self.by_trace[name]]))

    def point(self, name: str) -> tuple[float, float]:
        return self.delay_ms(name), max(LEAST_PERCENT, self.concealed_percent(name))


def main() -> None:
    """Measure everything, print the tables, and write them into the page with the picture beside it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="of each talk")
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23], help="of the traces")
    parser.add_argument("--output", type=Path, help="fill the sections of this page, and draw the picture beside it")
    arguments = parser.parse_args()
    refuse_debug_build()
    samples = talk(arguments.seconds)
    payloads = packets(samples)
    traces = [make_trace(name, arguments.seconds, seed) for name in MODELS for seed in arguments.seeds]
    curves, absent = contestants(samples)
    runs = {name: [run(maker, traces, payloads, name) for maker in makers] for name, makers in curves.items()}
    show_progress("")
    oracle = {name: oracle_curve([trace for trace in traces if trace.name == name], samples) for name in MODELS}
    talks = talk_table({name: found[0] for name, found in runs.items()}, runs[OURS][1:], oracle)
    answers = answer_table(arguments.seconds, arguments.seeds, payloads)
    facts = f"aiortc {peer_version('aiortc')}; {arguments.seconds:g} s, seeds {', '.join(map(str, arguments.seeds))}."
    sections = {"talks": "\n\n".join([talks, *absent_line(absent), facts]), "answers": answers}
    print("\n\n".join(sections.values()))
    if arguments.output:
        picture: Path = arguments.output.with_suffix(".svg")
        picture.write_text(draw(runs, oracle))
        page: str = arguments.output.read_text()
        arguments.output.write_text(fill(page, sections))


def contestants(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> tuple[dict[str, list[Maker]], list[str]]:
    """Return the makers of every contestant, first as it ships and then along its curve, and who is absent."""
    pitch = find_pitch(samples.astype(np.float64))
    peers = other_peers()
    makers: dict[str, list[Maker]] = {
        OURS: [Speechwire, *(partial(Speechwire, loss_price_ms=price_ms) for price_ms in PRICES_MS)],
        MODEL: [
            partial(HistogramModel, pitch),
            *(partial(HistogramModel, pitch, quantile) for quantile in QUANTILES),
        ],
        **{name: [maker] for name, maker in peers.items() if maker is not None},
        FIXED: [partial(FixedDelay, 60), *(partial(FixedDelay, delay_ms) for delay_ms in DELAYS_MS)],
    }
    return makers, [name for name, maker in peers.items() if maker is None]


def run(maker: Maker, traces: Sequence[Trace], payloads: Sequence[bytes], name: str) -> Runs:
    found: dict[str, list[Outcome]] = {}
    for trace in traces:
        show_progress(f"{name}: {trace.name}")
        found.setdefault(trace.name, []).append(measure(trace, maker(), payloads))
    return Runs(found)


def oracle_curve(
    traces: Sequence[Trace], samples: np.ndarray[tuple[int], np.dtype[np.int16]]
) -> list[tuple[float, float]]:
    """Return delay and late packets of the best delay for each talkspurt, from the highest price down."""
    parts = talkspurts(samples)
    points = [[best_by_talkspurt(trace, parts, price_ms) for trace in traces] for price_ms in ORACLE_PRICES_MS]
    means = np.mean(points, axis=1)
    return [(float(delay_ms), max(LEAST_PERCENT, float(percent))) for delay_ms, percent in means]


def delay_at(points: Sequence[tuple[float, float]], percent: float) -> float:
    """Return the delay where a curve has that much concealment, interpolated on logarithmic scales.

    NaN where the curve does not get there.
    """
    along = sorted((y, x) for x, y in points)
    levels = np.log([y for y, _ in along])
    at = np.log(max(percent, LEAST_PERCENT))
    if not levels[0] <= at <= levels[-1]:
        return float("nan")
    return float(np.exp(np.interp(at, levels, np.log([x for _, x in along]))))


def talk_table(shipped: dict[str, Runs], along: Sequence[Runs], oracle: dict[str, list[tuple[float, float]]]) -> str:
    """Return delay, concealment and R of everything as it ships, and two yardsticks."""
    rows = [["", "correct", *MODELS]]
    for name, runs in shipped.items():
        cells = [
            f"{runs.delay_ms(trace):.0f} / {runs.concealed_percent(trace):.2f} / {runs.rating(trace):.0f}"
            for trace in MODELS
        ]
        shown = f"{name}, 60 ms" if name == FIXED else f"**{name}**" if name == OURS else name
        rows.append([shown, correct([outcome for found in runs.by_trace.values() for outcome in found]), *cells])
    model = shipped[MODEL]
    same = {trace: delay_at([runs.point(trace) for runs in along], model.concealed_percent(trace)) for trace in MODELS}
    rows.append(
        [
            f"{OURS}, the price set for what the model conceals",
            "",
            *(beside(same[trace], model.delay_ms(trace)) for trace in MODELS),
        ]
    )
    ours = shipped[OURS]
    least = {trace: delay_at(oracle[trace], ours.concealed_percent(trace)) for trace in MODELS}
    rows.append([f"{ORACLE}, at what {OURS} conceals", "", *(f"{least[trace]:.0f}" for trace in MODELS)])
    return markdown(rows)


def beside(delay_ms: float, other_ms: float) -> str:
    return "-" if math.isnan(delay_ms) else f"{delay_ms:.0f}, {delay_ms / other_ms:.2f} of the model"


def answer_table(seconds: float, seeds: Sequence[int], payloads: Sequence[bytes]) -> str:
    """Return what becomes of the answers of a server that speaks faster than it is heard."""
    makers: dict[str, PlayerMaker] = {
        f"**{OURS}**, start_ms={start_ms:g}": partial(Speechwire, mode="playout", start_ms=start_ms)
        for start_ms in STARTS_MS
    }
    makers |= {f"queue, {gather_ms} ms": partial(Queue, gather_ms) for gather_ms in GATHERED_MS}
    rows = [["", "correct", "start, ms", "gaps, %", "slower, %"]]
    for name, maker in makers.items():
        show_progress(f"answers: {name}")
        found: list[Answers] = [answer(make_turns(seconds, seed), maker(), payloads) for seed in seeds]
        figures = np.mean([[one.start_ms, one.gap_percent, one.slowed_percent] for one in found], axis=0)
        rows.append([name, correct(found), f"{figures[0]:.0f}", f"{figures[1]:.2f}", f"{figures[2]:.1f}"])
    show_progress("")
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def absent_line(absent: Sequence[str]) -> list[str]:
    return [f"Absent, because not installed: {', '.join(absent)}."] if absent else []


def draw(runs: dict[str, list[Runs]], oracle: dict[str, list[tuple[float, float]]]) -> str:
    """Return the picture: concealment against delay, one plot for each trace."""
    looks = {OURS: ("", ""), MODEL: ("long", ""), FIXED: ("dashed", "")}
    plots = []
    for trace, title in TITLES.items():
        curves = [
            Curve(
                name,
                shown([found.point(trace) for found in runs[name][1:]]),
                None if name == FIXED else runs[name][0].point(trace),
                *looks.get(name, ("", name[0].upper())),
            )
            for name in runs
        ]
        plots.append((title, [*curves, Curve(ORACLE, shown(oracle[trace]), None, "dotted")]))
    return render_plots(plots, "mean wait in the buffer, ms (log)", "concealed beyond what was lost, % (log)")


def shown(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return what lies within the picture, of what lies on its edge the first."""
    inside = [(x, y) for x, y in points if x >= LEAST_MS and y <= MOST_PERCENT]
    edge = next((n for n, (_, y) in enumerate(inside) if y <= LEAST_PERCENT), len(inside))
    return inside[: edge + 1]


def fill(page: str, sections: dict[str, str]) -> str:
    """Return the page with its sections made anew; each stands between its name and an end, as HTML comments."""
    for name, section in sections.items():
        head, marker, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not marker or not end:
            raise ValueError(f"expected a section {name!r} with an end, got none")
        page = f"{head}{marker}\n{section}\n\n{end}{tail}"
    return page


if __name__ == "__main__":
    main()
