"""What is known of a user's kernels once they were examined: costs, reasons, and sampled items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import copysign, log2
from typing import Any, Final

from hotloop.app.runhost.calibrate.constants import KernelCosts, check_measured
from hotloop.app.runhost.messages import KernelReport
from hotloop.kernels import Workload

FAR: Final = 4.0
"""Under parameters that give a cost term so many times the operations of the default, the costs of
the default are not relied on."""

MOST_SAMPLES: Final = 256
"""Samples that are kept of a workload; the oldest goes first."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExaminedKernel:
    """A kernel with its costs under the default parameters, or the reason why it has none."""

    costs: KernelCosts | None
    reason: str | None = None
    warm_up_seconds: float = 0.0
    is_certain: bool = True
    """False for a reason that may not hold another time: a crash, or a limit of time or memory."""


@dataclass(slots=True)
class Examined:
    """What is known of one version of a workload, by kernel."""

    kernels: dict[str, ExaminedKernel]
    samples: dict[str, dict[str, float]] = field(default_factory=dict)
    """Seconds of an item by kernel, for each key that stands for some parameters."""

    def sample(
        self, workload: Workload, parameters: Parameters, *, exact: bool
    ) -> Mapping[str, float] | None:
        """Return the seconds of an item by kernel where the costs of the default parameters do not
        tell; empty if they do, None if a sample has to be taken first.
        """
        if is_near(workload, parameters, exact=exact):
            return {}
        keys = (exact_key(parameters),) if exact else (exact_key(parameters), rough_key(parameters))
        return next((self.samples[key] for key in keys if key in self.samples), None)

    def keep(self, parameters: Parameters, sample: dict[str, float]) -> None:
        """Keep a sample, also for parameters that are about the same."""
        for key in (exact_key(parameters), rough_key(parameters)):
            self.samples[key] = sample
        while len(self.samples) > 2 * MOST_SAMPLES:
            del self.samples[next(iter(self.samples))]

    def costs(
        self, workload: Workload, parameters: Parameters, sample: Mapping[str, float]
    ) -> list[KernelCosts]:
        """Return the costs of the available kernels, so that an item under these parameters takes
        the seconds of the sample.
        """
        operations = workload.operations(parameters)
        return [
            scaled(each.costs, operations, sample.get(name))
            for name, each in self.kernels.items()
            if each.costs is not None
        ]

    def reports(self, workload: Workload, costs: list[KernelCosts]) -> list[KernelReport]:
        """Return reports as run hosts make them of built-in kernels; `costs` come from `costs`."""
        found = {each.kernel: each for each in costs}
        return [
            _report(workload.name, name, each, found.get(name))
            for name, each in self.kernels.items()
        ]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Examined:
        """Read what `to_json` has made. Raises TypeError, KeyError, ValueError, AttributeError."""
        kernels = {}
        for name, each in stored["kernels"].items():
            costs = each["costs"]
            costs = None if costs is None else KernelCosts.from_json(costs)
            kernels[str(name)] = ExaminedKernel(**{**each, "costs": costs})
        check_measured(stored["samples"])
        return cls(kernels, {key: dict(each) for key, each in stored["samples"].items()})


def unexamined(workload: Workload) -> list[KernelReport]:
    """Return reports of kernels of which nothing is known yet."""
    report = KernelReport(workload.name, "", False, None, False, None, 0.0, {}, examined=False)
    return [
        replace(report, kernel=each.kernel, releases_gil=each.releases_gil)
        for each in workload.kernels
    ]


def _report(
    workload: str, name: str, kernel: ExaminedKernel, costs: KernelCosts | None
) -> KernelReport:
    if costs is None:
        return KernelReport(workload, name, False, kernel.reason, False, None, 0.0, {})
    return KernelReport(
        workload=workload,
        kernel=name,
        available=True,
        reason=None,
        releases_gil=costs.releases_gil,
        instruction_set=None,
        warm_up_seconds=kernel.warm_up_seconds,
        ns_per_operation={t: 1e9 * each[-1] for t, each in costs.operation_seconds.items()},
        ns_beside=1e9 * costs.item_seconds,
    )


def is_near(workload: Workload, parameters: Parameters, *, exact: bool) -> bool:
    """Return True if the costs of the default parameters hold for these ones, too."""
    default = workload.resolve_parameters()
    if workload.depends_on_data:
        return parameters == default or (not exact and rough_key(parameters) == rough_key(default))
    known = workload.operations(default)
    return all(
        count <= FAR * max(1.0, known[term])
        for term, count in workload.operations(parameters).items()
    )


def scaled(
    costs: KernelCosts, operations: Mapping[str, float], seconds: float | None
) -> KernelCosts:
    """Return the costs with which an item of these operations takes so many seconds."""
    if seconds is None:
        return costs
    terms = costs.operation_seconds
    known = costs.item_seconds + sum(terms[term][-1] * count for term, count in operations.items())
    if known <= 0:
        return replace(costs, item_seconds=seconds)
    factor = seconds / known
    return replace(
        costs,
        item_seconds=factor * costs.item_seconds,
        operation_seconds={t: tuple(factor * each for each in of) for t, of in terms.items()},
    )


def exact_key(parameters: Parameters) -> str:
    """Return a key for these parameters alone."""
    return json.dumps(dict(parameters), sort_keys=True)


def rough_key(parameters: Parameters) -> str:
    """Return a key that is shared by parameters whose numbers are in the same power of two."""
    return "~" + exact_key({name: _rough(each) for name, each in parameters.items()})


def _rough(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        return value
    return copysign(1.0, value), round(log2(abs(value)))
