"""The declared workloads, and their kernels once loaded. No algorithm lives here.

Implementations are imported when first asked for, so that importing this package costs little; it
does not even load numpy. An import that fails is remembered, with its reason, for the life of the
process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Final

from hotloop.kernels.contract import Implementation, Workload, WorkloadSource
from hotloop.kernels.errors import (
    InstructionSetUnavailableError,
    KernelUnavailableError,
    UnknownKernelError,
    UnknownWorkloadError,
    WorkloadChangedError,
)
from hotloop.kernels.loops import LOOPS

if TYPE_CHECKING:
    from hotloop.kernels.functions.declaration import WorkloadFunction
    from hotloop.kernels.kernel import Kernel

__all__ = [
    "available_kernels",
    "declare",
    "declared_workloads",
    "force_instruction_set",
    "get_kernel",
    "get_workload",
    "instruction_sets",
    "known_kernels",
    "releases_gil",
    "use",
    "user_function",
    "why_unavailable",
    "withdraw",
    "workloads",
]

_declared: Final[dict[str, Workload]] = {LOOPS.name: LOOPS}
_modules_to_import: Final = os.environ.get("_HOTLOOP_WORKLOAD_MODULES", "").split()
_declaring: Final = RLock()

# For each kernel, one object for each instruction set, best first; where there is nothing to choose
# its only key is None. A string is the reason why there is no kernel. Both are guarded by the lock.
_loaded: Final[dict[tuple[str, str], Mapping[str | None, Kernel] | str]] = {}
_forced: Final[dict[tuple[str, str], str]] = {}
_lock: Final = Lock()

# What users' sources have become in this process.
_functions: Final[dict[str, WorkloadFunction[..., Any]]] = {}
_used: Final[dict[WorkloadSource, Workload]] = {}
_using: Final = RLock()


def declared_workloads() -> tuple[Workload, ...]:
    """Return the declarations of all workloads, the default one first.

    Internal, for tests of this project: the environment variable `_HOTLOOP_WORKLOAD_MODULES` names
    modules, parted by blanks. Each has a declaration `WORKLOAD`, which is added. Run hosts and
    workers inherit the variable.
    """
    if _modules_to_import:
        with _declaring:
            while _modules_to_import:
                declare(import_module(_modules_to_import[0]).WORKLOAD)
                del _modules_to_import[0]
    return tuple(_declared.values())


def declare(workload: Workload) -> None:
    """Add a workload as data, or replace the one of the same name and its kernels."""
    with _lock:
        if _declared.get(workload.name) != workload:
            _forget_kernels(workload.name)
            _declared[workload.name] = workload


def withdraw(name: str) -> None:
    """Remove a workload that `declare` added; an unknown name is ignored."""
    with _lock:
        _forget_kernels(name)
        _declared.pop(name, None)
        _functions.pop(name, None)
        for source in [source for source, used in _used.items() if used.name == name]:
            del _used[source]


def use(source: WorkloadSource) -> Workload:
    """Import a user's workload into this process, once, declare it, and return its declaration.

    Runs the user's code. Raises `WorkloadChangedError` if its version is not that of `source`,
    `WorkloadError`, and whatever the user's code raises.
    """
    with _using:
        workload = _used.get(source)
        if workload is None:
            from hotloop.kernels.functions.loading import import_source

            function = import_source(source)
            workload = function.declaration
            found = workload.source
            assert found is not None
            if found.version != source.version:
                raise WorkloadChangedError(workload.name, source.version, found.version)
            with _lock:
                _forget_kernels(workload.name)
                _functions[workload.name] = function
                # Even in place of an equal declaration, which lacks the code that makes values up.
                _declared[workload.name] = workload
            _used[source] = workload
        return workload


def user_function(name: str) -> WorkloadFunction[..., Any] | None:
    """Return the function of a workload that `use` has imported into this process, if it has."""
    return _functions.get(name)


def _forget_kernels(workload: str) -> None:
    for key in [key for key in _loaded if key[0] == workload]:
        del _loaded[key]


def workloads() -> tuple[str, ...]:
    """Return the names of all workloads, the default one first."""
    return tuple(workload.name for workload in declared_workloads())


def get_workload(name: str) -> Workload:
    """Return the declaration of a workload, or raise `UnknownWorkloadError`."""
    found = _declared.get(name)
    if found is None:
        declared_workloads()
        found = _declared.get(name)
    if found is None:
        raise UnknownWorkloadError(name, _declared)
    return found


def known_kernels(workload: str) -> tuple[str, ...]:
    """Return the names of the workload's kernels, usable here or not, the reference first.

    Raises `UnknownWorkloadError`.
    """
    return tuple(each.kernel for each in get_workload(workload).kernels)


def available_kernels(workload: str) -> tuple[str, ...]:
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
            instruction_set = _forced.get((workload, kernel), next(iter(loaded)))
    if instruction_set not in loaded:
        raise InstructionSetUnavailableError(kernel, instruction_set or "", _names(loaded))
    return loaded[instruction_set]


def releases_gil(workload: str, kernel: str) -> bool:
    """Return True if a run of this kernel lets other Python threads work meanwhile.

    Imports no kernel: planning must not cost a process the memory of a compiler. Raises
    `UnknownWorkloadError` or `UnknownKernelError`.
    """
    return _implementation(workload, kernel).releases_gil


def instruction_sets(workload: str, kernel: str) -> tuple[str, ...]:
    """Return the instruction sets that this kernel can use on this machine, best first.

    Empty for a kernel that has nothing to choose. All give the same bits. Imports the kernel.
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
    implementation = _implementation(workload, kernel)
    key = workload, implementation.kernel
    with _lock:
        if key not in _loaded:
            _loaded[key] = _import(get_workload(workload), implementation)
        return _loaded[key]


def _implementation(workload: str, kernel: str) -> Implementation:
    for each in get_workload(workload).kernels:
        if each.kernel == kernel:
            return each
    raise UnknownKernelError(kernel, known_kernels(workload))


def _import(workload: Workload, found: Implementation) -> Mapping[str | None, Kernel] | str:
    from hotloop.kernels.kernel import Kernel

    if workload.source is not None:
        return _import_own(workload, found.kernel)
    try:
        module = import_module(found.module)
        # Where each set's term functions are found; without a choice, in the module itself.
        owners: Mapping[str | None, object] = module.INSTRUCTION_SETS or {None: module}
        return {
            instruction_set: Kernel(
                name=found.kernel,
                workload=workload,
                releases_gil=found.releases_gil,
                instruction_set=instruction_set,
                _functions=tuple(getattr(owner, call.function) for call in workload.calls),
                _warm_up=module.warm_up,
            )
            for instruction_set, owner in owners.items()
        }
    # A broken compiled library may raise anything; whatever it is, it is reported, not raised.
    except Exception as error:
        return _reason(found.module, error)


def _import_own(workload: Workload, kernel: str) -> Mapping[str | None, Kernel] | str:
    function = _functions.get(workload.name)
    if function is None:
        return f"the code of workload {workload.name} is not imported in this process"
    loaded = function.load_kernel(kernel)
    return loaded if isinstance(loaded, str) else {None: loaded}


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
