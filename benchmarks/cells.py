"""Every strategy × kernel over HTTP, and what the API was like meanwhile."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.probing import HealthProbe, Latencies
from hotloop import kernels
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import Server

ROUNDS = {"python": 1, "cython": 3, "numba": 3}
"""A round of the python kernel takes a quarter of an hour."""


@dataclass(slots=True)
class Cell:
    """A strategy × kernel; the client measures the seconds from request to answer."""

    strategy: str
    kernel: str
    seconds: list[float] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    health: list[Latencies] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(server: Server, content: bytes, workers: int) -> list[Cell]:
    """Rounds over all cells, after one untimed small run of each. Raises RuntimeError when the
    outputs of one kernel differ.
    """
    names = kernels.available_kernels("loops")
    cells = [Cell(strategy, kernel) for kernel in names for strategy in LOCAL_STRATEGIES]
    small = content[: content.index(b"\n", 2_000) + 1]
    for cell in cells:
        _upload(server, small, cell, workers)
    for number in range(max(ROUNDS.values())):
        for cell in cells:
            if number < ROUNDS[cell.kernel]:
                with HealthProbe(server.port) as probe:
                    started = time.perf_counter()
                    cell.results.append(_upload(server, content, cell, workers))
                    cell.seconds.append(time.perf_counter() - started)
                cell.health.append(probe.latencies())
                print(f"  {cell.strategy} × {cell.kernel}: {cell.seconds[-1]:.2f} s", flush=True)
    for kernel in names:
        checksums = {r["checksum"] for c in cells if c.kernel == kernel for r in c.results}
        if len(checksums) != 1:
            raise RuntimeError(f"the runs of {kernel} do not agree: {checksums}")
    return cells


def _upload(server: Server, content: bytes, cell: Cell, workers: int) -> dict[str, Any]:
    response = server.upload(
        content, strategy=cell.strategy, kernel=cell.kernel, workers=workers, batch_size=2_500
    )
    response.raise_for_status()
    result: dict[str, Any] = response.json()
    if result["status"] != "completed":
        raise RuntimeError(f"{cell.strategy} × {cell.kernel} ended {result['status']}")
    return result


def seconds_table(cells: list[Cell]) -> list[str]:
    """Markdown: strategies down, kernels across."""
    names = list(dict.fromkeys(cell.kernel for cell in cells))
    lines = ["| strategy | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        row = {cell.kernel: cell for cell in cells if cell.strategy == strategy}
        lines.append(f"| `{strategy}` | " + " | ".join(_seconds(row[n]) for n in names) + " |")
    return lines


def _seconds(cell: Cell) -> str:
    return f"{cell.median:.1f}" if cell.median >= 20 else f"{cell.median:.2f}"


def details_table(cells: list[Cell]) -> list[str]:
    """Markdown: a line for each cell."""
    lines = [
        "| strategy × kernel | rounds | seconds (least … most) | CPU | peak MB | "
        "`/health` ms p50 / p99 / most | loop lag ms p99 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in cells:
        results = cell.results
        lines.append(
            f"| `{cell.strategy}` × `{cell.kernel}` | {len(cell.seconds)} | "
            f"{cell.median:.2f} ({min(cell.seconds):.2f} … {max(cell.seconds):.2f}) | "
            f"{statistics.median(r['cpu_utilization'] for r in results):.0%} | "
            f"{max(r['peak_memory_bytes'] for r in results) / 1e6:.0f} | "
            f"{statistics.median(h.p50 for h in cell.health):.1f} / "
            f"{max(h.p99 for h in cell.health):.1f} / {max(h.max for h in cell.health):.1f} | "
            f"{max(r['event_loop_lag_ms']['p99'] for r in results):.1f} |"
        )
    return lines
