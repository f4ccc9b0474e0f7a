"""Compute kernels: the same workload as plain Python, compiled Cython and Numba.

    >>> import numpy
    >>> from hotloop import kernels
    >>> batch = {"value": numpy.zeros(1), "offset": numpy.zeros(1, dtype=numpy.int64)}
    >>> int(kernels.get_kernel("loops", "python").run(batch)["nested"][0])
    9388000

Importing this package imports neither numpy nor a kernel; each is imported when first needed.
"""

from typing import TYPE_CHECKING

from hotloop.kernels.column import Column
from hotloop.kernels.contract import (
    Call,
    Implementation,
    Parameter,
    ProductBound,
    Scratch,
    Term,
    Workload,
    WorkloadSource,
)
from hotloop.kernels.errors import (
    InstructionSetUnavailableError,
    InvalidColumnError,
    InvalidInputError,
    InvalidParameterError,
    KernelsError,
    KernelUnavailableError,
    UnknownKernelError,
    UnknownWorkloadError,
    WorkloadChangedError,
    WorkloadError,
)
from hotloop.kernels.registry import (
    available_kernels,
    declare,
    declared_workloads,
    force_instruction_set,
    get_kernel,
    get_workload,
    instruction_sets,
    known_kernels,
    releases_gil,
    use,
    user_function,
    why_unavailable,
    withdraw,
    workloads,
)

if TYPE_CHECKING:
    from hotloop.kernels.kernel import Kernel
    from hotloop.kernels.parity import parity_faults

__all__ = [
    "Call",
    "Column",
    "Implementation",
    "InstructionSetUnavailableError",
    "InvalidColumnError",
    "InvalidInputError",
    "InvalidParameterError",
    "Kernel",
    "KernelUnavailableError",
    "KernelsError",
    "Parameter",
    "ProductBound",
    "Scratch",
    "Term",
    "UnknownKernelError",
    "UnknownWorkloadError",
    "Workload",
    "WorkloadChangedError",
    "WorkloadError",
    "WorkloadSource",
    "available_kernels",
    "declare",
    "declared_workloads",
    "force_instruction_set",
    "get_kernel",
    "get_workload",
    "instruction_sets",
    "known_kernels",
    "parity_faults",
    "releases_gil",
    "use",
    "user_function",
    "why_unavailable",
    "withdraw",
    "workloads",
]


def __getattr__(name: str) -> object:
    # These need numpy.
    if name == "Kernel":
        from hotloop.kernels.kernel import Kernel

        return Kernel
    if name == "parity_faults":
        from hotloop.kernels.parity import parity_faults

        return parity_faults
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
