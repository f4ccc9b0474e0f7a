"""Samplers of the state of this process: gauges for the metrics, and vitals for the page."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import psutil

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import StoreError
from hotloop.app.observability.lag import LoopLagMonitor, loop_lags
from hotloop.app.observability.metrics import Gauges, Metrics
from hotloop.app.observability.metrics_folder import shared_folder
from hotloop.app.process_tree import ProcessTree, Usage, resident_bytes
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.measurements import LagSummary
from hotloop.app.schemas.service import Vitals, VitalsSample
from hotloop.app.tasks.claims import count_queued
from hotloop.app.tasks.model import utc_now
from hotloop.app.tasks.store import TaskStore

logger = logging.getLogger(__name__)

LAG_SECONDS: Final = 0.25
"""Time between two samples of the event loop's lag for the gauges: four wakes a second cost
nothing."""

WINDOW_SECONDS: Final = 60.0
"""The gauges of the lag are of the last minute."""

SHARED_SECONDS: Final = 1.0
"""The age that gauges may have when another process answers with them."""

STORE_SECONDS: Final = 5.0
"""Time between two questions to the store how many shards are in the queue."""

SAMPLE_SECONDS: Final = 5.0
"""Time between two samples of the vitals."""

FIRST_SAMPLE_SECONDS: Final = 1.0
"""Time before the first sample, for a page that has just been opened."""

KEPT_SECONDS: Final = 600.0
"""Age of the oldest samples."""

UNSEEN_SECONDS: Final = 60.0
"""Sampling goes on for so long when no request asks: an idle service measures nothing."""


class GaugeSampler:
    """Sets the gauges each time that the metrics are read, and, where other processes may answer
    with them, once a second. Runs on the event loop until it is closed.
    """

    def __init__(self, metrics: Metrics, hosts: RunHostPool, store: TaskStore) -> None:
        self._metrics = metrics
        self._hosts = hosts
        self._store = store
        self._lags = [0.0] * round(WINDOW_SECONDS / LAG_SECONDS)
        """A sample takes the place of the one that is a window older."""
        self._queued: Mapping[str, int] = {"waiting": 0, "held": 0}
        self._process = psutil.Process()
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Keep the gauges up to date from now on."""
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
        places = itertools.cycle(range(len(self._lags)))
        async for seconds in loop_lags(LAG_SECONDS):
            self._lags[next(places)] = seconds

    async def _watch_store(self) -> None:
        while True:
            try:
                self._queued = await in_store_thread(count_queued, self._store.engine)
            except StoreError:
                logger.debug("the queue could not be counted", exc_info=True)
            except Exception:
                logger.exception("counting the queue failed")
            await asyncio.sleep(STORE_SECONDS)

    async def _share(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._set)
            except Exception:
                logger.exception("sampling for the metrics failed")
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
                resident_bytes=resident_bytes(self._process),
                open_files=self._process.num_fds(),
            )
        )
        self._metrics.take_sources()


class VitalsService:
    """Samples lag, memory and CPU from the first question on, and stops UNSEEN_SECONDS after the
    last one.
    """

    def __init__(
        self,
        lag: LoopLagMonitor,
        usable_cpus: int,
        *,
        sample_seconds: float = SAMPLE_SECONDS,
        unseen_seconds: float = UNSEEN_SECONDS,
    ) -> None:
        self._lag = lag
        self._usable_cpus = usable_cpus
        self._sample_seconds = sample_seconds
        self._unseen_seconds = unseen_seconds
        self._processes = ProcessTree()
        self._samples: deque[VitalsSample] = deque(maxlen=round(KEPT_SECONDS / SAMPLE_SECONDS))
        self._asked = 0.0
        self._sampling: asyncio.Task[None] | None = None

    @property
    def is_sampling(self) -> bool:
        return self._sampling is not None and not self._sampling.done()

    async def read(self, after: datetime | None) -> Vitals:
        """The samples taken after `after`, or all that are kept. Starts sampling if needed."""
        self._asked = time.monotonic()
        if not self.is_sampling:
            self._sampling = asyncio.create_task(self._sample())
        now = utc_now()
        return Vitals(
            sample_seconds=self._sample_seconds,
            usable_cpus=self._usable_cpus,
            samples=[
                sample
                for sample in self._samples
                if (after is None or sample.sampled_at > after)
                and (now - sample.sampled_at).total_seconds() <= KEPT_SECONDS
            ],
        )

    async def close(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)

    async def _sample(self) -> None:
        # In a thread: the search for the processes below may walk through all processes.
        before, began = await asyncio.to_thread(self._processes.usage), time.monotonic()
        pause = min(FIRST_SAMPLE_SECONDS, self._sample_seconds)
        while time.monotonic() - self._asked < self._unseen_seconds:
            with self._lag.recording() as lag:
                await asyncio.sleep(pause)
            now, ended = await asyncio.to_thread(self._processes.usage), time.monotonic()
            self._samples.append(self._made(before, now, ended - began, lag.summary()))
            before, began, pause = now, ended, self._sample_seconds

    def _made(
        self,
        before: tuple[Usage, Usage],
        now: tuple[Usage, Usage],
        seconds: float,
        lag: LagSummary | None,
    ) -> VitalsSample:
        capacity = max(seconds * self._usable_cpus, 1e-9)
        api_share, runs_share = (
            # Below 0 if a process ended that its parent did not wait for; above 1 by clock steps.
            min(1.0, max(0.0, (use.cpu_seconds - earlier.cpu_seconds) / capacity))
            for earlier, use in zip(before, now, strict=True)
        )
        return VitalsSample(
            sampled_at=utc_now(),
            event_loop_lag_p99_ms=0.0 if lag is None else max(0.0, lag.p99),
            api_memory_bytes=now[0].resident_bytes,
            runs_memory_bytes=now[1].resident_bytes,
            api_cpu_utilization=api_share,
            runs_cpu_utilization=runs_share,
        )
