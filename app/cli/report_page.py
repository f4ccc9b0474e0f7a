"""A comparison as a page: one file, no script, nothing asked for from elsewhere."""

from __future__ import annotations

import math
from importlib.resources import files

from hotloop.app.cli.cell_words import (
    batch_size_of,
    cautions,
    interval_of,
    median_of,
    name_of,
    names_of,
    outputs_words,
    ranked,
    rate_with_setup,
    standing,
    times,
    workers_of,
)
from hotloop.app.cli.html import Html, element, joined
from hotloop.app.cli.output import seconds, share, size
from hotloop.app.cli.report_plots import cpu_plot, memory_plot, time_plot
from hotloop.app.schemas.comparison import Cell, CellStatus, Comparison
from hotloop.app.version import VERSION


def report_page(comparison: Comparison) -> str:
    """The whole page; the same comparison gives the same page."""
    title = f"{comparison.items_count:,} items, strategy × kernel"
    # A browser that follows this asks nobody for anything, whatever the page holds.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", f"{title} – Hotloop"),
        element("style", Html(files("hotloop.app.cli").joinpath("report.css").read_text("utf-8"))),
    )
    has_times = any(cell.median_seconds is not None for cell in comparison.cells)
    plots = [time_plot(comparison), _legend(), cpu_plot(comparison), memory_plot(comparison)]
    main = element(
        "main",
        element("h1", title),
        *_verdict(comparison),
        _when(comparison),
        *_command(comparison),
        element("h2", "Medians"),
        _matrix(comparison),
        *([element("h2", "Plots"), *plots] if has_times else []),
        element("h2", "Every cell"),
        _table(comparison),
        *_cautions(comparison.cells),
        element("h2", "What was asked"),
        _asked(comparison),
        *_machine(comparison),
    )
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en')}\n"


def _when(comparison: Comparison) -> Html:
    started = comparison.start_time
    moment = "" if started is None else f" on {started:%Y-%m-%d %H:%M} UTC,"
    took = comparison.duration_seconds
    duration = "" if took is None else f" in {seconds(took)}"
    words = f"Measured{moment}{duration} by Hotloop {VERSION}; task {comparison.task_id}."
    if comparison.status != "completed":
        words += f" The comparison is {comparison.status.value}."
    return element("p", words, class_="soft")


def _verdict(comparison: Comparison) -> list[Html]:
    parts = []
    for mismatch in comparison.mismatches:
        words = f"Outputs differ that must be equal: {names_of(mismatch.cells)}: {mismatch.detail}"
        parts.append(element("p", words, class_="problem", role="alert"))
    if comparison.error_message:
        parts.append(element("p", comparison.error_message, class_="problem", role="alert"))
    if comparison.verdict:
        parts.append(element("p", comparison.verdict, class_="verdict"))
    parts.append(element("p", f"Outputs: {outputs_words(comparison)}."))
    return parts


def _command(comparison: Comparison) -> list[Html]:
    return [] if comparison.curl is None else [element("pre", element("code", comparison.curl))]


def _matrix(comparison: Comparison) -> Html:
    cells = comparison.cells
    kernels = list(dict.fromkeys(cell.kernel for cell in cells))
    at = {(cell.strategy, cell.kernel): cell for cell in cells}
    heat = _heat(cells)
    rows = [
        element(
            "tr",
            element("th", strategy, scope="row"),
            *(_in_matrix(comparison, at.get((strategy, kernel)), heat) for kernel in kernels),
        )
        for strategy in dict.fromkeys(cell.strategy for cell in cells)
    ]
    caption = (
        "Median seconds for all items, and the speedup over sequential × python; the stronger the "
        "colour, the slower. ★ winner, = tied, ~ projected."
    )
    header = ["strategy", *(kernel.value for kernel in kernels)]
    return _wide_table(caption, header, rows)


def _heat(cells: list[Cell]) -> dict[str, float]:
    """By name: 0 for the fastest … 1 for the slowest, on a logarithmic scale."""
    logs = {
        name_of(cell): math.log(max(cell.median_seconds, 1e-9))
        for cell in cells
        if cell.median_seconds is not None
    }
    if not logs:
        return {}
    low, high = min(logs.values()), max(logs.values())
    return {name: (value - low) / (high - low or 1.0) for name, value in logs.items()}


def _in_matrix(comparison: Comparison, cell: Cell | None, heat: dict[str, float]) -> Html:
    if cell is None:
        return element("td", "")
    stands = standing(comparison, cell)
    mark = {"winner": "★ ", "tied": "= "}.get(stands, "")
    speedup = "" if cell.speedup is None else times(cell.speedup)
    colour = heat.get(name_of(cell))
    return element(
        "td",
        mark + median_of(cell),
        element("small", speedup) if speedup else "",
        class_=f"cell {stands}".strip(),
        # At most 0.4: text on it stays readable.
        style=None if colour is None else f"--share:{0.4 * colour:.2f}",
    )


def _legend() -> Html:
    return element(
        "p",
        "Dots: rounds. Bar: 95 % bootstrap interval of the median. Line: median. Dashed: projected "
        "from fewer items. ★: winner. =: tied with the fastest.",
        class_="soft",
    )


_COLUMNS = (
    "strategy × kernel",
    "status",
    "median",
    "set-up",
    "95 % interval",
    "spread",
    "speedup",
    "efficiency",
    "items/s",
    "items/s with set-up",
    "workers that worked",
    "batch size",
    "CPU",
    "peak memory",
    "loop lag p99",
    "throttled",
    "items measured",
    "failed items",
    "checksum",
    "rounds",
    "remarks",
)


def _table(comparison: Comparison) -> Html:
    rows = []
    for cell in ranked(comparison.cells):
        remarks = [flag.value for flag in cell.flags]
        if cell.reason is not None and cell.status is CellStatus.PROJECTED:
            remarks.append(cell.reason)  # which differs from cell to cell
        stands = standing(comparison, cell)
        rate, lag = cell.throughput_items_per_second, cell.event_loop_lag_p99_ms
        values = (
            f"{cell.status.value}, {stands}" if stands else cell.status.value,
            median_of(cell) if cell.median_seconds is not None else "–",
            seconds(cell.setup_seconds),
            interval_of(cell),
            share(cell.spread),
            times(cell.speedup),
            share(cell.efficiency),
            "–" if rate is None else f"{rate:,.0f}",
            rate_with_setup(cell, comparison.items_count),
            workers_of(cell, comparison.workers),
            "–" if cell.batch_size is None else f"{cell.batch_size:,}",
            share(cell.cpu_utilization),
            size(cell.peak_memory_bytes),
            "–" if lag is None else f"{lag:.1f} ms",
            seconds(cell.throttled_seconds),
            f"{cell.measured_items:,}",
            f"{cell.failed_items:,}",
            cell.checksum or "–",
        )
        rows.append(
            element(
                "tr",
                element("th", name_of(cell), scope="row"),
                *(element("td", value) for value in values),
                element("td", ", ".join(map(seconds, cell.seconds)) or "–", class_="words"),
                element("td", "; ".join(remarks), class_="words"),
                class_=stands or None,
            )
        )
    return _wide_table(
        "The fastest first; set-up is not part of the median. – means not measured.",
        _COLUMNS,
        rows,
    )


def _wide_table(caption: str, header: list[str] | tuple[str, ...], rows: list[Html]) -> Html:
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *(element("th", name, scope="col") for name in header))),
        element("tbody", *rows),
    )
    # Scrolled by keyboard as well.
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label=caption)


def _cautions(cells: list[Cell]) -> list[Html]:
    found = cautions(cells)
    if not found:
        return []
    parts = [
        joined(
            [
                element("dt", each.name),
                element("dd", each.words, element("small", f" {each.cells}", class_="soft")),
            ]
        )
        for each in found
    ]
    return [element("h2", "To keep in mind"), element("dl", *parts)]


def _asked(comparison: Comparison) -> Html:
    return _pairs(
        [
            ("items", f"{comparison.items_count:,}"),
            ("workers", str(comparison.workers)),
            ("batch size", batch_size_of(comparison)),
            ("I/O concurrency", f"{comparison.io_concurrency:,}"),
            ("workload", comparison.workload),
            ("rounds", str(comparison.rounds)),
            ("budget", seconds(comparison.budget_seconds)),
            ("exact", "yes" if comparison.exact else "no"),
            ("kernel of the single times", comparison.kernel.value),
            ("best strategy on it", comparison.best_approach or "–"),
            ("improvement over sequential", times(comparison.improvement_factor)),
            ("outputs", outputs_words(comparison)),
        ]
    )


def _machine(comparison: Comparison) -> list[Html]:
    host = comparison.host
    if host is None:
        return []
    rows = [
        ("CPU", f"{host.cpu}; {host.usable_cpus} of {host.cpus} usable"),
        ("memory", size(host.memory_bytes)),
        ("system", host.system),
        ("Python", f"{host.python}, GIL {host.gil}"),
        ("load before, after", f"{_load(host.load_before)}, {_load(host.load_after)}"),
        ("held back by the CPU quota", seconds(host.throttled_seconds)),
    ]
    rows += [(f"{k}: instruction set", v or "none") for k, v in host.instruction_sets.items()]
    rows += list(host.versions.items())
    return [element("h2", "The machine"), _pairs(rows)]


def _load(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _pairs(rows: list[tuple[str, str]]) -> Html:
    return element("dl", joined([joined([element("dt", n), element("dd", v)]) for n, v in rows]))
