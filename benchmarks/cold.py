"""The first request after the service is ready, against those that follow."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import Server, running_server

COUNT: Final = 20_000
FOLLOWING: Final = 5


@dataclass(frozen=True, slots=True)
class Cold:
    """Seconds; `first` and `steady` are durations, which set-up is no part of."""

    ready: float
    setup: float
    first: float
    steady: float


def measure() -> dict[tuple[str, str], Cold]:
    """Seconds by (strategy, kernel), each measured on a new service."""
    measured = {}
    for strategy in LOCAL_STRATEGIES:
        for kernel in ("cython", "numba"):
            with (
                tempfile.TemporaryDirectory() as folder,
                running_server(Path(folder), run_hosts=1) as server,
            ):
                server.wait_ready()
                measured[strategy.value, kernel] = _cold(server, strategy, kernel)
            print(f"  {strategy} × {kernel}", flush=True)
    return measured


def _cold(server: Server, strategy: str, kernel: str) -> Cold:
    def run() -> dict[str, Any]:
        response = server.run(
            strategy,
            items_count=COUNT,
            batch_size=1_000,
            workers=2,
            kernel=kernel,
            db="none",
            cache="none",
        )
        response.raise_for_status()
        result: dict[str, Any] = response.json()
        return result

    kernels = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
    first = run()
    return Cold(
        ready=sum(k["warm_up_seconds"] for k in kernels),
        setup=first["setup_seconds"],
        first=first["duration_seconds"],
        steady=statistics.median(run()["duration_seconds"] for _ in range(FOLLOWING)),
    )


def table(measured: dict[tuple[str, str], Cold]) -> list[str]:
    """Markdown."""
    lines = [
        "| strategy × kernel | kernels loaded and compiled s | set-up of the first run s | "
        "first s | steady s | first ÷ steady |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (strategy, kernel), cold in measured.items():
        lines.append(
            f"| `{strategy}` × `{kernel}` | {cold.ready:.2f} | {cold.setup:.3f} | "
            f"{cold.first:.3f} | {cold.steady:.3f} | {cold.first / cold.steady:.2f} |"
        )
    return lines
