"""A comparison on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.cell_words import (
    FLAG_WORDS,
    interval_of,
    median_of,
    name_of,
    names_of,
    ranked,
    standing,
    times,
)
from app.cli.output import cell as text
from app.cli.output import pairs, seconds, share, size
from app.schemas.comparison import Cell, CellStatus, Comparison, HostView

_STYLES: Final = {"winner": "bold green", "tied": "green"}
_MARKS: Final = {"winner": " ★", "tied": " ="}


WIDE: Final = 150
"""Characters of a line that hold every column."""


def comparison_tables(comparison: Comparison, width: int = WIDE) -> list[RenderableType]:
    """The matrix, the cells in detail (fewer columns where `width` is less than WIDE), what to
    keep in mind, and the verdict.
    """
    details = _details(comparison, is_wide=width >= WIDE)
    parts: list[RenderableType] = [_matrix(comparison), "", details]
    parts += _remarks(comparison.cells)
    for mismatch in comparison.mismatches:
        words = f"Outputs differ that must be equal: {names_of(mismatch.cells)}: {mismatch.detail}"
        parts.append(text(words, "bold red"))
    if comparison.host is not None:
        parts += ["", text(machine(comparison.host), "dim")]
    if comparison.error_message:
        parts += ["", text(comparison.error_message, "red")]
    if comparison.verdict:
        parts += ["", text(comparison.verdict, "bold")]
    if comparison.curl:
        parts += ["", text(comparison.curl)]
    return parts


def _matrix(comparison: Comparison) -> Table:
    cells = comparison.cells
    kernels = list(dict.fromkeys(cell.kernel for cell in cells))
    at = {(cell.strategy, cell.kernel): cell for cell in cells}
    table = Table(title=_title(comparison), title_justify="left")
    table.add_column("strategy", no_wrap=True)
    for kernel in kernels:
        table.add_column(text(kernel.value), justify="right", no_wrap=True)
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        row = [at.get((strategy, kernel)) for kernel in kernels]
        table.add_row(text(strategy), *(_in_matrix(comparison, cell) for cell in row))
    return table


def _title(comparison: Comparison) -> str:
    exact = ", exact" if comparison.exact else ""
    return (
        f"{comparison.items_count:,} items, {comparison.workers} workers, "
        f"batches of {comparison.batch_size:,}, {comparison.rounds} rounds{exact}"
    )


def _in_matrix(comparison: Comparison, cell: Cell | None) -> Text:
    if cell is None:
        return text("")
    stands = standing(comparison, cell)
    style = _STYLES.get(stands, "" if cell.median_seconds is not None else "dim")
    flagged = " !" if cell.flags else ""
    return text(median_of(cell) + _MARKS.get(stands, "") + flagged, style)


def _details(comparison: Comparison, *, is_wide: bool) -> Table:
    table = Table(title="Fastest first", title_justify="left")
    table.add_column("strategy × kernel", no_wrap=True)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("speedup", justify="right", no_wrap=True)
    if is_wide:
        for name in ("efficiency", "items/s", "rounds", "CPU", "memory", "set-up"):
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("remarks", overflow="fold")
    for cell in ranked(comparison.cells):
        stands = standing(comparison, cell)
        remarks = [*([stands] if stands else []), *(flag.value for flag in cell.flags)]
        if cell.reason:
            remarks.append(cell.reason)
        table.add_row(
            text(name_of(cell)),
            text(median_of(cell), "bold"),
            text(interval_of(cell)),
            text(times(cell.speedup)),
            *(_measurements(cell) if is_wide else ()),
            text("; ".join(remarks)),
            style=_STYLES.get(stands, "dim" if cell.status is CellStatus.SKIPPED else ""),
        )
    return table


def _measurements(cell: Cell) -> tuple[str, ...]:
    rate = cell.throughput_items_per_second
    return (
        share(cell.efficiency),
        "–" if rate is None else f"{rate:,.0f}",
        str(cell.rounds) if cell.median_seconds is not None else "–",
        share(cell.cpu_utilization),
        size(cell.peak_memory_bytes),
        seconds(cell.setup_seconds),
    )


def _remarks(cells: list[Cell]) -> list[RenderableType]:
    flags = sorted({flag for cell in cells for flag in cell.flags})
    rows = [(flag.value, text(FLAG_WORDS[flag])) for flag in flags]
    if any(cell.status is CellStatus.PROJECTED for cell in cells):
        rows.insert(0, ("~", text("projected: measured on fewer items, and extrapolated")))
    return [pairs("", rows)] if rows else []


def machine(host: HostView) -> str:
    """The machine and what ran on it, in a line."""
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
