"""`python -m benchmarks.report`: measure everything, and write docs/performance.md and the table
in README.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import cells, memory, overhead
from benchmarks.items import flights_csv
from benchmarks.machine import ROOT, machine_lines
from tests.fixtures.server import running_server

COMMAND: Final = "make bench"
COUNT: Final = 50_000
WORKERS: Final = 2
START, END = "<!-- performance: written by make bench -->", "<!-- end of performance -->"


def main() -> None:
    """Takes about half an hour, on a machine that does nothing else."""
    machine = machine_lines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # One run host, so that every run finds the pools that the one before left.
        with running_server(folder, run_hosts=1, sync_limit_seconds=3_600) as server:
            server.client.timeout = 3_600
            print("overhead", flush=True)
            seconds = overhead.measure(server, folder)
            print("memory", flush=True)
            peaks = memory.measure(server)
            print("cells", flush=True)
            measured = cells.measure(server, flights_csv(COUNT), WORKERS)
    text = "\n".join(_report(machine, seconds, peaks, measured))
    (ROOT / "docs" / "performance.md").write_text(text)
    _update_readme(machine, measured)


def _report(
    machine: list[str],
    seconds: dict[str, list[float]],
    peaks: dict[str, list[int]],
    measured: list[cells.Cell],
) -> list[str]:
    gain = overhead.median_ratio(seconds["sequential"], seconds["threading"])
    worst = max(h.p99 for cell in measured for h in cell.health)
    return [
        "# Performance",
        "",
        f"Written by `{COMMAND}`; do not edit. Every figure was measured in one go, over HTTP, on:",
        "",
        *machine,
        "",
        "Seconds are wall time. Ratios are taken round by round and then their median, so that a",
        "machine that changes its pace meanwhile changes both sides.",
        "",
        f"## {COUNT:,} items through every strategy × kernel",
        "",
        f"{COUNT:,} flights with the default parameters (20,000 iterations and 100 × 200), no I/O,",
        f"{WORKERS} workers, batches of 2,500; seconds from request to answer, with the upload;",
        "medians:",
        "",
        *cells.seconds_table(measured),
        "",
        "The same in detail. `/health` was asked 50 times a second during every run, at a fixed",
        "rate, and its latency counts from the moment a request was due; of several rounds the",
        f"worst is shown. Worst p99 of all runs: {worst:.1f} ms.",
        "",
        *cells.details_table(measured),
        "",
        "## What the layers cost, and what threads gain",
        "",
        f"{COUNT:,} flights, `{overhead.KERNEL}` kernel, {overhead.WORKERS} workers, batches of "
        f"{overhead.BATCH:,},",
        f"{overhead.ROUNDS} interleaved rounds, pools warm. The bare executors do the same batches",
        "in the measuring process and throw the results away; ours, in a run host, also checksums,",
        "stores and reports them.",
        "",
        *overhead.table(seconds),
        "",
        f"`threading` is {gain:.2f} × as fast as `sequential` (median "
        f"{statistics.median(seconds['sequential']):.2f} s).",
        "",
        "## Memory does not depend on the number of items",
        "",
        "Most memory that the run host and its workers held together, `cython` kernel, 2 workers,",
        "batches of 5,000:",
        "",
        *memory.table(peaks),
        "",
    ]


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
