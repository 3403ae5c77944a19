"""The picture of a run, as SVG that follows the light or dark scheme of whoever looks at it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from timing import Row, Table

WIDTH, LABELS, GAP, LINE = 900, 260, 40, 22
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.title { font-weight: 600 }
.grid { stroke: #d1d9e0 }
.dot, .bar { fill: #818b98; stroke: #818b98; stroke-width: 2 }
.range { stroke: #818b98; stroke-width: 3; stroke-linecap: round }
.ours.dot, .ours.bar { fill: #0969da; stroke: #0969da }
.ours.range { stroke: #0969da }
.wrong { fill-opacity: 0 }
.curve { fill: none; stroke: #818b98; stroke-width: 1.5 }
.ours.curve { stroke: #0969da; stroke-width: 2.5 }
.dashed { stroke-dasharray: 6 4 }
.dotted { stroke-dasharray: 1.5 3.5 }
.long { stroke-dasharray: 14 4 }
text.ours { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .ours.dot, .ours.bar { fill: #4493f8; stroke: #4493f8 }
  .ours.range, .ours.curve { stroke: #4493f8 }
}"""

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Curve:
    """What one contestant reaches, as its setting goes from end to end.

    Args:
        name: As the legend gives it.
        points: Along x and y, both above zero.
        marked: Where it stands as it ships, if that is to be seen.
        stroke: "" for a full line, or dashed, dotted, long.
        mark: The letter in place of a dot; "" for a dot.
    """

    name: str
    points: Sequence[tuple[float, float]]
    marked: tuple[float, float] | None = None
    stroke: str = ""
    mark: str = ""


def render_picture(resampling: Table, leg: Table) -> str:
    """Return the CPU time and the lag of resamplers at the first pair of a table, above the bars of the leg."""
    panel = (WIDTH - LABELS - 2 * GAP) // 2
    top, bottom = 62, 62 + LINE * len(resampling.rows)
    micros = log_scale([row.cells[0].best_s * 1e6 for row in resampling.rows], LABELS, LABELS + panel)
    lags = [lag for row in resampling.rows for lag in row.lag_ms or ()]
    millis = log_scale([max(lag, 0.1) for lag in lags], LABELS + panel + GAP, LABELS + 2 * panel + GAP)
    pair = resampling.columns[0]
    parts = [text(0, 20, f"Resampling {pair} kHz in chunks of 20 ms", "title")]
    parts.append(text(0, 38, "hollow: the output is not correct (see the table)", "small"))
    parts += axis(micros, top, bottom, "CPU per 20 ms, microseconds (log)")
    parts += axis(millis, top, bottom, "lag, mean to max, ms (log, from 0.1)")
    for number, row in enumerate(resampling.rows):
        y = top + LINE * (number + 0.5)
        parts.append(text(LABELS - 14, y + 4, row.name, kind(row), "end"))
        parts.append(dot(micros[0](row.cells[0].best_s * 1e6), y, row))
        if row.lag_ms is not None:
            low, high = (millis[0](max(lag, 0.1)) for lag in row.lag_ms)
            if high - low > 5:
                parts.append(f'<line class="range {kind(row)}" x1="{low + 5:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
            parts.append(dot(low, y, row))
    return document(parts + bars(leg, bottom + 70), bottom + 70 + 24 + LINE * len(leg.rows))


def render_plots(
    plots: Sequence[tuple[str, Sequence[Curve]]], x_label: str, y_label: str, columns: int = 3, height: float = 230
) -> str:
    """Return plots with the same axes, both logarithmic, under one legend."""
    names: dict[str, Curve] = {curve.name: curve for _, curves in plots for curve in curves}
    every = [point for _, curves in plots for curve in curves for point in (*curve.points, curve.marked) if point]
    margin, gap, top = 44.0, 20.0, 76.0
    width = (WIDTH - margin) / columns - gap
    parts = legend(list(names.values()))
    for number, (title, curves) in enumerate(plots):
        left = margin + (number % columns) * (width + gap)
        upper = top + (number // columns) * (height + 62)
        across = log_scale([x for x, _ in every], left, left + width)
        up = log_scale([y for _, y in every], upper + height, upper)
        parts.append(text(left, upper - 8, title, "title"))
        parts += axis(across, upper, upper + height, x_label)
        for tick in up[1]:
            y = up[0](tick)
            parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left + width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
            if left == margin:
                parts.append(text(left - 6, y + 4, f"{tick:g}", "small", "end"))
        for curve in curves:
            places = [(across[0](x), up[0](y)) for x, y in curve.points]
            marked = curve.marked and (across[0](curve.marked[0]), up[0](curve.marked[1]))
            parts += drawn(curve, places, marked)
    parts.append(text(0, top - 26, y_label, "small"))
    return document(parts, top + -(-len(plots) // columns) * (height + 62))


def legend(curves: Sequence[Curve]) -> list[str]:
    parts: list[str] = []
    left = 6.0
    for curve in curves:
        sample = 40.0 if len(curve.points) > 1 else 10.0
        marked = (left + sample / 2, 16.0) if curve.marked else None
        parts += drawn(curve, [(left, 16.0), (left + sample, 16.0)] if len(curve.points) > 1 else [], marked)
        parts.append(text(left + sample + 8, 20, curve.name, owner(curve.name)))
        left += sample + 34 + 7 * len(curve.name)
    return parts


def drawn(curve: Curve, places: Sequence[tuple[float, float]], marked: tuple[float, float] | None) -> list[str]:
    """Return a curve at its places in the picture."""
    parts = []
    if len(places) > 1:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        classes = " ".join(f"curve {owner(curve.name)} {curve.stroke}".split())
        parts.append(f'<polyline class="{classes}" points="{line}"/>')
    if marked and curve.mark:
        parts.append(text(marked[0], marked[1] + 4, curve.mark, "title", "middle"))
    elif marked:
        classes = f"dot {owner(curve.name)}".strip()
        parts.append(f'<circle class="{classes}" cx="{marked[0]:.1f}" cy="{marked[1]:.1f}" r="4.5"/>')
    return parts


def bars(leg: Table, top: float) -> list[str]:
    """Return the bars of the last column of a table."""
    costs = [row.cells[-1].best_s * 1e6 for row in leg.rows]
    width = WIDTH - LABELS - 70
    parts = [text(0, top, "A telephone leg, both ways: CPU microseconds for each second of the call", "title")]
    for number, (row, cost) in enumerate(zip(leg.rows, costs, strict=True)):
        y, length = top + 14 + LINE * number, width * cost / max(costs)
        parts.append(text(LABELS - 14, y + 15, row.name, kind(row), "end"))
        parts.append(f'<rect class="bar {kind(row)}" x="{LABELS}" y="{y + 4}" width="{length:.1f}" height="14"/>')
        parts.append(text(LABELS + length + 8, y + 15, f"{cost:.0f}", kind(row)))
    return parts


def log_scale(values: Sequence[float], left: float, right: float) -> tuple[Scale, list[float]]:
    """Return a logarithmic scale with room for all values, and its grid, the coarser the longer the scale is."""
    low, high = math.log10(min(values) / 1.25), math.log10(max(values) * 1.25)
    decades = range(math.floor(low), math.ceil(high))
    ticks = [step * 10.0**decade for decade in decades for step in ((1, 2, 5) if len(decades) < 4 else (1,))]
    if not any(low <= math.log10(tick) <= high for tick in ticks):
        # All lie between two lines of the grid, of which one has to be seen.
        low = max(math.log10(tick) for tick in ticks if math.log10(tick) < low)
    return (
        lambda value: left + (right - left) * (math.log10(value) - low) / (high - low),
        [tick for tick in ticks if low <= math.log10(tick) <= high],
    )


def axis(scale: tuple[Scale, list[float]], top: float, bottom: float, label: str) -> list[str]:
    place, ticks = scale
    parts = []
    for tick in ticks:
        x = place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 16, f"{tick:g}", "small", "middle"))
    parts.append(text((place(ticks[0]) + place(ticks[-1])) / 2, bottom + 34, label, "small", "middle"))
    return parts


def kind(row: Row) -> str:
    return owner(row.name)


def owner(name: str) -> str:
    return "ours" if name.startswith("speechwire") else ""


def dot(x: float, y: float, row: Row) -> str:
    classes = f"dot {kind(row)} {'' if row.correct == 'yes' else 'wrong'}".split()
    return f'<circle class="{" ".join(classes)}" cx="{x:.1f}" cy="{y}" r="4.5"/>'


def text(x: float, y: float, words: str, classes: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}">{escape(words)}</text>'


def document(parts: Sequence[str], height: float) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">'
    return "\n".join([head, f"<style>\n{STYLE}\n</style>", *parts, "</svg>", ""])
