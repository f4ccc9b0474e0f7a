"""What is examined: a workload, its kernels as far as they can be used here, and one call of one.

Everything here runs the user's code, so that only child processes import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hotloop.app.check.chance import depends_on_chance
from hotloop.app.check.items.constants import constants_of
from hotloop.app.check.memory import Guarded, Memory
from hotloop.app.check.session import TooSlow
from hotloop.kernels import (
    Kernel,
    Workload,
    WorkloadError,
    declared_workloads,
    get_kernel,
    why_unavailable,
)
from hotloop.kernels.functions.derive import NumbaKernel, one_line
from hotloop.kernels.functions.loading import load_target, parse_target
from hotloop.kernels.kernel import new_scratch

__all__ = ["Called", "Subject", "call", "load_subjects"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload with those of its kernels that could be loaded; the others have reasons."""

    workload: Workload
    kernels: Mapping[str, Kernel]
    reasons: Mapping[str, str]
    constants: tuple[float | int, ...]
    is_fickle: bool
    """True if the code may give other results in another process."""

    @property
    def compiled(self) -> list[Kernel]:
        """The kernels other than `python`."""
        return list(self.kernels.values())[1:]

    @property
    def reference(self) -> Kernel:
        """The kernel `python`."""
        return next(iter(self.kernels.values()))


def load_subjects(text: str, folder: Path) -> list[Subject]:
    """Return the workloads that a text names: `module:object`, a file, or a built-in workload.

    Raises `WorkloadError`, and whatever the user's code raises.
    """
    for workload in declared_workloads():
        if workload.name == text:
            return [_built_in(workload)]
    found = load_target(parse_target(text, folder))
    subjects = []
    for function in found:
        workload = function.declaration
        loaded = {name: function.load_kernel(name) for name in function.kernel_names()}
        subjects.append(_subject(workload, loaded, [function.function]))
    return subjects


def _built_in(workload: Workload) -> Subject:
    loaded: dict[str, Kernel | str] = {}
    for each in workload.kernels:
        reason = why_unavailable(workload.name, each.kernel)
        loaded[each.kernel] = reason or get_kernel(workload.name, each.kernel)
    return _subject(workload, loaded, [])


def _subject(
    workload: Workload, loaded: Mapping[str, Kernel | str], functions: list[Any]
) -> Subject:
    kernels = {name: each for name, each in loaded.items() if isinstance(each, Kernel)}
    reasons = {name: each for name, each in loaded.items() if isinstance(each, str)}
    reference = workload.kernels[0].kernel
    if reference not in kernels:
        raise WorkloadError(f"kernel {reference!r} cannot be used: {reasons[reference]}")
    for kernel in kernels.values():
        functions += kernel.functions
    return Subject(
        workload, kernels, reasons, constants_of(functions), depends_on_chance(functions)
    )


def is_derived(kernel: Kernel) -> bool:
    """Return True for the kernel that hotloop derives from the plain function."""
    return any(isinstance(function, NumbaKernel) for function in kernel.functions)


@dataclass(frozen=True, slots=True)
class Called:
    """How one call ended. Without an `error` there are `outputs`."""

    outputs: dict[str, NDArray[Any]]
    error: str | None = None
    changed: list[str] = field(default_factory=list)
    """Names of the inputs that were changed."""
    beside: list[str] = field(default_factory=list)
    """Names of the arrays beside which something was written."""


def call(
    kernel: Kernel,
    columns: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, Any],
    *,
    kind: int = 0,
    shift: int = 0,
    memory: Memory | None = None,
) -> Called:
    """Run a kernel on a batch, with poison of this kind in its outputs and in its scratch.

    `parameters` are resolved, and the columns within their bounds. What the kernel raises is
    returned in one line.
    """
    workload = kernel.workload
    place: Memory = Guarded(kind, shift) if memory is None else memory
    count = len(next(iter(columns.values())))
    inputs = {c.name: place.input(c.name, columns[c.name]) for c in workload.columns_in}
    outputs = {c.name: place.output(c.name, (count,), c.dtype) for c in workload.columns_out}
    scratch = [
        place.output(each.name, new_scratch(each, parameters).shape, each.dtype)
        for each in workload.scratch
    ]
    error = None
    try:
        kernel.compute(inputs, parameters, outputs, scratch)
    except (TooSlow, KeyboardInterrupt):
        raise
    except BaseException as raised:  # whatever a user's code raises, SystemExit too
        error = one_line(raised)
    changed, beside = place.changed()
    copies = {} if error is not None else {name: array.copy() for name, array in outputs.items()}
    place.close()
    return Called(copies, error, changed, beside)
