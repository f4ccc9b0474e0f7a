"""The plots of the report, as SVG files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "hotloop"  # the same figures give the same file
matplotlib.rcParams["font.size"] = 9

from matplotlib import pyplot  # noqa: E402 - after the choice of what draws

COLOURS: Final = ("#2a6f97", "#e07a1f", "#3a8f5c", "#b23a48", "#7a5195", "#6b705c")


def bars(path: Path, title: str, unit: str, values: dict[str, tuple[float, float, float]]) -> None:
    """Horizontal bars of (median, least, most), the best on top, on a logarithmic axis."""
    ordered = sorted(values.items(), key=lambda entry: entry[1][0], reverse=True)
    figure, axes = pyplot.subplots(figsize=(7, 0.26 * len(ordered) + 1))
    names = [name for name, _ in ordered]
    medians = [value[0] for _, value in ordered]
    spread = [
        [median - least for _, (median, least, _) in ordered],
        [most - median for _, (median, _, most) in ordered],
    ]
    axes.barh(names, medians, xerr=spread, color=COLOURS[0], ecolor="#222222", capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title)
    _save(figure, path)


def lines(
    path: Path, title: str, labels: tuple[str, str], x: tuple[int, ...], y: dict[str, list[float]]
) -> None:
    """Draw a line for each entry of `y` over `x`, both axes logarithmic."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for colour, (name, values) in zip(COLOURS, y.items(), strict=False):
        axes.plot(x, values, marker="o", markersize=3, label=name, color=colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.set_title(title)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    _save(figure, path)


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
