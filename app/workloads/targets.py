"""Targets that the operator named, what became of each, and the workloads that are declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hotloop import kernels
from hotloop.app.workloads.describer import Described
from hotloop.kernels import Workload, WorkloadError
from hotloop.kernels.functions.loading import Target, entry_point_targets, parse_target


class WorkloadState(StrEnum):
    """The state of an own workload."""

    LOADING = "loading"
    AVAILABLE = "available"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class OwnWorkload:
    """A workload that a target has, or is expected to have, as it is shown."""

    target: str
    state: WorkloadState
    workload: str | None = None
    """None as long as it is not known, or if the target has none."""
    reason: str | None = None


@dataclass(slots=True)
class _Entry:
    """A target, and what became of it when it was described last."""

    text: str
    shown: tuple[OwnWorkload, ...]
    files: frozenset[str] = frozenset()
    declared: dict[str, Workload] = field(default_factory=dict)


class Targets:
    """Declares what targets turn out to have, and keeps the reasons of those that have nothing."""

    def __init__(self, texts: Sequence[str], folder: Path | None = None) -> None:
        """Take the targets named by `texts`, and those of entry points. Blocks."""
        self._folder = folder
        self._entry_points = {str(each): each for each in entry_point_targets()}
        self._entries = [
            _Entry(text, (OwnWorkload(text, WorkloadState.LOADING),))
            for text in dict.fromkeys((*texts, *self._entry_points))
        ]

    def to_describe(self) -> list[tuple[int, Target]]:
        """Return the targets with their places. One that names nothing gets its reason. Blocks."""
        found = []
        for place, entry in enumerate(self._entries):
            try:
                target = self._entry_points.get(entry.text)
                target = target or parse_target(entry.text, self._folder)
                found.append((place, target))
            except WorkloadError as error:
                file = str(Path(self._folder or ".", entry.text.partition(":")[0]).absolute())
                self.take(place, Described((), frozenset((file,)), str(error)))
        return found

    @property
    def files(self) -> frozenset[str]:
        """The user's files that what is known depends on."""
        return frozenset().union(*(entry.files for entry in self._entries))

    @property
    def shown(self) -> list[OwnWorkload]:
        """The workloads as they are shown, in the order of the targets."""
        return [each for entry in self._entries for each in entry.shown]

    @property
    def workloads(self) -> dict[str, Workload]:
        """The own workloads that are declared, by name."""
        return {name: w for entry in self._entries for name, w in entry.declared.items()}

    def withdraw(self) -> None:
        """Declare none of the own workloads any more."""
        for name in self.workloads:
            kernels.withdraw(name)

    def take(self, place: int, found: Described) -> bool:
        """Declare what a target has. Return True if a workload is another one now, or gone."""
        entry = self._entries[place]
        before, entry.declared = entry.declared, {}
        shown = []
        for workload in found.workloads:
            if self._is_declared(workload):
                continue  # one function by two targets, its file and an entry point perhaps
            reason = self._why_refused(workload)
            if reason is None:
                entry.declared[workload.name] = workload
                kernels.declare(workload)
            state = WorkloadState.AVAILABLE if reason is None else WorkloadState.FAILED
            shown.append(OwnWorkload(entry.text, state, workload.name, reason))
        if not found.workloads:
            shown.append(OwnWorkload(entry.text, WorkloadState.FAILED, None, found.reason))
        for name in before.keys() - entry.declared.keys():
            kernels.withdraw(name)
        # A failed import may not get to all files that it depends on.
        entry.shown, entry.files = tuple(shown), entry.files | found.files
        return any(entry.declared.get(name) != old for name, old in before.items())

    def _is_declared(self, workload: Workload) -> bool:
        """Return True if another target has the same version of the same workload."""
        known = self.workloads.get(workload.name)
        if known is None or known.source is None or workload.source is None:
            return False
        return known.source.version == workload.source.version

    def _why_refused(self, workload: Workload) -> str | None:
        name, rename = workload.name, 'choose another one: @hotloop.workload(name="...")'
        for entry in self._entries:
            if name in entry.declared:
                return f"the name {name!r} is taken by {entry.text}; {rename}"
        if any(w.source is None and w.name == name for w in kernels.declared_workloads()):
            return f"{name!r} is the name of a built-in workload; {rename}"
        return None
