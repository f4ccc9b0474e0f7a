"""A batch job through our strategies and through other libraries that people use."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import dask
import joblib
import numpy as np
import numpy.typing as npt

from benchmarks.items import flights_csv, flights_file
from benchmarks.machine import ROOT
from benchmarks.peers.build import build_cython_peer
from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.sources.item_file import FileItems
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import Server

COUNT: Final = 50_000
BATCH: Final = 2_500
WORKERS: Final = 2
ROUNDS: Final = {"our kernel": 9, "plain Cython": 3}
"""A round of the plain loop takes a minute."""

Arrays = dict[str, npt.NDArray[Any]]
Job = Callable[[FileItems, int], Arrays]


def our_kernel(items: FileItems, start: int) -> Arrays:
    """The code of a user: load the columns, call the kernel, return the outputs."""
    batch = items.load("loops", start, BATCH)
    return kernels.get_kernel("loops", "cython").run(batch.columns)


def plain_loop(items: FileItems, start: int) -> Arrays:
    """Compute a batch as `our_kernel` does, on a plainly compiled loop."""
    batch = items.load("loops", start, BATCH)
    peer = plain_cython()
    loop, nested = np.empty(BATCH), np.empty(BATCH, dtype=np.int64)
    peer.loop(batch.columns["value"], 20_000, loop)
    peer.nested(batch.columns["offset"], 100, 200, nested)
    return {"loop": loop, "nested": nested}


@cache
def plain_cython() -> ModuleType:
    """Built by the first process that asks, found ready by the others."""
    return build_cython_peer("plain_cython", ROOT / "build" / "peers")


JOBS: Final[dict[str, Job]] = {"our kernel": our_kernel, "plain Cython": plain_loop}


@dataclass(frozen=True, slots=True)
class Competitor:
    """A way to run the job; `run` returns the seconds it took."""

    name: str
    kernel: str
    run: Callable[[], float]


def measure(server: Server, folder: Path) -> dict[tuple[str, str], list[float]]:
    """Seconds by (name, kernel), one for each of ROUNDS interleaved rounds, pools warm."""
    items = flights_file(folder, COUNT)
    plain_cython()
    with ExitStack() as stack:
        competitors = [
            *_ours(server),
            *(
                Competitor(name, kernel, _timed(stack.enter_context(make(items, job))))
                for kernel, job in JOBS.items()
                for name, make in PEERS.items()
            ),
        ]
        seconds: dict[tuple[str, str], list[float]] = {(c.name, c.kernel): [] for c in competitors}
        for number in range(-1, max(ROUNDS.values())):  # the first only warms up
            for competitor in competitors:
                if number < ROUNDS[competitor.kernel]:
                    taken = competitor.run()
                    if number >= 0:
                        seconds[competitor.name, competitor.kernel].append(taken)
            print(f"  jobs, round {number + 1}", flush=True)
    return seconds


def _ours(server: Server) -> Iterator[Competitor]:
    content = flights_csv(COUNT)

    def make(strategy: str) -> Callable[[], float]:
        def run() -> float:
            response = server.upload(
                content, strategy=strategy, kernel="cython", workers=WORKERS, batch_size=BATCH
            )
            response.raise_for_status()
            # The duration: reading the upload is no part of a run, and the peers do not either.
            return float(response.json()["duration_seconds"])

        return run

    for strategy in LOCAL_STRATEGIES:
        yield Competitor(f"`{strategy}`", "our kernel", make(strategy))


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return run


STARTS: Final = range(0, COUNT, BATCH)
Call = Callable[[], object]
Calls = Iterator[Call]


@contextmanager
def _threads(items: FileItems, job: Job) -> Calls:
    with ThreadPoolExecutor(WORKERS) as executor:
        yield lambda: list(executor.map(job, [items] * len(STARTS), STARTS))


@contextmanager
def _processes(items: FileItems, job: Job) -> Calls:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as executor:
        yield lambda: list(executor.map(job, [items] * len(STARTS), STARTS))


@contextmanager
def _pool(items: FileItems, job: Job) -> Calls:
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield lambda: pool.starmap(job, [(items, start) for start in STARTS], chunksize=1)


@contextmanager
def _joblib(items: FileItems, job: Job, backend: str) -> Calls:
    with joblib.Parallel(WORKERS, backend=backend) as parallel:
        yield lambda: parallel(joblib.delayed(job)(items, start) for start in STARTS)


@contextmanager
def _dask(items: FileItems, job: Job, scheduler: str) -> Calls:
    def run() -> object:
        calls = [dask.delayed(job)(items, start) for start in STARTS]
        return dask.compute(*calls, **options)

    options: dict[str, Any] = {"scheduler": scheduler, "num_workers": WORKERS}
    if scheduler == "threads":
        yield run
        return
    # Given a pool, it keeps its processes from call to call, as the others do.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        options["pool"] = pool
        yield run


PEERS: Final[dict[str, Callable[[FileItems, Job], AbstractContextManager[Call]]]] = {
    "ThreadPoolExecutor": _threads,
    "ProcessPoolExecutor": _processes,
    "multiprocessing.Pool": _pool,
    "joblib, threads": lambda items, job: _joblib(items, job, "threading"),
    "joblib, loky": lambda items, job: _joblib(items, job, "loky"),
    "Dask, threads": lambda items, job: _dask(items, job, "threads"),
    "Dask, processes": lambda items, job: _dask(items, job, "processes"),
}

BARE: Final = {
    f"`{StrategyName.THREADING}`": "ThreadPoolExecutor",
    f"`{StrategyName.HYBRID}`": "ThreadPoolExecutor",
    f"`{StrategyName.MULTIPROCESSING}`": "multiprocessing.Pool",
    f"`{StrategyName.CONCURRENT_FUTURES}`": "ProcessPoolExecutor",
}
"""The job that a strategy is compared with."""


def table(seconds: dict[tuple[str, str], list[float]]) -> list[str]:
    """Markdown: seconds, items a second, and what our layers cost over what they stand on."""
    lines = [
        "| | kernel | median s | least … most | items / s | over its bare executor |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    ranked = sorted(seconds.items(), key=lambda entry: statistics.median(entry[1]))
    for (name, kernel), values in ranked:
        over = ""
        if name in BARE:
            over = f"{median_ratio(values, seconds[BARE[name], kernel]):.3f} of {BARE[name]}"
        median = statistics.median(values)
        lines.append(
            f"| {name} | {kernel} | {median:.3f} | {min(values):.3f} … {max(values):.3f} | "
            f"{COUNT / median:,.0f} | {over} |"
        )
    return lines


def median_ratio(values: list[float], baseline: list[float]) -> float:
    """Median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(values, baseline, strict=True))
