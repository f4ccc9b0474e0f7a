"""The main part of a run host: it warms up all kernels, and executes the API's commands one by one
until the API is gone.
"""

from __future__ import annotations

import asyncio
import logging
import time

from hotloop import kernels
from hotloop.app import frames
from hotloop.app.errors import ServiceError
from hotloop.app.logs.origin import bind
from hotloop.app.names import StrategyName
from hotloop.app.runhost import messages
from hotloop.app.runhost.calibrate.calibrator import Calibrator
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.execution import HostResources, execute
from hotloop.app.runhost.measuring import MemoryGauge
from hotloop.app.runhost.warming import tune_interpreter, warm_up_kernels
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.rows import ingest
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from hotloop.app.strategies.worker_process import choose_instruction_set

logger = logging.getLogger(__name__)


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
            config.clusters,
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
        tune_interpreter()
        await self._send(messages.Ready(pid, time.perf_counter() - started, reports))
        reading = asyncio.create_task(frames.read_frame(self._reader))
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
                reading = asyncio.create_task(frames.read_frame(self._reader))
                if not isinstance(command, messages.CancelCommand):
                    is_run = isinstance(command, messages.RunCommand)
                    current = asyncio.create_task(self._obey(command))
                elif current is not None and is_run:
                    current.cancel()

    async def _obey(self, command: messages.Command) -> None:
        if isinstance(command, messages.RunCommand):
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
        await frames.write_frame(self._writer, event)


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
