"""Ray and Dask beside a ProcessPoolExecutor: CPU time of a batch, and memory of the run host."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

import psutil

from benchmarks.service import service
from hotloop import kernels
from hotloop.app.comparison.intervals import ratios
from hotloop.app.names import CLUSTERS, LOCAL_CLUSTER, StrategyName
from hotloop.app.process_tree import resident_bytes
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan, Strategy
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES

ROUNDS: Final = 5
WORKERS: Final = 2
BATCH_SECONDS: Final = (0.05, 0.005, 0.0005)
RUN_SECONDS: Final = 4.0
"""Seconds of computing in each run."""

POOL: Final = StrategyName.CONCURRENT_FUTURES
ENGINES: Final = tuple(sorted(CLUSTERS))

COUNTS: Final = (1_000_000, 10_000_000)
LIGHT: Final = {"cpu_iterations": 20, "outer_iterations": 1, "inner_iterations": 20}
SAMPLE_SECONDS: Final = 0.02


def section() -> Iterator[str]:
    """The lines of the report."""
    cpu, wall = asyncio.run(_measure())
    yield f"""## Clusters

Local clusters with {WORKERS} workers, `loops` × `cython`, default work. All strategies in turns,
{ROUNDS} rounds; CPU time of the run host, its driver, the cluster (scheduler or head, nodes,
workers), divided by the number of batches; medians, in ms.

| kernel time of a batch | {" | ".join(f"`{name}`" for name in (POOL, *ENGINES))} |
| ---: | {" | ".join("---:" for _ in (POOL, *ENGINES))} |"""
    for batch in BATCH_SECONDS:
        cells = [f"{1e3 * median(cpu[POOL, batch]):.2f}"]
        for name in ENGINES:
            times = ratios(cpu[name, batch], cpu[POOL, batch])
            cells.append(f"{1e3 * median(cpu[name, batch]):.2f} ({times.text(2)} ×)")
        yield f"| {1e3 * batch:g} ms | {' | '.join(cells)} |"
    yield (
        """
Seconds of the same runs, medians:

| kernel time of a batch | """
        + " | ".join(f"`{name}`" for name in (POOL, *ENGINES))
        + " |"
    )
    yield f"| ---: | {' | '.join('---:' for _ in (POOL, *ENGINES))} |"
    for batch in BATCH_SECONDS:
        seconds = (f"{median(wall[name, batch]):.2f}" for name in (POOL, *ENGINES))
        yield f"| {1e3 * batch:g} ms | {' | '.join(seconds)} |"
    yield (
        """
Most resident memory of the run host during a run with light work, in MiB:

| strategy | """
        + " | ".join(f"{count:,} items" for count in COUNTS)
        + " | ratio |"
    )
    yield f"| --- | {' | '.join('---:' for _ in COUNTS)} | ---: |"
    for name in ENGINES:
        peaks = _peaks(name)
        texts = " | ".join(f"{peak / (1 << 20):.0f}" for peak in peaks)
        yield f"| `{name}` | {texts} | {peaks[-1] / peaks[0]:.2f} |"


Seconds = dict[tuple[str, float], list[float]]


async def _measure() -> tuple[Seconds, Seconds]:
    configs = [ClusterConfig(name, LOCAL_CLUSTER, WORKERS) for name in ENGINES]
    pools = Pools(PoolLimits(WORKERS, WORKERS, WORKERS), clusters=configs)
    strategies = {name: STRATEGIES[name](pools) for name in (POOL, *ENGINES)}
    cpu, wall = (
        defaultdict[tuple[str, float], list[float]](list),
        defaultdict[tuple[str, float], list[float]](list),
    )
    item = _item_seconds()
    for batch in BATCH_SECONDS:
        for number in range(-1, ROUNDS):
            for name in sorted(strategies, reverse=bool(number % 2)):
                plan = _plan(name, batch, item)
                used, took = await _run(strategies[name], plan)
                if number >= 0:  # the first round only warms up
                    batches = plan.item_count / plan.batch_size
                    cpu[name, batch].append(used / batches)
                    wall[name, batch].append(took)
        print(f"  clusters: batches of {1e3 * batch:g} ms", flush=True)
    await pools.close()
    return cpu, wall


def _item_seconds() -> float:
    """Seconds of an item in a large call."""
    workload, kernel = kernels.get_workload("loops"), kernels.get_kernel("loops", "cython")
    columns = GeneratedItems(4_000).load("loops", 0, 4_000).columns
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        kernel.run(columns, workload.resolve_parameters({}))
        taken.append(time.perf_counter() - started)
    return median(taken) / 4_000


def _plan(name: StrategyName, batch_seconds: float, item_seconds: float) -> Plan:
    size = max(1, round(batch_seconds / item_seconds))
    count = round(RUN_SECONDS / item_seconds)
    return Plan(
        workload="loops",
        kernel="cython",
        strategy=name,
        items=GeneratedItems(count - count % size),
        stages=(),
        parameters=kernels.get_workload("loops").resolve_parameters({}),
        batch_size=size,
        workers=WORKERS,
        io_concurrency=1,
        batch_seconds=batch_seconds,
    )


async def _run(strategy: Strategy, plan: Plan) -> tuple[float, float]:
    """Return the CPU seconds of all processes below this one, and the seconds."""
    await strategy.prepare(plan)
    before, started = _cpu_seconds(), time.perf_counter()
    async for _ in strategy.run(plan):
        pass
    return _cpu_seconds() - before, time.perf_counter() - started


def _cpu_seconds() -> float:
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _peaks(name: StrategyName) -> list[int]:
    """Return the most bytes of the run host for each of COUNTS."""
    peaks = []
    with service(**{f"{name}_address": LOCAL_CLUSTER}) as (server, _):
        (host,) = server.run_hosts()
        body: dict[str, Any] = {"kernel": "cython", "db": "none", "cache": "none"}
        body |= {"batch_size": 5_000, "parameters": LIGHT}
        for count in (COUNTS[0], *COUNTS):  # the first only warms up
            with _sampled(host) as sizes:
                server.run(name, items_count=count, **body).raise_for_status()
            peaks.append(max(sizes))
        print(f"  clusters: memory of {name}", flush=True)
    return peaks[1:]


@contextmanager
def _sampled(process: psutil.Process) -> Iterator[list[int]]:
    """The resident bytes of a process, sampled until the block ends."""
    sizes = [resident_bytes(process)]
    ending = threading.Event()

    def sample() -> None:
        while not ending.wait(SAMPLE_SECONDS):
            sizes.append(resident_bytes(process))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield sizes
    finally:
        ending.set()
        thread.join()
