"""The workloads of a service: built-in ones as run hosts report them, and users' own ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.workloads.child_client import Child
from hotloop.app.workloads.describer import Described, describe
from hotloop.app.workloads.examinations import Examinations
from hotloop.app.workloads.examined import Parameters, unexamined
from hotloop.app.workloads.examiner import Examiner
from hotloop.app.workloads.kept import KeptExaminations
from hotloop.app.workloads.targets import OwnWorkload, Targets
from hotloop.app.workloads.watching import FileWatch

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 8 << 30
"""Most memory that a child process may take, if runs may have as much."""

QUIET_SECONDS: Final = 5.0
"""Time after the start, and after each change, before workloads are examined that nobody asked for.
"""

LOOK_SECONDS: Final = 0.5
"""Time between two checks of whether the run hosts are idle."""

RETRY_SECONDS: Final = 5.0
"""Time before targets are described again if no process could be started."""


@dataclass(frozen=True, slots=True)
class CatalogueOptions:
    """Options of a Catalogue."""

    targets: tuple[str, ...]
    """The targets, as the operator named them."""
    folder: Path | None
    """The folder in which they are looked for."""
    data_folder: Path
    usable_cpus: int
    memory_bytes: int
    """Memory that a run may need; a child process may have as much, up to MOST_BYTES."""
    environment: Mapping[str, str]
    reload: bool = False
    """True to describe own workloads again when their files change."""


class Catalogue:
    """Knows all workloads, their kernels and costs. `start` it, and `close` it."""

    def __init__(self, options: CatalogueOptions, hosts: RunHostPool, *others: RunHostPool) -> None:
        """The run hosts of `hosts` report on kernels; those of `others` compute them, too."""
        self._options = options
        self._hosts = hosts
        self._others = others
        self._targets: Targets | None = None
        self._examinations = Examinations(
            Examiner(self._start_child, options.usable_cpus), KeptExaminations(options.data_folder)
        )
        self._described = asyncio.Event()
        """Set once all targets have been described."""
        self._news = asyncio.Event()
        """Set, and replaced by another, when a target was described."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to describe the targets, and return at once."""
        self._tasks = [
            asyncio.create_task(self._look_after_targets()),
            asyncio.create_task(self._examine_when_idle()),
        ]

    async def close(self) -> None:
        """End all child processes, and declare no own workload any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._examinations.close()
        if self._targets is not None:
            self._targets.withdraw()

    @property
    def own(self) -> list[OwnWorkload]:
        """The own workloads as they are shown."""
        return [] if self._targets is None else self._targets.shown

    @property
    def is_loading(self) -> bool:
        """True until every target was described once."""
        return not self._described.is_set()

    def measuring_turn(self) -> AbstractAsyncContextManager[None]:
        """Measure the machine in the block, while no workload is examined."""
        return self._examinations.turn()

    async def changed(self) -> None:
        """Wait until a target has been described, or all have."""
        await self._news.wait()

    async def reports(
        self,
        workload: str | None = None,
        parameters: Parameters | None = None,
        *,
        exact: bool = False,
    ) -> tuple[KernelReport, ...]:
        """Return reports of all kernels. An own `workload` is examined first, if it was not yet.
        Its kernels are as fast as with these parameters, or with ones like them if not `exact`.

        Raises NotReadyError and kernels.InvalidParameterError.
        """
        reports = await self._hosts.kernels()
        return reports + tuple((await self._own(workload, parameters, exact))[0])

    async def costs(
        self,
        workload: str | None = None,
        parameters: Parameters | None = None,
        *,
        exact: bool = False,
    ) -> tuple[KernelCosts, ...]:
        """Return the costs of all own kernels that are available, as `reports` does."""
        return tuple((await self._own(workload, parameters, exact))[1])

    async def _own(
        self, asked: str | None, parameters: Parameters | None, exact: bool
    ) -> tuple[list[KernelReport], list[KernelCosts]]:
        reports: list[KernelReport] = []
        costs: list[KernelCosts] = []
        for name, workload in (self._targets.workloads if self._targets else {}).items():
            resolved = workload.resolve_parameters(parameters if name == asked else None)
            sample: Mapping[str, float] = {}
            if name == asked:
                known = await self._examinations.examined(workload)
                sample = await self._examinations.sampled(workload, resolved, exact=exact)
            elif (found := self._examinations.known(workload)) is not None:
                known = found
            else:
                reports += unexamined(workload)
                continue
            its_costs = known.costs(workload, resolved, sample)
            reports += known.reports(workload, its_costs)
            costs += its_costs
        return reports, costs

    async def _start_child(self, mode: str, order: Mapping[str, Any]) -> Child:
        memory = min(MOST_BYTES, self._options.memory_bytes)
        return await Child.start(mode, order, self._options.environment, memory)

    async def _look_after_targets(self) -> None:
        """Describe the targets, and again whenever their files change, if that is wanted."""
        targets = self._targets = await asyncio.to_thread(
            Targets, self._options.targets, self._options.folder
        )
        while True:
            watch = await asyncio.to_thread(FileWatch, lambda: targets.files)
            describing = asyncio.create_task(self._describe(targets))
            awaited: list[asyncio.Task[None]] = [describing]
            if self._options.reload:
                awaited.append(asyncio.create_task(watch.changed()))
            try:
                # A file may be repaired while its import still hangs.
                await asyncio.wait(awaited[-1:])
            finally:
                for task in awaited:
                    task.cancel()
                await asyncio.gather(*awaited, return_exceptions=True)
            if not describing.cancelled() and (fault := describing.exception()) is not None:
                logger.error("describing workloads met a fault", exc_info=fault)
            if not self._options.reload:
                return

    async def _describe(self, targets: Targets) -> None:
        async def told(place: int, found: Described) -> None:
            if targets.take(place, found):
                logger.info("run hosts are replaced, as a workload has changed")
                for hosts in (self._hosts, *self._others):
                    hosts.retire()
            for workload in found.workloads:
                await self._examinations.recall(workload)
            self._tell()

        while True:
            try:
                pending = await asyncio.to_thread(targets.to_describe)
                await describe(pending, self._start_child, told)
                break
            except* OSError as errors:
                logger.error("workloads cannot be imported now: %s", errors.exceptions[0])
                await asyncio.sleep(RETRY_SECONDS)
        for each in targets.shown:
            if each.reason is not None:
                logger.warning("%s is not served: %s", each.workload or each.target, each.reason)
        self._described.set()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _examine_when_idle(self) -> None:
        """Examine what nobody has asked for, one workload after another, while nothing runs."""
        while True:
            news = self._news
            await asyncio.sleep(QUIET_SECONDS)
            for workload in (self._targets.workloads if self._targets else {}).values():
                if self._examinations.known(workload) is None:
                    await self._wait_for_idle()
                    with suppress(Exception):  # it is logged, and told to whoever asks
                        await self._examinations.examined(workload)
            await news.wait()

    async def _wait_for_idle(self) -> None:
        while True:
            if self._hosts.is_idle:
                return
            await asyncio.sleep(LOOK_SECONDS)
