"""Compute kernels: the same workload as plain Python, compiled Cython and Numba.

    >>> import numpy, kernels
    >>> batch = {"value": numpy.zeros(1), "offset": numpy.zeros(1, dtype=numpy.int64)}
    >>> int(kernels.get_kernel("loops", "python").run(batch)["nested"][0])
    9388000

Importing this package imports numpy and no kernel; each kernel is imported when first asked for.
"""

from hotloop.kernels.contract import Column, KernelName, Parameter, ProductBound, Term, Workload
from hotloop.kernels.errors import (
    InstructionSetUnavailableError,
    InvalidColumnError,
    InvalidInputError,
    InvalidParameterError,
    KernelsError,
    KernelUnavailableError,
    UnknownKernelError,
    UnknownWorkloadError,
)
from hotloop.kernels.kernel import Kernel
from hotloop.kernels.registry import (
    available_kernels,
    force_instruction_set,
    get_kernel,
    get_workload,
    instruction_sets,
    known_kernels,
    releases_gil,
    why_unavailable,
    workloads,
)

__all__ = [
    "Column",
    "InstructionSetUnavailableError",
    "InvalidColumnError",
    "InvalidInputError",
    "InvalidParameterError",
    "Kernel",
    "KernelName",
    "KernelUnavailableError",
    "KernelsError",
    "Parameter",
    "ProductBound",
    "Term",
    "UnknownKernelError",
    "UnknownWorkloadError",
    "Workload",
    "available_kernels",
    "force_instruction_set",
    "get_kernel",
    "get_workload",
    "instruction_sets",
    "known_kernels",
    "releases_gil",
    "why_unavailable",
    "workloads",
]
