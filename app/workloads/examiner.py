"""Examining a workload by child processes: a kernel that ends its child is left out of the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.workloads.child_client import (
    START_SECONDS,
    Child,
    ChildDiedError,
    end_in_words,
)
from hotloop.app.workloads.describer import IMPORT_SECONDS, StartChild
from hotloop.app.workloads.examined import ExaminedKernel
from hotloop.app.workloads.sandbox import COMPUTED
from hotloop.kernels import Workload

logger = logging.getLogger(__name__)

EXAMINE_SECONDS: Final = 60.0
"""Time that a kernel may take to be compiled and measured, which is planned to take three seconds;
large functions compile for half a minute on a busy machine."""

SAMPLE_SECONDS: Final = 3.0
"""Time that the sample of a kernel may take after its compilation, because a request waits; an item
that takes longer counts as if it took this long."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines kernels, with the CPUs that runs may use."""

    start: StartChild
    usable_cpus: int

    async def examine(self, workload: Workload) -> dict[str, ExaminedKernel]:
        """Return what was found about each kernel. Raises OSError if no child can be started."""
        names = [each.kernel for each in workload.kernels]
        outcomes = await self._outcomes(workload, names, workload.resolve_parameters(), False)
        return {name: _examined(outcomes[name]) for name in names}

    async def sample(
        self, workload: Workload, names: Sequence[str], parameters: Mapping[str, Any]
    ) -> dict[str, float]:
        """Return the seconds of an item under these parameters by kernel, in the order of `names`;
        none for a kernel that fails, and none for those after one that took SAMPLE_SECONDS. Raises
        OSError.
        """
        outcomes = await self._outcomes(workload, names, parameters, True)
        found = {name: each.get("sampled") for name, each in outcomes.items()}
        return {name: float(seconds) for name, seconds in found.items() if seconds is not None}

    async def _outcomes(
        self,
        workload: Workload,
        names: Sequence[str],
        parameters: Mapping[str, Any],
        only_sample: bool,
    ) -> dict[str, Mapping[str, Any]]:
        """Return the last message about each kernel. One that ends its child is left out of the
        next one, which goes on with the others.
        """
        assert workload.source is not None
        order = {
            "source": asdict(workload.source),
            "parameters": dict(parameters),
            "cpus": self.usable_cpus,
            "only_sample": only_sample,
        }
        outcomes: dict[str, Mapping[str, Any]] = {}
        while left := [name for name in names if name not in outcomes]:
            child = await self.start("examine", {**order, "kernels": left})
            try:
                outcomes |= await _Watch(child, left, only_sample).run()
            finally:
                await child.close()
            if any("overdue" in each for each in outcomes.values()):
                break
        return outcomes


class _Watch:
    """The messages of one child, and what is under way in it."""

    def __init__(self, child: Child, names: Sequence[str], only_sample: bool) -> None:
        self._child = child
        self._names = names
        self._only_sample = only_sample
        self._kernel: str | None = None
        self._step = "was imported"
        self._limit = START_SECONDS + IMPORT_SECONDS
        self._deadline = time.monotonic() + self._limit
        self._outcomes: dict[str, Mapping[str, Any]] = {}

    async def run(self) -> dict[str, Mapping[str, Any]]:
        """Return the last message about kernels until the child ends; at least one."""
        try:
            while (message := await self._message()) is not None:
                self._take(message)
            is_overdue = "overdue" in self._outcomes.get(self._kernel or "", {})
            if len(self._outcomes) < len(self._names) and not is_overdue:
                raise ChildDiedError(end_in_words(0), "")
        except ChildDiedError as error:
            if error.said:
                logger.info("what a kernel printed last:\n%s", error.said)
            reason = {"reason": f"while it {self._step}, {error.reason}", "is_certain": False}
            failed = self._names if self._kernel is None else (self._kernel,)
            self._outcomes |= dict.fromkeys(failed, reason)
        return self._outcomes

    async def _message(self) -> dict[str, Any] | None:
        try:
            return await self._child.message(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            died = await self._child.overdue(self._limit)
        if self._only_sample and self._step == COMPUTED:
            assert self._kernel is not None
            self._outcomes[self._kernel] = {"sampled": self._limit, "overdue": True}
            return None
        raise died

    def _take(self, message: Mapping[str, Any]) -> None:
        if "unusable" in message:
            reason = {"reason": message["unusable"], "is_certain": False}
            self._outcomes |= dict.fromkeys(self._names, reason)
        elif "step" in message:
            if message["kernel"] != self._kernel:
                self._begin(EXAMINE_SECONDS)
            elif message["step"] == COMPUTED and self._only_sample:
                self._begin(SAMPLE_SECONDS)
            self._kernel, self._step = message["kernel"], message["step"]
        else:
            self._outcomes[message["kernel"]] = message

    def _begin(self, limit: float) -> None:
        self._limit, self._deadline = limit, time.monotonic() + limit


def _examined(message: Mapping[str, Any]) -> ExaminedKernel:
    if "costs" in message:
        try:
            costs = KernelCosts.from_json(message["costs"])
        except (TypeError, ValueError, KeyError) as error:
            return ExaminedKernel(None, f"its costs cannot be used: {error}", is_certain=False)
        return ExaminedKernel(costs, None, message["warm_up_seconds"])
    return ExaminedKernel(None, message["reason"], is_certain=message.get("is_certain", True))
