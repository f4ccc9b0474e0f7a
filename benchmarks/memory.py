"""Peak memory against the number of items."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from app.names import StrategyName
from tests.fixtures.server import running_server

COUNTS: Final = (50_000, 2_000_000)
LIGHT: Final = {"cpu_iterations": 20, "outer_iterations": 1, "inner_iterations": 20}


def measure() -> dict[str, list[int]]:
    """Peak bytes of a run by strategy, one for each of COUNTS; each strategy on a service of its
    own, so that no other's pools are counted. Memory, not speed: the kernel does little, so that
    two million items take seconds.
    """
    peaks: dict[str, list[int]] = {}
    body: dict[str, Any] = {"kernel": "cython", "workers": 2, "db": "none", "cache": "none"}
    for strategy in StrategyName:
        with (
            tempfile.TemporaryDirectory() as folder,
            running_server(Path(folder), run_hosts=1) as server,
        ):
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
