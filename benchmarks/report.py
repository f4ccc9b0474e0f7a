"""`python -m benchmarks.report [SECTION …]`: measure, and write docs/performance.md, its plots, and
the table in README.md. With sections named (cells, kernels, jobs, growth, memory, io, redis,
results, calls, tasks, app, background, nodes, clusters, watchers, cold), only those are measured,
and replaced in the page. `model` holds the cost model against measurements, and is written to
docs/model.md.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from benchmarks import (
    background,
    calls,
    cells,
    clusters,
    cold,
    growth,
    in_app,
    instructions,
    io,
    jobs,
    memory,
    model,
    nodes,
    plots,
    redis_reads,
    results,
    small_tasks,
    watchers,
)
from benchmarks import kernels as kernel_benchmark
from benchmarks.items import flights_csv
from benchmarks.machine import ROOT, load_line, machine_lines
from benchmarks.service import service

COMMAND: Final = "make bench"
COUNT: Final = 50_000
WORKERS: Final = 2
START, END = "<!-- performance: written by make bench -->", "<!-- end of performance -->"
DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "performance.md"


def main(names: list[str]) -> None:
    """All sections take about half an hour, on a machine that should do nothing else."""
    if names == ["model"]:
        model.write()
        return
    unknown = set(names) - set(SECTIONS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(SECTIONS)}")
    machine = machine_lines()
    page = PAGE.read_text().split("\n## ") if names else ["\n".join(_introduction(machine))]
    for name in names or SECTIONS:
        print(name, flush=True)
        text = "\n".join(SECTIONS[name]()).strip().removeprefix("## ") + "\n"
        if names:
            text += f"\nMeasured by `python -m benchmarks.report {name}`, on:\n\n"
            text += "\n".join([*machine, load_line("after")]) + "\n"
        title = text.partition("\n")[0]
        places = [n for n, old in enumerate(page) if old.partition("\n")[0] == title]
        if places:
            page[places[0]] = text
        else:
            page.append(text)
        PAGE.write_text("\n## ".join(page))


def _introduction(machine: list[str]) -> Iterator[str]:
    yield f"""# Performance

This page is for engineers who want figures: how fast each strategy and kernel is, what the service
costs beside them, how much memory it takes, and how quickly it answers meanwhile. `{COMMAND}`
writes it; do not edit it. Sections that name no machine of their own were measured in one go, on:
"""
    yield from machine
    yield """
How to read the figures:

- Seconds are wall time. Items in flight are items that wait for I/O at the same time.
- A ratio is computed for each round; the median of the rounds is shown. So a machine that changes
  its pace during the measurement changes both sides.
- `/health` was asked 50 times a second at a fixed rate. Its latency counts from the moment at which
  a request was due. With several rounds the worst one is shown.
- Commit, system and load say on which state of code and machine a section was measured.
"""


def _cells() -> Iterator[str]:
    with service() as (server, _):
        measured = cells.measure(server, flights_csv(COUNT), WORKERS)
    _update_readme(machine_lines(), measured)
    worst = max(h.p99 for cell in measured for h in cell.health)
    yield f"""## {COUNT:,} items through every strategy × kernel

The items are {COUNT:,} flights: the 1,000 of the example, repeated, each computed anew.
Parameters are the defaults (20,000 iterations and 100 × 200), without I/O, with {WORKERS} workers
and batches of 2,500. The table has seconds from request to answer over HTTP, with the upload;
medians:
"""
    yield from cells.seconds_table(measured)
    yield f"""
The same in detail, with the latency of `/health` during every run. The worst p99 of all runs is
{worst:.1f} ms.
"""
    yield from cells.details_table(measured)
    yield ""


def _kernels() -> Iterator[str]:
    yield "## Kernels against each other and against other implementations (peers)"
    yield ""
    yield kernel_benchmark.markdown(kernel_benchmark.measure())
    yield from instructions.lines(instructions.measure())


def _jobs() -> Iterator[str]:
    with service() as (server, folder):
        seconds = jobs.measure(server, folder)
    plots.bars(
        DOCS / "performance-jobs.svg",
        f"{jobs.COUNT:,} items, {jobs.WORKERS} workers",
        "seconds: median, least and most of the rounds",
        {
            f"{name.strip('`')} ({kernel})": (statistics.median(v), min(v), max(v))
            for (name, kernel), v in seconds.items()
        },
    )
    sequential = seconds["`sequential`", "our kernel"]
    threading = seconds["`threading`", "our kernel"]
    gain = jobs.median_ratio(sequential, threading)
    yield f"""## The batch job: our strategies and other libraries

{jobs.COUNT:,} flights, {jobs.WORKERS} workers, batches of {jobs.BATCH:,}, pools warm,
{jobs.ROUNDS["our kernel"]} interleaved rounds ({jobs.ROUNDS["plain Cython"]} of the plain loop).

- The other libraries compute the same batches in the measuring process, or in their own worker
  processes, and throw the results away. Our strategies run in a run host, and also compute
  checksums, store the results and report them.
- "our kernel" is `cython`. "plain Cython" is the same loop as a plain Cython program has it.
- The last column compares a strategy with the executor that it uses.
"""
    yield from jobs.table(seconds)
    yield f"""
`threading` is {gain:.2f} × as fast as `sequential`.

![Seconds of the batch job](performance-jobs.svg)
"""


def _growth() -> Iterator[str]:
    with service() as (server, _):
        counts, batches = growth.measure_counts(server), growth.measure_batches(server)
    plots.lines(
        DOCS / "performance-items.svg",
        "Seconds against the number of items (a hundredth of the default work each)",
        ("items", "seconds"),
        growth.COUNTS,
        counts,
    )
    plots.lines(
        DOCS / "performance-batches.svg",
        f"Seconds for {growth.ITEMS:,} items against the batch size",
        ("items a batch", "seconds"),
        growth.BATCH_SIZES,
        batches,
    )
    yield f"""## Growth with the number of items, and the cost of a batch

The first table has 1,000 to 10,000,000 items in batches of 5,000; the second {growth.ITEMS:,}
items in batches of 1 to 100,000. Both use `cython` and 2 workers. An item has a hundredth of the
default work, so that the cost of the service's layers shows.
"""
    yield from growth.table(growth.COUNTS, "items", counts)
    yield ""
    yield from growth.table(growth.BATCH_SIZES, "items a batch", batches)
    yield ""
    yield from growth.overheads(batches)
    yield """
For comparison, the rules of other libraries: joblib doubles a batch until it takes 0.2 s, and
halves it over 2 s. TBB considers work under about a million cycles (0.3 ms) not worth a task of
its own.

![Seconds against items](performance-items.svg)

![Seconds against batch size](performance-batches.svg)
"""


def _cold() -> Iterator[str]:
    yield f"""
## The first request after the service is ready

{cold.COUNT:,} items in batches of 1,000, 2 workers. Each line was measured on a service that was
started for it. Kernels are loaded and compiled before the service is ready. Worker processes
start with the first run that needs them (`setup_seconds`), compile in turn, and stay. "Steady" is
the median of the next {cold.FOLLOWING} runs.
"""
    yield from cold.table(cold.measure())


def _update_readme(machine: list[str], measured: list[cells.Cell]) -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit("README.md has no place for the table")
    lines = ["", "", *cells.seconds_table(measured), "", *machine, "", ""]
    readme.write_text(before + START + "\n".join(lines) + END + after)


SECTIONS: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "cells": _cells,
    "kernels": _kernels,
    "jobs": _jobs,
    "growth": _growth,
    "memory": memory.section,
    "io": io.section,
    "redis": redis_reads.section,
    "results": results.section,
    "calls": calls.section,
    "tasks": small_tasks.section,
    "app": in_app.section,
    "background": background.section,
    "nodes": nodes.section,
    "clusters": clusters.section,
    "watchers": watchers.section,
    "cold": _cold,
}

if __name__ == "__main__":
    main(sys.argv[1:])
