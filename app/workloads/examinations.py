"""Examinations of own workloads: at most one at a time of each, shared by requests, and kept."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from hotloop.app.errors import NotReadyError
from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.workloads.examined import Examined, Parameters, exact_key
from hotloop.app.workloads.examiner import SAMPLE_SECONDS, Examiner
from hotloop.app.workloads.kept import KeptExaminations
from hotloop.kernels import Workload
from hotloop.kernels.contract import REFERENCE

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]

TURN_SECONDS: Final = 10.0
"""Time that an examination waits for others, which would disturb what it measures; one that hangs
holds nobody up for longer."""

_RETRY_SECONDS: Final = 5


class Examinations:
    """What is known of the own workloads' kernels, by version."""

    def __init__(self, examiner: Examiner, kept: KeptExaminations) -> None:
        self._examiner = examiner
        self._kept = kept
        self._known: dict[str, Examined] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._waiting: Counter[str] = Counter()
        self._ending: set[asyncio.Task[Any]] = set()
        """Examinations that nobody waits for any more."""
        self._turn = asyncio.Lock()

    def known(self, workload: Workload) -> Examined | None:
        """Return what is known without an examination."""
        return self._known.get(_version(workload))

    async def recall(self, workload: Workload) -> bool:
        """Look for an earlier examination in the data folder. Return True if there is one."""
        version = _version(workload)
        if version not in self._known:
            found = await asyncio.to_thread(self._kept.load, version)
            if found is not None:
                self._known.setdefault(version, found)
        return version in self._known

    async def examined(self, workload: Workload) -> Examined:
        """Return what is known, after an examination if nothing is. Raises NotReadyError."""
        if not await self.recall(workload):
            await self._once(_version(workload), lambda: self._examine(workload))
        return self._known[_version(workload)]

    async def sampled(
        self, workload: Workload, parameters: Parameters, *, exact: bool
    ) -> Mapping[str, float]:
        """Return the seconds of an item by kernel where the costs of the default parameters do not
        tell, after a sample if none is known. Raises NotReadyError.
        """
        known = await self.examined(workload)
        found = known.sample(workload, parameters, exact=exact)
        if found is None:
            key = f"{_version(workload)} {exact_key(parameters)}"
            sample = partial(self._sample, workload, known, parameters)
            await self._once(key, sample, for_callers=True)
            found = known.sample(workload, parameters, exact=exact)
        return found or {}

    async def close(self) -> None:
        """End the examinations in progress."""
        tasks = [*self._running.values(), *self._ending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _once(self, key: str, work: Work, *, for_callers: bool = False) -> None:
        """Wait for the work of this key. It goes on if the caller is cancelled; if it is only
        `for_callers`, it ends when all of them are cancelled.
        """
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(self._in_turn(work))
            task.add_done_callback(partial(self._note_end, key))
        self._waiting[key] += 1
        try:
            await asyncio.shield(task)
        except OSError as error:
            raise NotReadyError(
                f"no process could be started to examine the workload: {error}", _RETRY_SECONDS
            ) from error
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if for_callers and not task.done():
                    del self._running[key]
                    self._ending.add(task)
                    task.add_done_callback(self._ending.discard)
                    task.cancel()

    def _note_end(self, key: str, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled() and task.exception() is not None:  # all who waited may be gone
            logger.error("an examination met a fault", exc_info=task.exception())

    async def _in_turn(self, work: Work) -> None:
        async with self.turn():
            await work()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Measure in the block while no examination does. Waits at most TURN_SECONDS for that."""
        has_turn = False
        with suppress(TimeoutError):
            async with asyncio.timeout(TURN_SECONDS):
                has_turn = await self._turn.acquire()
        try:
            yield
        finally:
            if has_turn:
                self._turn.release()

    async def _examine(self, workload: Workload) -> None:
        version = _version(workload)
        found = Examined(await self._examiner.examine(workload))
        self._known[version] = found
        for name, kernel in found.kernels.items():
            if kernel.reason is not None:
                logger.warning("%s × %s is not available: %s", workload.name, name, kernel.reason)
        await asyncio.to_thread(self._kept.save, version, found)

    async def _sample(self, workload: Workload, known: Examined, parameters: Parameters) -> None:
        costs = {name: each.costs for name, each in known.kernels.items() if each.costs is not None}
        # The Python code comes last: it takes no less than the others, and a request waits.
        names = sorted(costs, key=lambda name: name == REFERENCE)
        sample = await self._examiner.sample(workload, names, parameters)
        slowest = max(sample.values(), default=0.0)
        if REFERENCE in costs and REFERENCE not in sample and slowest >= SAMPLE_SECONDS:
            sample[REFERENCE] = slowest * _times_slower(workload, costs)
        known.keep(parameters, sample)
        await asyncio.to_thread(self._kept.save, _version(workload), known)


def _times_slower(workload: Workload, costs: Mapping[str, KernelCosts]) -> float:
    """Return by what the Python code is slower than the fastest kernel with the defaults."""
    operations = workload.operations(workload.resolve_parameters())
    items = {
        name: each.seconds_of_call(operations, 2) - each.seconds_of_call(operations, 1)
        for name, each in costs.items()
    }
    fastest = min(seconds for name, seconds in items.items() if name != REFERENCE)
    return max(1.0, items[REFERENCE] / fastest) if fastest > 0 else 1.0


def _version(workload: Workload) -> str:
    assert workload.source is not None
    return workload.source.version
