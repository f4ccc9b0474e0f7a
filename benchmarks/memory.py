"""Peak memory against the number of items."""

from __future__ import annotations

from typing import Final

from app.names import StrategyName
from tests.fixtures.server import Server

COUNTS: Final = (50_000, 2_000_000)
LIGHT: Final = {"cpu_iterations": 20, "outer_iterations": 1, "inner_iterations": 20}


def measure(server: Server) -> dict[str, list[int]]:
    """Peak bytes of a run by strategy, one for each of COUNTS. Memory, not speed: the kernel does
    little, so that two million items take seconds.
    """
    peaks: dict[str, list[int]] = {}
    for strategy in StrategyName:
        body = {"kernel": "cython", "workers": 2, "db": "none", "cache": "none"}
        for count in (COUNTS[0], *COUNTS):  # the first only warms up
            response = server.run(strategy, items_count=count, parameters=LIGHT, **body)
            response.raise_for_status()
            peaks.setdefault(strategy, []).append(response.json()["peak_memory_bytes"])
        peaks[strategy].pop(0)
    return peaks


def table(peaks: dict[str, list[int]]) -> list[str]:
    """Markdown."""
    heads = " | ".join(f"{count:,} items" for count in COUNTS)
    lines = [f"| strategy | {heads} | ratio |", "| --- | ---: | ---: | ---: |"]
    for strategy, (few, many) in peaks.items():
        lines.append(
            f"| `{strategy}` | {few / 1e6:.1f} MB | {many / 1e6:.1f} MB | {many / few:.3f} |"
        )
    return lines
