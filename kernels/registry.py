"""The tables of workloads and kernels. No algorithm lives here.

Implementations are imported when first asked for, so that importing this package costs no more
than numpy. An import that fails is remembered, with its reason, for the life of the process.
"""

from collections.abc import Mapping
from importlib import import_module
from threading import Lock
from types import MappingProxyType
from typing import Final

from hotloop.kernels.contract import KernelName, Workload
from hotloop.kernels.errors import (
    InstructionSetUnavailableError,
    KernelUnavailableError,
    UnknownKernelError,
    UnknownWorkloadError,
)
from hotloop.kernels.kernel import Kernel
from hotloop.kernels.loops import LOOPS

__all__ = [
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

WORKLOADS: Final[Mapping[str, Workload]] = MappingProxyType({LOOPS.name: LOOPS})

MODULES: Final[Mapping[str, Mapping[KernelName, str]]] = MappingProxyType(
    {
        LOOPS.name: MappingProxyType(
            {
                KernelName.PYTHON: "hotloop.kernels.loops._python",
                KernelName.CYTHON: "hotloop.kernels.loops._cython",
                KernelName.NUMBA: "hotloop.kernels.loops._numba",
            }
        )
    }
)

HOLDING_THE_GIL: Final[frozenset[tuple[str, KernelName]]] = frozenset(
    {(LOOPS.name, KernelName.PYTHON)}
)

# For each kernel, one object for each instruction set, best first; where there is nothing to choose
# its only key is None. A string is the reason why there is no kernel. Both are guarded by the lock.
_loaded: Final[dict[tuple[str, KernelName], Mapping[str | None, Kernel] | str]] = {}
_forced: Final[dict[tuple[str, KernelName], str]] = {}
_lock: Final = Lock()


def workloads() -> tuple[str, ...]:
    """Return the names of all workloads."""
    return tuple(WORKLOADS)


def get_workload(name: str) -> Workload:
    """Return the declaration of a workload, or raise `UnknownWorkloadError`."""
    try:
        return WORKLOADS[name]
    except KeyError:
        raise UnknownWorkloadError(name, WORKLOADS) from None


def known_kernels(workload: str) -> tuple[KernelName, ...]:
    """Return the names of the workload's kernels, usable here or not, the reference first.

    Raises `UnknownWorkloadError`.
    """
    return tuple(MODULES[get_workload(workload).name])


def available_kernels(workload: str) -> tuple[KernelName, ...]:
    """Return the names of the workload's kernels that work here. Imports them all.

    Raises `UnknownWorkloadError`.
    """
    return tuple(
        kernel for kernel in known_kernels(workload) if why_unavailable(workload, kernel) is None
    )


def why_unavailable(workload: str, kernel: str) -> str | None:
    """Return None for a kernel that works here, otherwise one line: what is wrong and what to do.

    Raises `UnknownWorkloadError` or `UnknownKernelError`. Imports the kernel.
    """
    loaded = _load(workload, kernel)
    return loaded if isinstance(loaded, str) else None


def get_kernel(workload: str, kernel: str, instruction_set: str | None = None) -> Kernel:
    """Return the kernel of this name, imported on first use; always the same object.

    `instruction_set` is one of `instruction_sets(workload, kernel)`. Without it, the kernel uses
    the forced one, or else the best.

    Raises `UnknownWorkloadError`, `UnknownKernelError`, `KernelUnavailableError` or
    `InstructionSetUnavailableError`.
    """
    loaded = _usable(workload, kernel)
    if instruction_set is None:
        with _lock:
            instruction_set = _forced.get((workload, KernelName(kernel)), next(iter(loaded)))
    if instruction_set not in loaded:
        raise InstructionSetUnavailableError(kernel, instruction_set or "", _names(loaded))
    return loaded[instruction_set]


def releases_gil(workload: str, kernel: str) -> bool:
    """Return whether a run of this kernel lets other Python threads work meanwhile.

    Imports no kernel: planning must not cost a process the memory of a compiler. Raises
    `UnknownWorkloadError` or `UnknownKernelError`.
    """
    return (workload, _known(workload, kernel)) not in HOLDING_THE_GIL


def instruction_sets(workload: str, kernel: str) -> tuple[str, ...]:
    """Return the instruction sets that this kernel can use on this machine, best first.

    None for a kernel that has nothing to choose. All give the same bits. Imports the kernel.
    Raises `UnknownWorkloadError`, `UnknownKernelError` or `KernelUnavailableError`.
    """
    return _names(_usable(workload, kernel))


def force_instruction_set(workload: str, kernel: str, instruction_set: str | None) -> None:
    """Let `get_kernel` return the kernel for this instruction set, from now on in this process.

    None lifts it. Kernels that were got before keep what they have. Raises the errors of
    `get_kernel`, and changes nothing then.
    """
    name = get_kernel(workload, kernel, instruction_set).name
    with _lock:
        if instruction_set is None:
            _forced.pop((workload, name), None)
        else:
            _forced[workload, name] = instruction_set


def _usable(workload: str, kernel: str) -> Mapping[str | None, Kernel]:
    loaded = _load(workload, kernel)
    if isinstance(loaded, str):
        raise KernelUnavailableError(kernel, loaded)
    return loaded


def _names(loaded: Mapping[str | None, Kernel]) -> tuple[str, ...]:
    return tuple(name for name in loaded if name is not None)


def _load(workload: str, kernel: str) -> Mapping[str | None, Kernel] | str:
    name = _known(workload, kernel)
    with _lock:
        if (workload, name) not in _loaded:
            _loaded[workload, name] = _import(WORKLOADS[workload], name)
        return _loaded[workload, name]


def _known(workload: str, kernel: str) -> KernelName:
    known = known_kernels(workload)
    if kernel not in known:
        raise UnknownKernelError(kernel, known)
    return KernelName(kernel)


def _import(workload: Workload, name: KernelName) -> Mapping[str | None, Kernel] | str:
    module_name = MODULES[workload.name][name]
    try:
        module = import_module(module_name)
        # Where each set's term functions are found; without a choice, in the module itself.
        owners: Mapping[str | None, object] = module.INSTRUCTION_SETS or {None: module}
        return {
            instruction_set: Kernel(
                name=name,
                workload=workload,
                releases_gil=releases_gil(workload.name, name),
                instruction_set=instruction_set,
                _functions=tuple(getattr(owner, term.name) for term in workload.terms),
                _warm_up=module.warm_up,
            )
            for instruction_set, owner in owners.items()
        }
    # A broken compiled library may raise anything; whatever it is, it is reported, not raised.
    except Exception as error:
        return _reason(module_name, error)


def _reason(module_name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module_name:
        return (
            f"the extension {module_name} was not built; install a C compiler and the Python "
            "headers, then reinstall hotloop from its source (with HOTLOOP_REQUIRE_CYTHON=1 the "
            "install stops at the compiler's error)"
        )
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is missing; install it (pip install {error.name})"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"importing {module_name} failed with {text}; repair or reinstall what it names"
