"""`python -m benchmarks.report`: measure everything, and write docs/performance.md, its plots, and
the table in README.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import cells, cold, growth, instructions, jobs, memory, plots
from benchmarks import kernels as kernel_benchmark
from benchmarks.items import flights_csv
from benchmarks.machine import ROOT, machine_lines
from tests.fixtures.server import running_server

COMMAND: Final = "make bench"
COUNT: Final = 50_000
WORKERS: Final = 2
START, END = "<!-- performance: written by make bench -->", "<!-- end of performance -->"
DOCS: Final = ROOT / "docs"


def main() -> None:
    """Takes about half an hour, on a machine that should do nothing else."""
    machine = machine_lines()
    print("kernels", flush=True)
    kernel_lines = kernel_benchmark.markdown(kernel_benchmark.measure()).splitlines()
    kernel_lines += ["", *instructions.lines(instructions.measure())]
    print("cold", flush=True)
    first = cold.measure()
    print("memory", flush=True)
    peaks = memory.measure()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # One run host, so that every run finds the pools that the one before left.
        with running_server(folder, run_hosts=1, sync_limit_seconds=3_600) as server:
            server.client.timeout = 3_600
            print("jobs", flush=True)
            seconds = jobs.measure(server, folder)
            print("growth", flush=True)
            counts = growth.measure_counts(server)
            batches = growth.measure_batches(server)
            print("cells", flush=True)
            measured = cells.measure(server, flights_csv(COUNT), WORKERS)
    _draw(seconds, counts, batches)
    text = [
        "# Performance",
        "",
        f"Written by `{COMMAND}`; do not edit. Every figure was measured in one go, on:",
        "",
        *machine,
        "",
        "Seconds are wall time. Ratios are taken round by round and then their median, so that a",
        "machine that changes its pace meanwhile changes both sides.",
        "",
        *_cells(measured),
        *_kernels(kernel_lines),
        *_jobs(seconds),
        *_growth(counts, batches),
        *_memory(peaks),
        *_cold(first),
    ]
    (DOCS / "performance.md").write_text("\n".join(text).rstrip() + "\n")
    _update_readme(machine, measured)


def _draw(
    seconds: dict[tuple[str, str], list[float]],
    counts: dict[str, list[float]],
    batches: dict[str, list[float]],
) -> None:
    plots.bars(
        DOCS / "performance-jobs.svg",
        f"{jobs.COUNT:,} items, {jobs.WORKERS} workers",
        "seconds: median, least and most of the rounds",
        {
            f"{name.strip('`')} ({kernel})": (statistics.median(v), min(v), max(v))
            for (name, kernel), v in seconds.items()
        },
    )
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


def _cells(measured: list[cells.Cell]) -> Iterator[str]:
    worst = max(h.p99 for cell in measured for h in cell.health)
    yield f"""## {COUNT:,} items through every strategy × kernel

{COUNT:,} flights with the default parameters (20,000 iterations and 100 × 200), no I/O,
{WORKERS} workers, batches of 2,500, over HTTP; seconds from request to answer, with the upload;
medians:
"""
    yield from cells.seconds_table(measured)
    yield f"""
The same in detail. `/health` was asked 50 times a second during every run, at a fixed rate, and its
latency counts from the moment a request was due; of several rounds the worst is shown. Worst p99 of
all runs: {worst:.1f} ms.
"""
    yield from cells.details_table(measured)
    yield ""


def _kernels(lines: list[str]) -> Iterator[str]:
    yield "## Kernels against each other and against peers"
    yield ""
    yield from lines
    yield ""


def _jobs(seconds: dict[tuple[str, str], list[float]]) -> Iterator[str]:
    sequential = seconds["`sequential`", "our kernel"]
    threading = seconds["`threading`", "our kernel"]
    gain = jobs.median_ratio(sequential, threading)
    yield f"""## The batch job: our strategies and what else people use

{jobs.COUNT:,} flights, {jobs.WORKERS} workers, batches of {jobs.BATCH:,}, pools warm,
{jobs.ROUNDS["our kernel"]} interleaved rounds ({jobs.ROUNDS["plain Cython"]} of the plain loop).
The peers do the same batches in the measuring process, or in worker processes of their own, and
throw the results away; ours, in a run host, also checksum, store and report them.
"our kernel" is `cython`; "plain Cython" is the same loop as a plain Cython program has it.
"""
    yield from jobs.table(seconds)
    yield f"""
`threading` is {gain:.2f} × as fast as `sequential`.

![Seconds of the batch job](performance-jobs.svg)
"""


def _growth(counts: dict[str, list[float]], batches: dict[str, list[float]]) -> Iterator[str]:
    yield f"""## Growth

From 1,000 to 10,000,000 items in batches of 5,000, and {growth.ITEMS:,} items in batches of 1 to
100,000; a hundredth of the default work an item, so that the layers show; `cython`, 2 workers.
"""
    yield from growth.table(growth.COUNTS, "items", counts)
    yield ""
    yield from growth.table(growth.BATCH_SIZES, "items a batch", batches)
    yield ""
    yield from growth.overheads(batches)
    yield """
Rules that others use: joblib doubles a batch until it takes 0.2 s and halves it over 2 s; TBB
counts work under about a million cycles (0.3 ms) as not worth a task of its own.

![Seconds against items](performance-items.svg)

![Seconds against batch size](performance-batches.svg)
"""


def _memory(peaks: dict[str, list[int]]) -> Iterator[str]:
    yield """## Memory does not depend on the number of items

Most memory that the run host and its workers held together, `cython` kernel, 2 workers, batches of
5,000, each strategy on a service of its own:
"""
    yield from memory.table(peaks)


def _cold(first: dict[tuple[str, str], cold.Cold]) -> Iterator[str]:
    yield f"""
## The first request after the service is ready

{cold.COUNT:,} items in batches of 1,000, 2 workers; each line on a service started for it. Kernels
are loaded and compiled before the service is ready; worker processes start with the first run that
needs them (`setup_seconds`), compile in turn, and stay. Steady is the median of the next
{cold.FOLLOWING}.
"""
    yield from cold.table(first)


def _update_readme(machine: list[str], measured: list[cells.Cell]) -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit("README.md has no place for the table")
    lines = ["", *cells.seconds_table(measured), "", *machine, ""]
    readme.write_text(before + START + "\n".join(lines) + END + after)


if __name__ == "__main__":
    main()
