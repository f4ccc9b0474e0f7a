"""The strategies `ray` and `dask`: a bounded number of parcels in flight on a cluster."""

from __future__ import annotations

import asyncio
import pickle
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar, Final

from hotloop import kernels
from hotloop.app.errors import ClusterLostError, WorkerCrashedError
from hotloop.app.names import LOCAL_CLUSTER, StrategyName
from hotloop.app.sources.base import Batch
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult, Capabilities, InFlight, Plan
from hotloop.app.strategies.batching import batch_count, cancel_and_wait, iter_batches
from hotloop.app.strategies.cluster import parcels
from hotloop.app.strategies.cluster.driver_process import DriverProcess, WorkerLostError
from hotloop.app.strategies.pools import Pools

PARCEL_SECONDS: Final = 0.75
"""Predicted seconds of a parcel: long beside what passing it on costs, and short enough for
progress, for stopping, and for an even end."""

PARCELS_A_WORKER: Final = 4
"""Least parcels of each worker, if there are as many batches."""

MOST_BATCHES: Final = 1_000
"""The most batches of a parcel."""

PARCEL_BYTES: Final = 4 << 20
"""The most bytes of a parcel with its results, unless a single batch has more: enough that passing
it on costs little for each item, however little the items compute."""

MOST_BYTES: Final = 128 << 20
"""Bytes of all parcels in flight with their results."""

SLOW: Final = 2.0
"""A parcel is given to another worker, too, when it takes this many times as long as others, and no
other work is left for that worker."""

LEAST_SLOW_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25

_RESULT_BYTES: Final = 25
"""Bytes of an item's result beside its output columns: id, mark of failure, frames."""


@dataclass(slots=True)
class _Sent:
    """A parcel in flight, and its copies."""

    batches: tuple[Batch, ...]
    payload: bytes
    since: float = field(default_factory=time.monotonic)
    copies: int = 1
    deaths: int = 0


class OnCluster:
    """Parcels of batches on the workers of a cluster, I/O included."""

    name: ClassVar[StrategyName]
    capabilities = Capabilities(
        parallel=True,
        shares_memory=False,
        needs_gil_release=False,
        overlaps_io=False,
        cancellable="after the batches in work if they end within three seconds, else by killing "
        "their worker processes",
    )

    def __init__(self, pools: Pools) -> None:
        self.in_flight = InFlight()
        self._pools = pools
        self._driver: DriverProcess | None = None
        self._prepared: tuple[object, ...] = ()

    async def prepare(self, plan: Plan) -> int:
        """Raises ClusterLostError, ClusterUnusableError and WorkloadUnusableError, too."""
        driver = self._pools.drivers.get(self.name)
        if driver is None:
            raise ClusterLostError(self.name, "no address is configured")
        self._driver = driver
        await driver.ensure()
        what = plan.workload, plan.kernel, plan.source, *driver.pids
        if what != self._prepared:
            bare = replace(plan, items=GeneratedItems(0), stages=(), ranges=None, memory_bytes=None)
            await driver.prepare(pickle.dumps(bare, protocol=5))
            self._prepared = what
        return min(plan.workers, driver.workers, batch_count(plan))

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        assert self._driver is not None, "prepare() comes first"
        self.in_flight.begin()
        run = _Run(self._driver, plan, self.in_flight)
        try:
            async for result in run.results():
                yield result
        finally:
            await run.end()

    def worker_pids(self, plan: Plan) -> list[int]:
        return [] if self._driver is None else self._driver.pids

    async def close(self) -> None:
        """Do nothing: the drivers belong to the run host."""


class OnRay(OnCluster):
    """Tasks of a Ray cluster."""

    name = StrategyName.RAY


class OnDask(OnCluster):
    """Tasks of a Dask cluster."""

    name = StrategyName.DASK


def parcel_batches(plan: Plan, workers: int) -> int:
    """Return the number of batches of a parcel, by the plan's predicted seconds of a batch."""
    if plan.batch_seconds <= 0:
        return 1
    fair = ceil(batch_count(plan) / (PARCELS_A_WORKER * workers))
    bytes_of_batch = plan.batch_size * _item_bytes(plan)
    fitting = min(PARCEL_BYTES, MOST_BYTES // (2 * workers)) // bytes_of_batch
    wanted = int(PARCEL_SECONDS / plan.batch_seconds)
    return max(1, min(wanted, fair, fitting, MOST_BATCHES))


def _item_bytes(plan: Plan) -> int:
    """Return the bytes of an item that travel: its result, and its inputs if it has any."""
    outputs = 8 * len(kernels.get_workload(plan.workload).columns_out)
    return _RESULT_BYTES + outputs + sent_bytes(plan)


def sent_bytes(plan: Plan) -> int:
    """Return the bytes of an item that travel to a worker; none if the worker makes it up."""
    if isinstance(plan.items, GeneratedItems):
        return 0
    columns = kernels.get_workload(plan.workload).columns_in
    return 8 + 8 * sum(column.width or 1 for column in columns)


class _Run:
    """A run on a cluster, which is executed once."""

    def __init__(self, driver: DriverProcess, plan: Plan, in_flight: InFlight) -> None:
        self._driver = driver
        self._plan = plan
        self._size = parcel_batches(plan, self._workers)
        self._waiting = parcels.cut(iter_batches(plan), self._size)
        self._in_flight = in_flight
        self._name = secrets.token_hex(8)
        self._tasks: dict[asyncio.Task[parcels.Outcome], _Sent] = {}
        self._open: dict[int, _Sent] = {}
        """Parcels without a result, by the index of their first batch."""
        self._batches, self._seconds = 1, plan.batch_seconds
        """The prediction of a batch, and batches so far, with their seconds."""

    @property
    def _workers(self) -> int:
        """The number of workers to keep busy, which follows the size of the cluster."""
        return max(1, min(self._plan.workers, self._driver.workers))

    @property
    def _window(self) -> int:
        """The number of parcels in flight. A worker finds its next parcel at once, unless fewer
        workers are asked for than there are.
        """
        workers = self._workers
        wanted = workers if self._plan.workers < self._driver.workers else 2 * workers
        bytes_of_parcel = self._size * self._plan.batch_size * _item_bytes(self._plan)
        return max(1, min(wanted, MOST_BYTES // bytes_of_parcel))

    async def results(self) -> AsyncGenerator[BatchResult, None]:
        """Yield the result of every batch once, in the order of completion."""
        while True:
            while len(self._open) < self._window:
                if (batches := next(self._waiting, None)) is None:
                    self._copy_slow()
                    break
                await self._begin(batches)
            if not self._open:
                return
            done, _ = await asyncio.wait(
                self._tasks, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                for result in await self._ended(task):
                    self._in_flight.leave(result.batch)
                    yield result

    async def _begin(self, batches: tuple[Batch, ...]) -> None:
        payload = await asyncio.to_thread(parcels.pack, self._name, self._plan, batches)
        for batch in batches:
            self._in_flight.enter(batch)
        sent = self._open[batches[0].index] = _Sent(batches, payload)
        self._send(sent)

    def _send(self, sent: _Sent) -> None:
        self._tasks[asyncio.create_task(self._driver.compute(sent.payload))] = sent

    def _copy_slow(self) -> None:
        """Give the parcel that is slowest by far to an idle worker, too. Equal code gives equal
        bits, so the first result counts.
        """
        if len(self._tasks) >= self._workers:
            return
        usual = self._seconds / self._batches
        for sent in sorted(self._open.values(), key=lambda each: each.since):
            limit = max(LEAST_SLOW_SECONDS, SLOW * usual * len(sent.batches))
            if sent.copies == 1 and time.monotonic() - sent.since > limit:
                sent.copies += 1
                self._send(sent)
                return

    async def _ended(self, task: asyncio.Task[parcels.Outcome]) -> tuple[BatchResult, ...]:
        sent = self._tasks.pop(task)
        first = sent.batches[0].index
        try:
            outcome = task.result()
        except WorkerLostError as error:
            await self._lost(sent, str(error))
            return ()
        if outcome.error is not None:
            raise outcome.error
        if self._open.pop(first, None) is None:
            return ()  # a copy was faster
        self._batches += len(sent.batches)
        self._seconds += outcome.seconds
        if self._driver.config.address == LOCAL_CLUSTER and outcome.results:
            # Its processes are below the run host, which measures them itself.
            return (replace(outcome.results[0], usage=None), *outcome.results[1:])
        return outcome.results

    async def _lost(self, sent: _Sent, cause: str) -> None:
        """Compute a parcel again whose worker is gone."""
        if sent.batches[0].index not in self._open:
            return
        sent.copies -= 1
        sent.deaths += 1
        if sent.deaths > self._plan.max_batch_retries:
            raise WorkerCrashedError(sent.batches[0].index, sent.deaths, cause)
        if sent.copies == 0:
            sent.copies, sent.since = 1, time.monotonic()
            self._send(sent)

    async def end(self) -> None:
        """Stop what is still in flight; returns once nothing of the run is executing any more."""
        await cancel_and_wait(set(self._tasks))
        await self._driver.stop(self._name)
