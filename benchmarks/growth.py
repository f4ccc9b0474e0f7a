"""Growth of time with the number of items, and the cost of batches of 1 to 100,000 items."""

from __future__ import annotations

import statistics
from typing import Any, Final

from tests.fixtures.server import Server

COUNTS: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BATCH_SIZES: Final = (1, 10, 100, 1_000, 10_000, 100_000)
STRATEGIES: Final = ("sequential", "threading", "multiprocessing", "concurrent-futures")
ROUNDS: Final = 3
ITEMS: Final = 100_000
"""Items of the runs with different batch sizes."""

LIGHT: Final = {"cpu_iterations": 200, "outer_iterations": 1, "inner_iterations": 200}
"""A hundredth of the default work: here the layers are to be seen, not the kernel."""


def measure_counts(server: Server) -> dict[str, list[float]]:
    """Median duration by strategy, one for each of COUNTS, batches of 5,000."""
    return {
        strategy: [
            _median(server, strategy, items_count=count, batch_size=5_000) for count in COUNTS
        ]
        for strategy in STRATEGIES
    }


def measure_batches(server: Server) -> dict[str, list[float]]:
    """Median duration by strategy, ITEMS items, one for each of BATCH_SIZES."""
    return {
        strategy: [
            _median(server, strategy, items_count=ITEMS, batch_size=size) for size in BATCH_SIZES
        ]
        for strategy in STRATEGIES
    }


def _median(server: Server, strategy: str, **body: Any) -> float:
    fields = {"kernel": "cython", "workers": 2, "db": "none", "cache": "none"}
    seconds = []
    for _ in range(ROUNDS):
        response = server.run(strategy, parameters=LIGHT, **fields, **body)
        response.raise_for_status()
        seconds.append(float(response.json()["duration_seconds"]))
    print(f"  {strategy} {body}: {statistics.median(seconds):.3f} s", flush=True)
    return statistics.median(seconds)


def table(heads: tuple[int, ...], what: str, seconds: dict[str, list[float]]) -> list[str]:
    """Markdown: strategies down, `heads` across."""
    lines = [
        f"| seconds, {what} | " + " | ".join(f"{head:,}" for head in heads) + " |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for strategy, values in seconds.items():
        lines.append(f"| `{strategy}` | " + " | ".join(f"{v:.4g}" for v in values) + " |")
    return lines


def overheads(batches: dict[str, list[float]]) -> list[str]:
    """Markdown list: what a batch costs beside its items, from the smallest and the largest."""
    lines = []
    for strategy, values in batches.items():
        few, many = ITEMS / BATCH_SIZES[-1], ITEMS / BATCH_SIZES[0]
        cost = (values[0] - values[-1]) / (many - few)
        lines.append(
            f"- `{strategy}`: a batch costs {cost * 1e6:,.0f} µs beside its items; a batch of "
            f"{cost / 0.01 * 1e3:,.0f} ms keeps that under 1 %"
        )
    return lines
