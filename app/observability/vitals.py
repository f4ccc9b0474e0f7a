"""Lag, memory and CPU of the service over the last minutes, sampled while somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psutil

from hotloop.app.observability.lag import LagSummary, LoopLagMonitor
from hotloop.app.schemas.health import Vitals, VitalsSample
from hotloop.app.tasks.model import utc_now

SAMPLE_SECONDS: Final = 5.0
FIRST_SAMPLE_SECONDS: Final = 1.0
"""Before the first sample, for a page that has just been opened."""

KEPT_SECONDS: Final = 600.0
"""How far back samples go."""

UNSEEN_SECONDS: Final = 60.0
"""How long sampling goes on when nobody asks: an idle service measures nothing."""


@dataclass(frozen=True, slots=True)
class _Use:
    memory_bytes: int
    cpu_seconds: float


def _use(process: psutil.Process) -> tuple[_Use, float]:
    """What a process uses, and the CPU seconds of its children that have ended."""
    times = process.cpu_times()
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return _Use(process.memory_info().rss, times.user + times.system), ended


class ProcessMeter:
    """Memory and CPU seconds of this process, and of all below it. Its methods block."""

    def __init__(self) -> None:
        self._me = psutil.Process()

    def read(self) -> tuple[_Use, _Use]:
        """This process; everything below it, children that have ended included."""
        own, ended = _use(self._me)
        below = _Use(0, ended)
        for process in self._me.children(recursive=True):
            try:
                use, ended = _use(process)
            except psutil.Error:  # it has ended; its parent has its seconds
                continue
            below = _Use(
                below.memory_bytes + use.memory_bytes, below.cpu_seconds + use.cpu_seconds + ended
            )
        return own, below


class VitalsService:
    """Begins to sample when first asked, and stops when nobody has asked for a while."""

    def __init__(
        self,
        lag: LoopLagMonitor,
        usable_cpus: int,
        *,
        sample_seconds: float = SAMPLE_SECONDS,
        unseen_seconds: float = UNSEEN_SECONDS,
        meter: ProcessMeter | None = None,
    ) -> None:
        self._lag = lag
        self._usable_cpus = usable_cpus
        self._sample_seconds = sample_seconds
        self._unseen_seconds = unseen_seconds
        self._meter = meter or ProcessMeter()
        self._samples: deque[VitalsSample] = deque(maxlen=round(KEPT_SECONDS / SAMPLE_SECONDS))
        self._asked = 0.0
        self._sampling: asyncio.Task[None] | None = None

    @property
    def is_sampling(self) -> bool:
        return self._sampling is not None and not self._sampling.done()

    async def read(self, after: datetime | None) -> Vitals:
        """The samples that were taken after `after`, or all that are kept."""
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
        # Off the loop: looking for the processes below is a walk through all of the system's.
        before, began = await asyncio.to_thread(self._meter.read), time.monotonic()
        pause = min(FIRST_SAMPLE_SECONDS, self._sample_seconds)
        while time.monotonic() - self._asked < self._unseen_seconds:
            with self._lag.recording() as lag:
                await asyncio.sleep(pause)
            now, ended = await asyncio.to_thread(self._meter.read), time.monotonic()
            self._samples.append(self._made(before, now, ended - began, lag.summary()))
            before, began, pause = now, ended, self._sample_seconds

    def _made(
        self,
        before: tuple[_Use, _Use],
        now: tuple[_Use, _Use],
        seconds: float,
        lag: LagSummary | None,
    ) -> VitalsSample:
        capacity = max(seconds * self._usable_cpus, 1e-9)
        api_share, runs_share = (
            # Below 0 when a process ended that nobody waited for, above 1 by the clocks' steps.
            min(1.0, max(0.0, (use.cpu_seconds - earlier.cpu_seconds) / capacity))
            for earlier, use in zip(before, now, strict=True)
        )
        return VitalsSample(
            sampled_at=utc_now(),
            event_loop_lag_p99_ms=0.0 if lag is None else max(0.0, lag.p99),
            api_memory_bytes=now[0].memory_bytes,
            runs_memory_bytes=now[1].memory_bytes,
            api_cpu_utilization=api_share,
            runs_cpu_utilization=runs_share,
        )
