"""The plots of a comparison's page, as SVG that takes its colours from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hotloop.app.cli.cell_words import interval_of, median_of, name_of, ranked, standing
from hotloop.app.cli.html import Html, element, joined
from hotloop.app.cli.output import seconds, share
from hotloop.app.schemas.comparison import Cell, CellStatus, Comparison

WIDTH: Final = 900
_ROW: Final = 30
_LEFT: Final = 230
_RIGHT: Final = 120
_TOP: Final = 34
_SPAN: Final = WIDTH - _LEFT - _RIGHT


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to x, logarithmic or linear from 0."""

    low: float
    high: float
    is_log: bool

    def x(self, value: float) -> float:
        if self.is_log:
            at_least = max(value, self.low)  # the logarithm of 0 has no place
            share_ = math.log(at_least / self.low) / math.log(self.high / self.low)
        else:
            share_ = value / self.high
        return round(_LEFT + _SPAN * min(max(share_, 0.0), 1.0), 1)


def log_scale(values: Sequence[float]) -> Scale:
    """Whole steps of 1, 2, 5 around the values, at least one decade."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = _below(min(positive)), _above(max(positive))
    if high / low < 10:
        high = low * 10
    return Scale(low, high, is_log=True)


def ticks(scale: Scale) -> list[float]:
    """Where the axis has lines: decades, with 2 and 5 between few of them; or fifths."""
    if not scale.is_log:
        return [scale.high * part / 5 for part in range(6)]
    first, last = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    slack = 1 + 1e-9
    return [value for value in found if scale.low / slack <= value <= scale.high * slack]


def _below(value: float) -> float:
    base = 10.0 ** math.floor(math.log10(value))
    return max(step * base for step in (1, 2, 5) if step * base <= value * (1 + 1e-12))


def _above(value: float) -> float:
    base = 10.0 ** math.floor(math.log10(value))
    return min(step * base for step in (1, 2, 5, 10) if step * base >= value * (1 - 1e-12))


def time_plot(comparison: Comparison) -> Html:
    """A row for each cell with a time: rounds as dots, the interval as a bar, the median as a line;
    on a logarithmic axis.
    """
    cells = [cell for cell in ranked(comparison.cells) if cell.median_seconds is not None]
    values = [
        value
        for cell in cells
        for value in (
            cell.median_seconds or 0.0,
            *cell.seconds,
            *(
                (cell.interval_seconds.low, cell.interval_seconds.high)
                if cell.interval_seconds
                else ()
            ),
        )
    ]
    scale = log_scale(values)
    rows = [
        _row(comparison, cell, index, _time_marks(cell, scale, _middle(index)), median_of(cell))
        for index, cell in enumerate(cells)
    ]
    fastest = f" The fastest is {name_of(cells[0])} with {median_of(cells[0])}." if cells else ""
    return _plot(
        "Seconds for all items, by strategy and kernel",
        f"{len(cells)} cells, the fastest first, on a logarithmic axis.{fastest} The table has the "
        "figures.",
        scale,
        seconds,
        rows,
    )


def bar_plot(
    comparison: Comparison,
    title: str,
    value_of: Callable[[Cell], float | None],
    words: Callable[[float], str],
    high: float | None = None,
) -> Html:
    """Bars from 0 for each cell that has the value, in the order of the other plot."""
    known = [
        (cell, value) for cell in ranked(comparison.cells) if (value := value_of(cell)) is not None
    ]
    scale = Scale(0.0, high or _above(max([value for _, value in known] or [1.0]) or 1.0), False)
    rows = []
    for index, (cell, value) in enumerate(known):
        bar = element(
            "rect",
            class_="bar",
            x=_LEFT,
            y=_middle(index) - 8,
            width=round(scale.x(value) - _LEFT, 1),
            height=16,
            rx=2,
        )
        rows.append(_row(comparison, cell, index, bar, words(value)))
    return _plot(title, f"{len(known)} bars. The table has the figures.", scale, words, rows)


def cpu_plot(comparison: Comparison) -> Html:
    return bar_plot(
        comparison,
        "Share of the usable CPUs",
        lambda cell: cell.cpu_utilization,
        share,
        high=1.0,
    )


def memory_plot(comparison: Comparison) -> Html:
    return bar_plot(
        comparison,
        "Peak memory of the run host and its children",
        lambda cell: None if cell.peak_memory_bytes is None else cell.peak_memory_bytes / 2**20,
        lambda value: f"{value:,.0f} MiB",
    )


def _middle(index: int) -> int:
    return _TOP + _ROW * index + _ROW // 2


def _time_marks(cell: Cell, scale: Scale, y: int) -> Html:
    kind = "projected" if cell.status is CellStatus.PROJECTED else "measured"
    parts = []
    interval = cell.interval_seconds
    if interval is not None:
        left, right = scale.x(interval.low), scale.x(interval.high)
        parts.append(
            element(
                "rect",
                class_=f"interval {kind}",
                x=left,
                y=y - 7,
                width=round(max(right - left, 1.0), 1),
                height=14,
                rx=2,
            )
        )
    parts += [element("circle", class_="round", cx=scale.x(s), cy=y, r=2.5) for s in cell.seconds]
    x = scale.x(cell.median_seconds or 0.0)
    parts.append(element("line", class_=f"median {kind}", x1=x, x2=x, y1=y - 10, y2=y + 10))
    return joined(parts)


def _row(comparison: Comparison, cell: Cell, index: int, marks: Html, value: str) -> Html:
    y = _middle(index)
    stands = standing(comparison, cell)
    label = name_of(cell) + (" ★" if stands == "winner" else " =" if stands == "tied" else "")
    words = f"{name_of(cell)}: {value}"
    if cell.interval_seconds is not None:
        words += f"; 95 % interval of the seconds {interval_of(cell)}"
    return element(
        "g",
        element("title", words),
        element("text", label, class_="label", x=_LEFT - 12, y=y + 4, text_anchor="end"),
        marks,
        element("text", value, class_="value", x=WIDTH - _RIGHT + 12, y=y + 4),
        class_=f"row {stands}".strip(),
    )


def _plot(
    title: str, description: str, scale: Scale, words: Callable[[float], str], rows: list[Html]
) -> Html:
    height = _TOP + _ROW * len(rows) + 10
    lines = []
    for value in ticks(scale):
        x = scale.x(value)
        lines.append(element("line", class_="grid", x1=x, x2=x, y1=_TOP - 6, y2=height))
        lines.append(
            element("text", words(value), class_="tick", x=x, y=_TOP - 14, text_anchor="middle")
        )
    svg = element(
        "svg",
        element("title", title),
        element("desc", description),
        *lines,
        *rows,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
    )
    # Scrolled by keyboard as well, where the page is narrow.
    wide = element("div", svg, class_="wide", tabindex="0", role="region", aria_label=title)
    return element("figure", element("figcaption", title), wide)
