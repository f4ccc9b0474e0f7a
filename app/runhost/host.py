"""The run host's own side: one command at a time from the API, until the API is gone."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from typing import Final

from hotloop.app.errors import ServiceError
from hotloop.app.logs.origin import bind
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.calibrator import Calibrator
from hotloop.app.runhost.config import SWITCH_SECONDS, RunHostConfig
from hotloop.app.runhost.execution import Surroundings, execute
from hotloop.app.runhost.frames import read_frame, write_frame
from hotloop.app.runhost.measuring import MemoryGauge
from hotloop.app.runhost.messages import (
    CalibrateCommand,
    Calibrated,
    CancelCommand,
    Command,
    Event,
    IngestCommand,
    Ingested,
    Ready,
    RunCommand,
)
from hotloop.app.runhost.warm_up import warm_up_kernels
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.rows import ingest
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from hotloop.app.strategies.worker_process import choose_instruction_set

logger = logging.getLogger(__name__)

GARBAGE_THRESHOLD: Final = 50_000
"""New objects before garbage is looked for. With CPython's 700, thousands of items in flight are
searched through again and again, which takes longer than everything else about them."""


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
        self._around = Surroundings(config.usable_cpus, MemoryGauge())
        self._pools = Pools(
            PoolLimits(config.max_worker_threads, config.max_worker_processes, config.usable_cpus),
            config.instruction_set,
        )
        self._strategies: dict[StrategyName, Strategy] = {
            name: make(self._pools) for name, make in STRATEGIES.items()
        }

    async def serve(self, pid: int, started: float) -> None:
        """Warm up, say so, and obey until the other end closes.

        `started` is the time.perf_counter() of the process's first line. A fault while obeying
        is raised: it ends the run host, and the API starts another.
        """
        choose_instruction_set(self._config.instruction_set)
        reports = await asyncio.to_thread(warm_up_kernels)
        self._available = [(r.workload, r.kernel) for r in reports if r.available]
        _tune_interpreter()
        await self._send(Ready(pid, time.perf_counter() - started, reports))
        reading = asyncio.create_task(read_frame(self._reader))
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
                    command: Command = reading.result()
                except asyncio.IncompleteReadError:
                    return
                reading = asyncio.create_task(read_frame(self._reader))
                if not isinstance(command, CancelCommand):
                    is_run = isinstance(command, RunCommand)
                    current = asyncio.create_task(self._obey(command))
                elif current is not None and is_run:
                    current.cancel()

    async def _obey(self, command: RunCommand | IngestCommand | CalibrateCommand) -> None:
        if isinstance(command, RunCommand):
            bind(command.plan.origin)
            logger.debug("executes a plan of %d items", command.plan.item_count)
            strategy = self._strategies[command.plan.strategy]
            if command.cold:
                await strategy.close()
                await self._pools.close()
            await self._send(await execute(command.plan, strategy, self._around, self._send))
        elif isinstance(command, CalibrateCommand):
            await self._send(await self._calibrate())
        else:
            bind(command.origin)
            logger.debug("reads an upload of %s", command.media_type)
            await self._send(await _ingest(command))

    async def _calibrate(self) -> Calibrated:
        try:
            calibrator = Calibrator(self._config, self._around.gauge, self._available, self._send)
            return Calibrated(await calibrator.run(), None)
        except ServiceError as error:
            return Calibrated(None, error)

    async def _send(self, event: Event) -> None:
        await write_frame(self._writer, event)


def _tune_interpreter() -> None:
    """For what a run host does all day; what is loaded by now is never garbage."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


async def _ingest(command: IngestCommand) -> Ingested:
    try:
        count = await asyncio.to_thread(
            ingest,
            command.upload_path,
            command.media_type,
            command.items_path,
            command.workload,
            command.max_rows,
            command.sha256,
        )
    except ServiceError as error:
        return Ingested(0, error)
    return Ingested(count, None)
