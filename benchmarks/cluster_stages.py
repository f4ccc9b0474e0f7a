"""CPU seconds that each process on the way of parcels takes for a parcel, a batch and an item,
measured on a real cluster of two nodes on this machine.

CPU seconds hardly depend on other load, so the processes may share a few CPUs. What they take while
nothing runs is subtracted.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from benchmarks.cluster_scene import Cost
from benchmarks.service import finished, service
from hotloop import kernels
from hotloop.app.frames import write_frame
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.timed_runs import probe_plan
from hotloop.app.runhost.execution import HostResources, execute
from hotloop.app.runhost.measuring import NoGauge
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.cluster.driver_process import DriverProcess
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.cluster.strategy import PARCEL_SECONDS
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from hotloop.app.system import usable_cpu_count
from tests.fixtures.clusters import Cluster, running
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.server import Server
from tests.fixtures.waiting import until

IDLE_SECONDS: Final = 5.0
WORKLOAD: Final = "loops"


@dataclass(frozen=True, slots=True)
class Load:
    """A run that costs one process much for parcels, for batches, or for items."""

    parcels: int
    batches: int
    items: int

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.parcels, self.batches, self.items


ON_CLUSTER: Final = (Load(600, 600, 600), Load(8, 8_000, 8_000), Load(8, 8, 2_000_000))
IN_STORE: Final = (Load(0, 40_000, 40_000), Load(0, 20, 2_000_000))

Times = dict[str, float]
"""CPU seconds of each stage."""

Run = Callable[[Load], Awaitable[None]]


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure_cluster(engine: str) -> dict[str, Cost]:
    """The costs of worker, scheduler, driver and run host."""
    with tempfile.TemporaryDirectory() as folder, running(engine, Path(folder)) as cluster:
        before = dict(os.environ)
        os.environ |= cluster.environment
        try:
            with asyncio.Runner() as runner:
                return runner.run(_on_cluster(StrategyName(engine), cluster))
        finally:
            os.environ.clear()
            os.environ |= before


async def _on_cluster(name: StrategyName, cluster: Cluster) -> dict[str, Cost]:
    pools = Pools(
        PoolLimits(threads=1, processes=1, cpus=1),
        clusters=[ClusterConfig(name, cluster.address, 2)],
    )
    strategy, driver = STRATEGIES[name](pools), pools.drivers[name]
    await driver.ensure()
    await until(lambda: driver.workers == 2, "both nodes are up", 120)
    resources = HostResources(usable_cpu_count(), NoGauge())
    # A reader of the results, as the process is that a run host belongs to.
    reader = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert reader.stdin is not None
    stream = reader.stdin

    async def send(message: object) -> None:
        await write_frame(stream, message)

    async def run(load: Load) -> None:
        report = await execute(_plan(name, load), strategy, resources, send)
        if report.error is not None:
            raise report.error

    try:
        await run(Load(20, 20, 20))
        times = _stages_of(cluster, driver)
        idle = await _idle(times)
        spent = [await _spent(times, idle, run, load) for load in ON_CLUSTER]
    finally:
        stream.close()
        await reader.wait()
        await pools.close()
    return {stage: _cost(ON_CLUSTER, [each[stage] for each in spent]) for stage in idle}


def _stages_of(cluster: Cluster, driver: DriverProcess) -> Callable[[], Times]:
    """The readings of all processes, by the stage that they are counted to. Processes that each
    node has beside its workers are left out: their number grows with the nodes.
    """
    assert cluster.head is not None
    head = psutil.Process(cluster.head.pid)
    processes = {
        "worker": [psutil.Process(pid) for pid in cluster.worker_pids()],
        "scheduler": [head, *head.children(recursive=True)],
        "driver": [psutil.Process(pid) for pid in driver.pids],
        "run host": [psutil.Process()],
    }
    return lambda: {stage: _cpu_seconds(found) for stage, found in processes.items()}


async def _idle(times: Callable[[], Times]) -> Times:
    """CPU seconds of each stage in a second without a run."""
    before = times()
    await asyncio.sleep(IDLE_SECONDS)
    return {stage: (now - before[stage]) / IDLE_SECONDS for stage, now in times().items()}


async def _spent(times: Callable[[], Times], idle: Times, run: Run, load: Load) -> Times:
    before, started = times(), time.monotonic()
    await run(load)
    seconds = time.monotonic() - started
    return {stage: now - before[stage] - seconds * idle[stage] for stage, now in times().items()}


def _plan(name: StrategyName, load: Load) -> Plan:
    """A run without operations, with one batch in each parcel or in eight parcels."""
    return probe_plan(
        WORKLOAD,
        "cython" if kernels.why_unavailable(WORKLOAD, "cython") is None else "numba",
        name,
        items=GeneratedItems(load.items),
        batch_size=load.items // load.batches,
        workers=2,
        batch_seconds=PARCEL_SECONDS if load.parcels == load.batches else 1e-6,
    )


def _cost(loads: tuple[Load, ...], spent: list[float]) -> Cost:
    """Solve for the seconds of a parcel, a batch and an item; none is less than nothing."""
    counts = np.array([load.counts for load in loads], dtype=float)
    found, *_ = np.linalg.lstsq(counts, np.array(spent), rcond=None)
    return Cost(*(max(0.0, float(seconds)) for seconds in found))


def measure_store() -> dict[str, Cost]:
    """The costs of the process that stores results, and of PostgreSQL, which writes to the disk."""
    with _service_on_postgres() as (server, database):
        _finished(server, IN_STORE[0])
        node = psutil.Process(server.process.pid)
        spent, in_database, transactions = [], [], []
        for load in IN_STORE:
            before, took = _cpu_seconds([node]), database()
            written = _written(server)
            _finished(server, load)
            spent.append(_cpu_seconds([node]) - before)
            in_database.append(database() - took)
            transactions.append(_written(server) - written)
    items = [load.items for load in IN_STORE]
    counts = np.array(list(zip(transactions, items, strict=True)), dtype=float)
    a_transaction, an_item = np.linalg.solve(counts, np.array(in_database))
    return {
        "node": _cost(IN_STORE, spent),
        "store": Cost(max(0.0, float(a_transaction)), 0.0, max(0.0, float(an_item))),
    }


@contextmanager
def _service_on_postgres() -> Iterator[tuple[Server, Callable[[], float]]]:
    """A service, and the CPU seconds of its database so far, ended connections included."""
    with (
        running_postgres(fsync="on", full_page_writes="on") as postgres,
        postgres.database() as url,
        service(database_url=url) as (server, _),
    ):
        server.wait_ready()
        root = psutil.Process(postgres.process.pid)

        def seconds() -> float:
            found = [root, *root.children(recursive=True)]
            return sum(sum(process.cpu_times()[:4]) for process in found)

        yield server, seconds


def _written(server: Server) -> int:
    """The number of transactions that have written so far."""
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith('hotloop_store_seconds_count{kind="write"}'):
            return int(float(line.split()[1]))
    raise RuntimeError("/metrics does not count transactions")


def _finished(server: Server, load: Load) -> None:
    idle = kernels.get_workload(WORKLOAD).idle_parameters
    finished(
        server,
        "sequential",
        items_count=load.items,
        batch_size=load.items // load.batches,
        workers=1,
        db="none",
        cache="none",
        parameters=idle,
    )
