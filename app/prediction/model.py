"""The cost model: how long a plan will take, and why. Estimates, `auto`, comparisons and
recommendations all use it; docs/model.md has it in formulas.

It does no I/O: a plan and the constants of a machine always give the same prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from hotloop import kernels
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.memory import MemoryCosts, run_bytes
from hotloop.app.prediction.waiting import EventLoop, blocking_seconds, waits_at_once
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.config import SWITCH_SECONDS
from hotloop.app.schemas.recommendation import Limit
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count
from hotloop.app.strategies.cluster.strategy import parcel_batches, sent_bytes
from hotloop.app.strategies.pools import pool_workers
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes
from hotloop.app.strategies.worker import fetcher_count

_LEAST_SECONDS: Final = 1e-9

FORK_SECONDS: Final = 0.05
"""Seconds to start another worker process after the kernel is compiled: 1 … 8 workers took 0.8 …
1.2 s."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The seconds of a run, by kind."""

    waiting: float = 0.0
    computing: float = 0.0
    overhead: float = 0.0
    """Seconds for starting, batches, messages and the event loop."""

    @property
    def seconds(self) -> float:
        return self.waiting + self.computing + self.overhead


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one plan on one machine."""

    seconds: float
    """Seconds from the start to the end of the run, set-up excluded."""
    setup_seconds: float
    memory_bytes: int
    limited_by: Limit
    terms: Terms


def estimate_seconds(plan: Plan, calibration: Calibration) -> float:
    """Return the seconds of `predict`. Raises its LookupError."""
    return predict(plan, calibration).seconds


def predict(plan: Plan, calibration: Calibration) -> Prediction:
    """Predict the plan's costs. Raises LookupError for a kernel that the calibration lacks."""
    return _Model(plan, calibration).prediction()


class _Model:
    """The prediction of one plan on one machine, in the making."""

    def __init__(self, plan: Plan, machine: Calibration) -> None:
        self._plan = plan
        self._machine = machine
        self._kernel = machine.kernel(plan.workload, plan.kernel)
        self._operations = kernels.get_workload(plan.workload).operations(plan.parameters)
        self._count = plan.item_count
        self._batches = batch_count(plan)
        self._size: float = min(plan.batch_size, self._count)
        self._last: float = self._count - (self._batches - 1) * self._size
        if len(plan.item_ranges) > 1:  # batches are cut at the end of each range
            self._size = self._last = self._count / max(1, self._batches)
        if plan.strategy in CLUSTERS:
            self._in_processes = True
            known = machine.cluster(plan.strategy).workers
            self._workers = min(known, self._effective_workers())
            return
        own = machine.strategies[plan.strategy]
        self._own = own
        # `hybrid` passes batches to processes just as `concurrent-futures` does.
        self._in_processes = uses_processes(plan.strategy, self._kernel.releases_gil)
        self._passing = (
            machine.strategies[StrategyName.CONCURRENT_FUTURES]
            if self._in_processes and plan.strategy is StrategyName.HYBRID
            else own
        )
        self._workers = self._effective_workers()

    def _effective_workers(self) -> int:
        if not CAPABILITIES[self._plan.strategy].parallel:
            return 1
        most = pool_workers(self._plan, self._machine.limits, in_processes=self._in_processes)
        return max(1, min(most, self._batches))

    @property
    def _holds_gil(self) -> bool:
        """True if threads take turns; the measured slowdown covers builds without the GIL."""
        cpus, kernel = self._machine.usable_cpus, self._kernel
        alone = cpus == 1 or kernel.thread_slowdown > (1 + cpus) / 2
        return not kernel.releases_gil and not self._in_processes and alone

    def prediction(self) -> Prediction:
        terms = self._terms() if self._count else Terms()
        limits = {
            Limit.IO: terms.waiting,
            Limit.GIL if self._waits_for_gil else Limit.CPU: terms.computing,
            Limit.OVERHEAD: terms.overhead,
        }
        return Prediction(
            seconds=terms.seconds,
            setup_seconds=self._setup_seconds(),
            memory_bytes=self._memory_bytes(),
            limited_by=max(limits, key=lambda limit: limits[limit]),
            terms=terms,
        )

    @property
    def _waits_for_gil(self) -> bool:
        return self._holds_gil and self._workers > 1 and self._machine.usable_cpus > 1

    def _terms(self) -> Terms:
        match self._plan.strategy:
            case StrategyName.SEQUENTIAL:
                return self._sequential()
            case StrategyName.ASYNC_BATCH:
                return self._async_batch()
            case StrategyName.RAY | StrategyName.DASK:
                return self._on_cluster()
            case StrategyName.HYBRID if self._plan.stages:
                return self._hybrid()
            case _:
                return self._workers_alone()

    def _compute_seconds(self, count: float) -> float:
        """Return a batch's seconds in its worker for `count` items: kernel, columns, checksum."""
        kernel = self._kernel.seconds_of_call(self._operations, count)
        return kernel + self._making_seconds(count) + count * self._passing.item_seconds

    def _making_seconds(self, count: float) -> float:
        """Return the seconds to make up the `count` items of a batch."""
        is_made_up = isinstance(self._plan.items, GeneratedItems)
        return self._kernel.making_seconds(count) if is_made_up else 0.0

    def _slowdown(self, busy: float) -> float:
        """Return the factor by which computing is slower while `busy` workers compute at once."""
        cpus = self._machine.usable_cpus
        if cpus == 1 or busy <= 1:
            return 1.0
        full = self._kernel.process_slowdown if self._in_processes else self._kernel.thread_slowdown
        return 1 + (full - 1) * (min(busy, cpus) - 1) / (cpus - 1)

    def _in_line(self) -> float:
        """Return the overhead of batches that follow one another, without the first, which is a
        part of the start.
        """
        computing = self._compute_seconds(self._size)
        return (self._batches - 1) * self._own.batch_seconds(computing)

    def _sequential(self) -> Terms:
        plan, count = self._plan, self._count
        computing = self._sum(self._compute_seconds)
        waiting = 0.0
        if plan.stages:
            overshoot = self._machine.waits.overshoot_seconds
            waiting = count * blocking_seconds(plan.stages, 1, overshoot)
            one = self._kernel.seconds_of_call(self._operations, 1)
            computing = count * (one + self._own.item_seconds) + self._sum(self._making_seconds)
        return Terms(waiting, computing, self._own.start_seconds + self._in_line())

    def _sum(self, seconds: Callable[[float], float]) -> float:
        """Return the sum over all batches of `seconds(n)`, the seconds of a batch of n items."""
        return (self._batches - 1) * seconds(self._size) + seconds(self._last)

    def _workers_alone(self) -> Terms:
        """Predict workers that each wait for a batch's items and compute it, while batches are
        passed on. The slowest of workers, CPUs and passing on decides.
        """
        workers, cpus = self._workers, self._machine.usable_cpus
        wait, last_wait = self._wait_seconds(self._size), self._wait_seconds(self._last)
        compute = self._compute_seconds(self._size)
        last_compute = self._compute_seconds(self._last)
        share = compute / (wait + compute) if compute else 0.0
        if self._holds_gil and self._plan.stages:
            late = SWITCH_SECONDS * min(1.0, (workers - 1) * share) * len(self._plan.stages)
            wait, last_wait = wait + self._size * late, last_wait + self._last * late
        slowdown = self._slowdown(workers * share)
        path = makespan(
            self._batches, workers, wait + slowdown * compute, last_wait + slowdown * last_compute
        )
        waiting = makespan(self._batches, workers, wait, last_wait)
        further, passing = self._batches - 1, self._passing
        each = passing.worker_seconds
        in_workers = Terms(
            waiting, path - waiting, makespan(self._batches, workers, each, each) - each
        )
        passed_on = Terms(overhead=further * passing.empty_batch_seconds)
        worst = max(in_workers, passed_on, key=lambda terms: terms.seconds)
        busy = min(workers, cpus)
        if busy == cpus or self._holds_gil:
            total = (further * compute + last_compute) * self._slowdown(busy) / busy
            overhead = further * passing.batch_seconds(total / self._batches)
            worst = max(worst, Terms(0.0, total, overhead), key=lambda terms: terms.seconds)
        return replace(worst, overhead=self._own.start_seconds + worst.overhead)

    def _on_cluster(self) -> Terms:
        """Predict workers that each wait for a parcel's items and compute it. The slower of the
        workers and of passing parcels on decides.
        """
        plan, costs = self._plan, self._machine.cluster(self._plan.strategy)
        size = parcel_batches(plan, self._workers)
        parcels = ceil(self._batches / size)
        in_parcel = min(self._count, size * self._size)
        per_byte = 0.0 if isinstance(plan.items, GeneratedItems) else costs.byte_seconds
        sending = per_byte * in_parcel * sent_bytes(plan)
        # With two parcels in flight, a worker does not wait for the next one.
        is_alone = plan.workers < costs.workers
        between = costs.round_trip_seconds if is_alone else costs.parcel_seconds
        full, last = self._parcel(in_parcel), self._parcel(self._count - (parcels - 1) * in_parcel)
        full = replace(full, overhead=size * costs.batch_seconds + between)
        busy = makespan(parcels, self._workers, full.seconds, last.seconds)
        part = busy / max(full.seconds, last.seconds, _LEAST_SECONDS)
        in_workers = Terms(full.waiting * part, full.computing * part)
        in_workers = replace(in_workers, overhead=busy - in_workers.seconds)
        passed_on = Terms(overhead=(parcels - 1) * (costs.parcel_seconds + sending))
        worst = max(in_workers, passed_on, key=lambda terms: terms.seconds)
        return replace(worst, overhead=costs.start_seconds + sending + worst.overhead)

    def _parcel(self, items: float) -> Terms:
        """Return the seconds in its worker of a run's only parcel, which has `items`."""
        costs, batches = self._machine.cluster(self._plan.strategy), items / self._size
        calls = self._kernel.seconds_of_call(self._operations, self._size)
        each = costs.slowdown * (calls + self._making_seconds(self._size))
        return Terms(
            self._wait_seconds(items),
            batches * each + items * costs.item_seconds,
            max(0.0, batches - 1) * costs.batch_seconds,
        )

    def _wait_seconds(self, count: float) -> float:
        """Return the seconds that a worker waits for a batch of `count` items, group by group."""
        group = self._plan.group_size
        overshoot = self._machine.waits.overshoot_seconds
        whole, rest = divmod(count, group)
        seconds = whole * blocking_seconds(self._plan.stages, group, overshoot)
        return seconds + (blocking_seconds(self._plan.stages, rest, overshoot) if rest else 0.0)

    @property
    def _event_loop(self) -> EventLoop:
        """The event loop on which the items of the plan wait."""
        plan = self._plan
        overshoot = self._machine.waits.async_overshoot_seconds
        return EventLoop(
            costs=self._machine.loops[plan.strategy],
            stages=plan.stages,
            waits=waits_at_once(plan.stages, plan.group_size, overshoot),
            groups_of_batch=self._size / plan.group_size,
        )

    def _groups(self, count: float) -> int:
        return ceil(count / self._plan.group_size)

    def _async_batch(self) -> Terms:
        computing = self._sum(self._compute_seconds)
        overhead = self._own.start_seconds + self._in_line()
        if not self._plan.stages:
            return Terms(0.0, computing, overhead)

        loop = self._event_loop

        def fetch(count: float) -> float:
            return loop.fetch_seconds(self._groups(count), fetcher_count(self._plan, ceil(count)))

        return Terms(self._sum(fetch), computing, overhead)

    def _hybrid(self) -> Terms:
        """Predict batches that are computed when their last item has arrived, while others arrive.

        With the waves of arrivals 1 … k, the run takes as long as it takes to wait for wave i and
        then to compute all batches that were not complete before. The worst i is the first or one
        of the last two, because both times grow evenly between.
        """
        plan, fetchers = self._plan, fetcher_count(self._plan, self._count)
        groups = sum(self._groups(count) for _, count in plan.item_ranges)
        cpus, start, loop = self._machine.usable_cpus, self._own.start_seconds, self._event_loop
        slowdown = self._slowdown(self._workers)
        compute = slowdown * self._compute_seconds(self._size)
        last_compute = slowdown * self._compute_seconds(self._last)

        def computing(batches: int) -> float:
            """Return the seconds to compute the last `batches` batches."""
            path = makespan(batches, self._workers, compute, last_compute)
            total = max(0, batches - 1) * compute + last_compute
            return max(path, total / min(self._workers, cpus))

        waves = ceil(groups / fetchers)
        in_wave = fetchers * plan.group_size
        first_groups = min(groups, self._groups(self._size))
        # At the earliest, the run ends when the last item has arrived and its batch is computed.
        worst = Terms(loop.fetch_seconds(groups, fetchers), computing(1), start)
        for wave in {1, waves - 1, waves} - {0}:
            arrived = groups if wave == waves else wave * fetchers
            if wave == 1:
                arrived = min(arrived, max(first_groups, 1))
            before = min(self._batches - 1, int((wave - 1) * in_wave // self._size))
            waiting = loop.fetch_seconds(arrived, fetchers)
            terms = Terms(waiting, computing(self._batches - before), start)
            worst = max(worst, terms, key=lambda each: each.seconds)
        # The event loop takes CPU time, too, and passing on batches holds up all CPUs.
        beside = (groups - first_groups) * loop.group_seconds(fetchers) / cpus
        total = (self._batches - 1) * compute + last_compute
        beside += (self._batches - 1) * self._passing.batch_seconds(total / cpus / self._batches)
        busy = Terms(loop.fetch_seconds(first_groups, fetchers), total / cpus, start + beside)
        return max(worst, busy, key=lambda each: each.seconds)

    def _setup_seconds(self) -> float:
        """Return the set-up's seconds: a measured pool with a worker per CPU, and further forks."""
        if self._plan.strategy in CLUSTERS:
            return self._machine.cluster(self._plan.strategy).setup_seconds
        further = max(0, self._workers - self._machine.usable_cpus) if self._in_processes else 0
        return self._passing.setup_seconds + further * FORK_SECONDS

    def _memory_bytes(self) -> int:
        machine = self._machine
        worker = 0 if self._plan.strategy in CLUSTERS else self._passing.worker_bytes
        costs = MemoryCosts(machine.base_bytes, worker, machine.waits.in_flight_bytes)
        return run_bytes(self._plan, costs, self._workers, self._in_processes)


def makespan(batches: int, workers: int, seconds: float, last_seconds: float) -> float:
    """Return the seconds until workers, each of which takes the next batch when it is free, have
    done `batches` batches of equal `seconds`, except the last with `last_seconds`.
    """
    if batches == 0:
        return 0.0
    waves, rest = divmod(batches - 1, workers)
    return waves * seconds + (last_seconds if rest == 0 else max(seconds, last_seconds))
