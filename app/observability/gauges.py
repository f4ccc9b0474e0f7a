"""Samples how the process stands, for the metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

import psutil

from hotloop.app.errors import StoreError
from hotloop.app.observability.metrics import Gauges, Metrics
from hotloop.app.observability.metrics_folder import shared_folder
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.tasks.claims import count_queued
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

logger = logging.getLogger(__name__)

LAG_SECONDS: Final = 0.25
"""Between two looks at the event loop's lag: four wakes a second cost nothing."""

WINDOW_SECONDS: Final = 60.0
SHARED_SECONDS: Final = 1.0
"""How old gauges may be when another process answers with them."""

STORE_SECONDS: Final = 5.0
"""Between two questions to the store how many shards are in the queue."""


class GaugeSampler:
    """Runs on the event loop until it is closed. Whoever reads the metrics has the gauges set by
    that; only where other processes may answer with them they are set all the while.
    """

    def __init__(self, metrics: Metrics, hosts: RunHostPool, store: TaskStore) -> None:
        self._metrics = metrics
        self._hosts = hosts
        self._store = store
        self._lags = [0.0] * round(WINDOW_SECONDS / LAG_SECONDS)
        """Of the last samples, each in the place of one that is a window older."""
        self._queued: Mapping[str, int] = {"waiting": 0, "held": 0}
        self._process = psutil.Process()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """From now on the gauges are true."""
        self._metrics.before_text = self._set
        self._loops = [
            asyncio.create_task(self._watch_loop()),
            asyncio.create_task(self._watch_store()),
        ]
        if shared_folder() is not None:
            self._loops.append(asyncio.create_task(self._share()))

    async def close(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def _watch_loop(self) -> None:
        while True:
            for place in range(len(self._lags)):
                due = time.perf_counter() + LAG_SECONDS
                await asyncio.sleep(LAG_SECONDS)
                self._lags[place] = max(0.0, time.perf_counter() - due)

    async def _watch_store(self) -> None:
        while True:
            try:
                self._queued = await in_store_thread(count_queued, self._store.engine)
            except StoreError:
                logger.debug("the queue is not counted", exc_info=True)
            except Exception:
                logger.exception("counting the queue met a fault")
            await asyncio.sleep(STORE_SECONDS)

    async def _share(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._set)
            except Exception:
                logger.exception("sampling for the metrics met a fault")
            await asyncio.sleep(SHARED_SECONDS)

    def _set(self) -> None:
        lags = sorted(self._lags)
        self._metrics.set_gauges(
            Gauges(
                queued_shards=self._queued,
                waiting_runs=self._hosts.waiting_count,
                run_hosts=self._hosts.states(),
                run_host_deaths=self._hosts.deaths,
                loop_lag_seconds={
                    "p99": lags[round(0.99 * (len(lags) - 1))],
                    "max": lags[-1],
                },
                resident_bytes=self._process.memory_info().rss,
                open_files=self._process.num_fds(),
            )
        )
        self._metrics.take_sources()
