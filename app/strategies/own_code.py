"""Users' code in this process: imported once, by its version, and bounded in memory while it runs.

Only run hosts, fork servers and workers call this. A bound of the process's own memory turns an
allocation that the machine could not bear into a MemoryError of the run; without it, the system
would kill whichever process it takes for the cause.
"""

from __future__ import annotations

import threading
from typing import Final

from hotloop import kernels
from hotloop.app.errors import WorkloadUnusableError
from hotloop.app.strategies.base import Plan
from hotloop.app.system import bound_memory
from hotloop.kernels.contract import WorkloadSource
from hotloop.kernels.functions.derive import one_line

_Entered = tuple[WorkloadSource | None, int | None]

_entered: _Entered = None, None
"""The source that this process has imported last, and the bound of its memory."""
_entering: Final = threading.Lock()


def enter(plan: Plan) -> None:
    """Make this process ready for the plan's workload; costs next to nothing the next time. Blocks
    while a user's module is imported. Raises WorkloadUnusableError.
    """
    enter_source(plan.workload, plan.source, plan.memory_bytes)


def enter_source(
    workload: str, source: WorkloadSource | None, memory_bytes: int | None = None
) -> None:
    """Do what `enter` does, for the source of a workload; None for a built-in one, whose memory is
    not bounded.
    """
    global _entered
    wanted: _Entered = source, None if source is None else memory_bytes
    if wanted == _entered:
        return
    with _entering:
        bound_memory(wanted[1])
        _entered = None, wanted[1]
        if source is not None:
            _import(workload, source)
        _entered = wanted


def _import(workload: str, source: WorkloadSource) -> None:
    try:
        kernels.use(source)
    except kernels.KernelsError as error:
        raise WorkloadUnusableError(workload, str(error)) from error
    except BaseException as error:  # whatever a user's module raises, SystemExit among it
        text = f"importing {source.module} failed: {one_line(error)}"
        raise WorkloadUnusableError(workload, text) from error


def warm_up(plan: Plan) -> None:
    """Load and compile the plan's kernel in this process; `enter` comes first. Raises
    WorkloadUnusableError for a user's kernel that cannot be had.
    """
    try:
        kernels.get_kernel(plan.workload, plan.kernel).warm_up()
    except BaseException as error:
        if plan.source is None:
            raise
        is_told = isinstance(error, kernels.KernelsError)
        text = str(error) if is_told else f"kernel {plan.kernel!r}: {one_line(error)}"
        raise WorkloadUnusableError(plan.workload, text) from error
