"""The main part of a run host: it warms up all kernels, and executes the API's commands one by one
until the API is gone.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.errors import ServiceError
from hotloop.app.logs.origin import bind
from hotloop.app.names import StrategyName
from hotloop.app.runhost import messages
from hotloop.app.runhost.calibrate.calibrator import Calibrator
from hotloop.app.runhost.calls import compute_calls
from hotloop.app.runhost.config import SWITCH_SECONDS, RunHostConfig
from hotloop.app.runhost.execution import HostResources, execute
from hotloop.app.runhost.measuring import MemoryGauge
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.rows import ingest
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from hotloop.app.strategies.worker_process import choose_instruction_set

logger = logging.getLogger(__name__)

GARBAGE_THRESHOLD: Final = 50_000
"""New objects before the next garbage collection. With CPython's 700, collections would search
thousands of items in flight repeatedly, which takes longer than all other work."""


class RunHost:
    """Serves one API process over a pair of streams."""

    def __init__(
        self,
        config: RunHostConfig,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._config = config
        self._reader = reader
        self._writer = writer
        self._available: list[tuple[str, str]] = []
        self._resources = HostResources(config.usable_cpus, MemoryGauge())
        self._pools = Pools(
            PoolLimits(config.max_worker_threads, config.max_worker_processes, config.usable_cpus),
            config.instruction_set,
        )
        self._strategies: dict[StrategyName, Strategy] = {
            name: make(self._pools) for name, make in STRATEGIES.items()
        }

    async def serve(self, pid: int, started: float) -> None:
        """Warm up, report that, and execute commands until the other end closes.

        `started` is the time.perf_counter() of the process's first line. An unexpected error is
        raised: it ends the run host, and the API starts another.
        """
        choose_instruction_set(self._config.instruction_set)
        reports = await asyncio.to_thread(warm_up_kernels)
        self._available = [(r.workload, r.kernel) for r in reports if r.available]
        _tune_interpreter()
        await self._send(messages.Ready(pid, time.perf_counter() - started, reports))
        reading = asyncio.create_task(messages.read_frame(self._reader))
        current: asyncio.Task[None] | None = None
        is_run = False
        while True:
            done, _ = await asyncio.wait(
                {reading} if current is None else {reading, current},
                timeout=self._config.pool_idle_seconds if current is None else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                await self._pools.close()
                await close_connections()
            if current is not None and current in done:
                current.result()
                current = None
            if reading in done:
                try:
                    command: messages.Command = reading.result()
                except asyncio.IncompleteReadError:
                    return
                reading = asyncio.create_task(messages.read_frame(self._reader))
                if not isinstance(command, messages.CancelCommand):
                    is_run = isinstance(command, messages.RunCommand)
                    current = asyncio.create_task(self._obey(command))
                elif current is not None and is_run:
                    current.cancel()

    async def _obey(self, command: messages.Command) -> None:
        if isinstance(command, messages.CallCommand):
            # In this thread: nothing else is done meanwhile, and another one takes longer.
            await self._send(compute_calls(command))
        elif isinstance(command, messages.RunCommand):
            bind(command.plan.origin)
            logger.debug("executes a plan of %d items", command.plan.item_count)
            strategy = self._strategies[command.plan.strategy]
            if command.cold:
                await strategy.close()
                await self._pools.close()
            await self._send(await execute(command.plan, strategy, self._resources, self._send))
        elif isinstance(command, messages.CalibrateCommand):
            await self._send(await self._calibrate())
        elif isinstance(command, messages.IngestCommand):
            bind(command.origin)
            logger.debug("reads an upload of %s", command.media_type)
            await self._send(await _ingest(command))

    async def _calibrate(self) -> messages.Calibrated:
        try:
            calibrator = Calibrator(
                self._config, self._resources.gauge, self._available, self._send
            )
            return messages.Calibrated(await calibrator.run(), None)
        except ServiceError as error:
            return messages.Calibrated(None, error)

    async def _send(self, event: messages.Event) -> None:
        await messages.write_frame(self._writer, event)


def _tune_interpreter() -> None:
    """Set the interpreter up for long computing, and exempt all loaded objects from collection."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


async def _ingest(command: messages.IngestCommand) -> messages.Ingested:
    declaration = command.declaration
    if declaration is not None and declaration not in kernels.declared_workloads():
        kernels.declare(declaration)
    try:
        count = await asyncio.to_thread(
            ingest,
            command.upload_path,
            command.media_type,
            command.items_path,
            command.workload,
            command.max_rows,
            command.sha256,
            command.max_bytes,
        )
    except ServiceError as error:
        return messages.Ingested(0, error)
    return messages.Ingested(count, None)


PROBE_SECONDS: Final = 0.004
"""Least time of a probe, which gets enough items for it."""

PROBE_ROUNDS: Final = 5
"""Rounds over all kernels; the fastest counts, because disturbances only make a probe slower."""


def warm_up_kernels() -> tuple[messages.KernelReport, ...]:
    """Load, compile and measure every available kernel of built-in workloads, and report on each
    known one. Users' workloads are examined elsewhere.
    """
    reports = [
        _warm_up(workload, name)
        for workload in kernels.workloads()
        if kernels.get_workload(workload).source is None
        for name in kernels.known_kernels(workload)
    ]
    probes = [_Probe.sized(r, term) for r in reports if r.available for term in _terms(r)]
    for _ in range(PROBE_ROUNDS):
        for probe in probes:
            probe.run()
    return tuple(
        replace(
            report,
            ns_per_operation={p.term: p.ns_per_operation for p in probes if p.report is report},
        )
        for report in reports
    )


def _terms(report: messages.KernelReport) -> tuple[str, ...]:
    return tuple(kernels.get_workload(report.workload).probes)


def _warm_up(workload: str, name: str) -> messages.KernelReport:
    started = time.perf_counter()
    reason = kernels.why_unavailable(workload, name)
    if reason is None:
        kernel = kernels.get_kernel(workload, name)
        try:
            kernel.warm_up()
        except Exception as error:
            reason = f"it does not warm up: {type(error).__name__}: {error}"
    if reason is not None:
        return messages.KernelReport(workload, name, False, reason, False, None, 0.0, {})
    return messages.KernelReport(
        workload=workload,
        kernel=name,
        available=True,
        reason=None,
        releases_gil=kernel.releases_gil,
        instruction_set=kernel.instruction_set,
        warm_up_seconds=time.perf_counter() - started,
        ns_per_operation={},
    )


@dataclass(slots=True)
class _Probe:
    """A cost term of a kernel, timed on `count` simulated items."""

    report: messages.KernelReport
    term: str
    count: int = 1
    fastest_seconds: float = float("inf")

    @classmethod
    def sized(cls, report: messages.KernelReport, term: str) -> _Probe:
        probe = cls(report, term)
        while probe.run() < PROBE_SECONDS:
            probe.count *= 2
            probe.fastest_seconds = float("inf")
        return probe

    def run(self) -> float:
        """Make one more call, and return its seconds."""
        workload = kernels.get_workload(self.report.workload)
        columns = workload.simulated_columns(np.arange(self.count, dtype=np.int64))
        kernel = kernels.get_kernel(self.report.workload, self.report.kernel)
        started = time.perf_counter()
        kernel.run(columns, workload.probes[self.term])
        seconds = time.perf_counter() - started
        self.fastest_seconds = min(self.fastest_seconds, seconds)
        return seconds

    @property
    def ns_per_operation(self) -> float:
        workload = kernels.get_workload(self.report.workload)
        operations = workload.operations(workload.probes[self.term])[self.term]
        return self.fastest_seconds * 1e9 / (self.count * operations)
