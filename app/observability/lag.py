"""The lag of the event loop: how late it takes up what is due."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from hotloop.app.runhost.measurements import LagSummary

SAMPLE_SECONDS: Final = 0.02
"""Time between two samples while there are recorders."""

_SMALLEST_MS: Final = 0.01
_RATIO: Final = 1.05
_BUCKETS: Final = math.ceil(math.log(100_000 / _SMALLEST_MS, _RATIO)) + 1


class LagRecorder:
    """A histogram of lags with buckets 5 % wide, so that its memory does not grow with the run."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self._max_ms = 0.0

    def add(self, lag_ms: float) -> None:
        """Count one sample; a negative one counts as the smallest."""
        self._max_ms = max(self._max_ms, lag_ms)
        position = math.log(max(lag_ms, _SMALLEST_MS) / _SMALLEST_MS, _RATIO)
        self._counts[min(_BUCKETS - 1, int(position))] += 1
        self._total += 1

    def summary(self) -> LagSummary | None:
        """Quantiles to within 5 %, and the exact maximum; None before the first sample."""
        if self._total == 0:
            return None
        return LagSummary(self._quantile(0.50), self._quantile(0.99), self._max_ms)

    def _quantile(self, share: float) -> float:
        rank = share * self._total
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_SMALLEST_MS * _RATIO ** (bucket + 1), self._max_ms)
        return self._max_ms


class LoopLagMonitor:
    """Samples the lag of the running event loop while there are recorders."""

    def __init__(self) -> None:
        self._recorders: set[LagRecorder] = set()
        self._sampling: asyncio.Task[None] | None = None

    @contextmanager
    def recording(self) -> Iterator[LagRecorder]:
        """A recorder that gets all samples until the end of the context."""
        recorder = LagRecorder()
        self._recorders.add(recorder)
        if self._sampling is None:
            self._sampling = asyncio.get_running_loop().create_task(self._sample())
        try:
            yield recorder
        finally:
            self._recorders.discard(recorder)
            if not self._recorders and self._sampling is not None:
                self._sampling.cancel()
                self._sampling = None

    async def _sample(self) -> None:
        async for seconds in loop_lags(SAMPLE_SECONDS):
            for recorder in self._recorders:
                recorder.add(1_000 * seconds)


async def loop_lags(pause: float) -> AsyncIterator[float]:
    """Sample the lag of the running event loop, in seconds, every `pause` seconds."""
    while True:
        # Not loop.time(): uvloop's moves in steps of a millisecond.
        due = time.perf_counter() + pause
        await asyncio.sleep(pause)
        yield max(0.0, time.perf_counter() - due)
