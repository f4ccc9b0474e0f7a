"""What our layers cost over bare executors that do the same batches, and what threads gain."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import kernels
from app.sources.item_file import FileItems
from benchmarks.items import flights_csv, flights_file
from tests.fixtures.server import Server

KERNEL: Final = "cython"
COUNT: Final = 50_000
BATCH: Final = 2_500
WORKERS: Final = 2
ROUNDS: Final = 9

Arrays = dict[str, npt.NDArray[np.generic]]


def compute(items: FileItems, start: int) -> Arrays:
    """What a user would write: load the columns, call the kernel, return the outputs."""
    batch = items.load("loops", start, BATCH)
    return kernels.get_kernel("loops", KERNEL).run(batch.columns)


def measure(server: Server, folder: Path) -> dict[str, list[float]]:
    """Seconds by competitor, one for each of ROUNDS interleaved rounds, pools warm."""
    items = flights_file(folder, COUNT)
    content = flights_csv(COUNT)
    starts = range(0, COUNT, BATCH)

    def bare(executor: Executor) -> Callable[[], object]:
        return lambda: list(executor.map(compute, [items] * len(starts), starts))

    def ours(strategy: str) -> Callable[[], float]:
        def run() -> float:
            response = server.upload(
                content, strategy=strategy, kernel=KERNEL, workers=WORKERS, batch_size=BATCH
            )
            response.raise_for_status()
            return float(response.json()["duration_seconds"])

        return run

    spawn = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(WORKERS) as threads,
        ProcessPoolExecutor(WORKERS, mp_context=spawn) as processes,
    ):
        competitors: dict[str, Callable[[], object]] = {
            "bare ThreadPoolExecutor": bare(threads),
            "threading": ours("threading"),
            "bare ProcessPoolExecutor": bare(processes),
            "concurrent-futures": ours("concurrent-futures"),
            "multiprocessing": ours("multiprocessing"),
            "sequential": ours("sequential"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in competitors}
        for number in range(-1, ROUNDS):  # the first only warms up
            for name, run in competitors.items():
                started = time.perf_counter()
                reported = run()
                elapsed = time.perf_counter() - started
                if number >= 0:
                    # Of a run of ours, its duration: reading the upload is no part of a run.
                    seconds[name].append(reported if isinstance(reported, float) else elapsed)
            print(f"  overhead, round {number + 1} of {ROUNDS}", flush=True)
    return seconds


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Markdown: seconds and the ratio to the named baseline, round by round."""
    against = {
        "threading": "bare ThreadPoolExecutor",
        "concurrent-futures": "bare ProcessPoolExecutor",
        "multiprocessing": "bare ProcessPoolExecutor",
    }
    lines = [
        "| | median s | least … most | against | ratio, median of rounds |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    for name, values in seconds.items():
        baseline = against.get(name)
        ratio = f"{median_ratio(values, seconds[baseline]):.3f}" if baseline else ""
        lines.append(
            f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} … "
            f"{max(values):.3f} | {baseline or ''} | {ratio} |"
        )
    return lines


def median_ratio(values: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, baseline, strict=True))
