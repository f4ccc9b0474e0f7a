"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hotloop.app.cli import output
from hotloop.app.cli.output import Column, between, pairs, seconds, share, size
from hotloop.app.cli.output import cell as text
from hotloop.app.schemas.comparison import Cell, CellName, CellStatus, Comparison, HostView

_STYLES: Final = {"winner": "bold green", "tied": "green"}
_MARKS: Final = {"winner": " ★", "tied": " ="}


WIDE: Final = 150
"""Characters of a line that hold nearly every column."""


def comparison_tables(comparison: Comparison, width: int = WIDE) -> list[RenderableType]:
    """The verdict, the matrix, the cells in detail, what to keep in mind, and the command that
    runs the winner, in lines of `width` characters.
    """
    parts: list[RenderableType] = []
    for mismatch in comparison.mismatches:
        words = f"Outputs differ that must be equal: {names_of(mismatch.cells)}: {mismatch.detail}"
        parts += [text(words, "bold red"), ""]
    if comparison.error_message:
        parts += [text(f"The comparison {comparison.status}: {comparison.error_message}", "red")]
        parts.append("")
    if comparison.verdict:
        parts += [text(comparison.verdict, "bold"), ""]
    parts += [text(_title(comparison)), _matrix(comparison), ""]
    parts += ["Fastest first; set-up is not part of the median", _details(comparison, width)]
    if comparison.cautions:
        rows = [(each.name, text(f"{each.text}: {each.where}")) for each in comparison.cautions]
        parts += ["To keep in mind", pairs(rows), ""]
    parts += [text(f"Outputs: {outputs_words(comparison)}.")]
    if comparison.host is not None:
        parts += ["", text(machine(comparison.host), "dim")]
    if comparison.curl:
        parts += ["", "The command that runs the fastest:", output.command(comparison.curl, width)]
    return parts


def _matrix(comparison: Comparison) -> Table:
    cells = comparison.cells
    kernels = list(dict.fromkeys(cell.kernel for cell in cells))
    at = {(cell.strategy, cell.kernel): cell for cell in cells}
    table = Table()
    table.add_column("strategy", no_wrap=True)
    for kernel in kernels:
        table.add_column(text(kernel), justify="right", no_wrap=True)
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        row = [at.get((strategy, kernel)) for kernel in kernels]
        table.add_row(text(strategy), *(_in_matrix(comparison, cell) for cell in row))
    return table


def _title(comparison: Comparison) -> str:
    exact, asked = ", exact" if comparison.exact else "", comparison.batch_size
    size_ = asked if isinstance(asked, str) else f"{asked:,}"
    return (
        f"{comparison.items_count:,} items, {comparison.workers} workers, "
        f"batch size {size_}, {comparison.rounds} rounds{exact}"
    )


def _in_matrix(comparison: Comparison, cell: Cell | None) -> Text:
    if cell is None:
        return text("")
    stands = standing(comparison, cell)
    style = _STYLES.get(stands, "" if cell.median_seconds is not None else "dim")
    flagged = " !" if cell.flags else ""
    return text(median_of(cell) + _MARKS.get(stands, "") + flagged, style)


_COLUMNS: Final = (
    Column("strategy × kernel", is_number=False),
    Column("median"),
    Column("95 % interval"),
    Column("set-up", 1),
    Column("workers", 2),
    Column("speedup", 3),
    Column("items/s", 5),
    Column("with set-up", 6),
    Column("batch size", 4),
    Column("measured on", 7),
    Column("rounds", 9),
    Column("CPU", 8),
    Column("memory", 10),
    Column("efficiency", 11),
)


def _details(comparison: Comparison, width: int) -> Table:
    rows, items = [], comparison.items_count
    for cell in ranked(comparison.cells):
        stands = standing(comparison, cell)
        rate, workers = cell.throughput_items_per_second, cell.effective_workers
        values = (
            text(name_of(cell)),
            _in_matrix(comparison, cell),
            text(interval_of(cell)),
            text(seconds(cell.setup_seconds)),
            text("–" if workers is None else f"{workers} of {comparison.workers}"),
            text(times(cell.speedup)),
            text("–" if rate is None else f"{rate:,.0f}"),
            text(rate_with_setup(cell, items)),
            text("–" if cell.batch_size is None else f"{cell.batch_size:,}"),
            text(f"{cell.measured_items:,} of {items:,}" if cell.rounds else "–"),
            text(str(cell.rounds) if cell.median_seconds is not None else "–"),
            text(share(cell.cpu_utilization)),
            text(size(cell.peak_memory_bytes)),
            text(share(cell.efficiency)),
        )
        style = _STYLES.get(stands, "dim" if cell.status is CellStatus.SKIPPED else "")
        rows.append((values, style))
    return output.fitted_table(_COLUMNS, rows, width)


def machine(host: HostView) -> str:
    """A line about the machine and the load on it."""
    versions = ", ".join(f"{name} {version}" for name, version in host.versions.items())
    load = "" if host.load_before is None else f"; load before {host.load_before:.2f}"
    throttled = (
        f"; held back by its CPU quota for {seconds(host.throttled_seconds)}"
        if host.throttled_seconds
        else ""
    )
    return (
        f"{host.cpu}, {host.usable_cpus} of {host.cpus} CPUs usable; {host.system}; "
        f"Python {host.python}, GIL {host.gil}; {versions}{load}{throttled}"
    )


def name_of(cell: CellName) -> str:
    return f"{cell.strategy} × {cell.kernel}"


def names_of(cells: Sequence[CellName]) -> str:
    return ", ".join(map(name_of, cells))


def standing(comparison: Comparison, cell: Cell) -> str:
    """Name a cell's place: `winner`, `tied` or nothing."""
    name = name_of(cell)
    if comparison.winner is not None and name_of(comparison.winner) == name:
        return "winner"
    return "tied" if name in map(name_of, comparison.tied) else ""


def median_of(cell: Cell) -> str:
    """The median, with ~ if it is projected; a cell without a median shows its status."""
    if cell.median_seconds is None:
        return cell.status.value
    mark = "~" if cell.status is CellStatus.PROJECTED else ""
    return mark + seconds(cell.median_seconds)


def interval_of(cell: Cell) -> str:
    interval = cell.interval_seconds
    return "–" if interval is None else between(interval.low, interval.high)


def rate_with_setup(cell: Cell, items: int) -> str:
    """Items per second with the set-up as part of the run."""
    if cell.median_seconds is None or cell.setup_seconds is None:
        return "–"
    total = cell.median_seconds + cell.setup_seconds
    return f"{items / total:,.0f}" if total else "–"


def outputs_words(comparison: Comparison) -> str:
    """Say whether the cells' outputs are equal, and how many were compared."""
    if comparison.outputs_equal is None:
        return "not compared: that takes two cells that were measured"
    count = comparison.compared_cells
    equal = "equal" if comparison.outputs_equal else "NOT equal"
    return f"{equal}, compared in {count} of {len(comparison.cells)} cells"


def times(value: float | None) -> str:
    """A ratio with ×."""
    if value is None:
        return "–"
    return f"{value:,.0f}×" if value >= 100 else f"{value:.3g}×"


def ranked(cells: Sequence[Cell]) -> list[Cell]:
    """Sort cells, the fastest first; cells without a time keep their order at the end."""
    return sorted(
        cells,
        key=lambda cell: (cell.median_seconds is None, cell.median_seconds or 0.0),
    )
