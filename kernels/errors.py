"""Errors of the compute core.

KernelsError
├── UnknownWorkloadError       no workload has this name
├── UnknownKernelError         no kernel has this name
├── KernelUnavailableError     the kernel is known and cannot be loaded here
├── WorkloadError              a function cannot be a workload; also a ValueError
├── WorkloadChangedError       the code of a workload is not the version that was meant
├── InstructionSetUnavailableError  the kernel cannot use this instruction set here
└── InvalidInputError          also a ValueError; `field` names what was refused
    ├── InvalidParameterError  a parameter is unknown, of a wrong type or out of bounds
    └── InvalidColumnError     a column is missing, unknown, of a wrong kind or out of bounds

Each error keeps its constructor's arguments as `args`, so it survives pickling between processes.
"""

from collections.abc import Iterable

__all__ = [
    "InstructionSetUnavailableError",
    "InvalidColumnError",
    "InvalidInputError",
    "InvalidParameterError",
    "KernelUnavailableError",
    "KernelsError",
    "UnknownKernelError",
    "UnknownWorkloadError",
    "WorkloadChangedError",
    "WorkloadError",
]


class KernelsError(Exception):
    """Base of every error that this package raises on purpose."""


class UnknownWorkloadError(KernelsError):
    """No workload is called `name`; `choices` are the names that exist."""

    def __init__(self, name: str, choices: Iterable[str]) -> None:
        self.name = name
        self.choices = tuple(str(choice) for choice in choices)
        super().__init__(name, self.choices)

    def __str__(self) -> str:
        return f"unknown workload {self.name!r}; choose one of: {', '.join(self.choices)}"


class WorkloadError(KernelsError, ValueError):
    """A function, or what is declared of it, cannot be a workload; the text says what to do."""


class WorkloadChangedError(KernelsError):
    """The code of the workload `name` has the version `found` here, and `wanted` was meant."""

    def __init__(self, name: str, wanted: str, found: str) -> None:
        self.name = name
        self.wanted = wanted
        self.found = found
        super().__init__(name, wanted, found)

    def __str__(self) -> str:
        return (
            f"the code of workload {self.name!r} has changed: version {self.wanted[:12]} was "
            f"meant, {self.found[:12]} is here; restart the service, or serve with --reload"
        )


class UnknownKernelError(KernelsError):
    """No kernel is called `name`; `choices` are the names that exist."""

    def __init__(self, name: str, choices: Iterable[str]) -> None:
        self.name = name
        self.choices = tuple(str(choice) for choice in choices)
        super().__init__(name, self.choices)

    def __str__(self) -> str:
        return f"unknown kernel {self.name!r}; choose one of: {', '.join(self.choices)}"


class KernelUnavailableError(KernelsError):
    """The kernel `name` exists but could not be loaded; `reason` says why and how to get it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = str(name)
        self.reason = reason
        super().__init__(self.name, reason)

    def __str__(self) -> str:
        return f"kernel {self.name!r} is unavailable: {self.reason}"


class InstructionSetUnavailableError(KernelsError):
    """The kernel `kernel` cannot use the instruction set `name`; `choices` are those it can use."""

    def __init__(self, kernel: str, name: str, choices: Iterable[str]) -> None:
        self.kernel = str(kernel)
        self.name = name
        self.choices = tuple(str(choice) for choice in choices)
        super().__init__(self.kernel, name, self.choices)

    def __str__(self) -> str:
        return (
            f"kernel {self.kernel!r} cannot use the instruction set {self.name!r} on this machine; "
            f"choose one of: {', '.join(self.choices) or 'none, it has no choice'}"
        )


class InvalidInputError(KernelsError, ValueError):
    """An input was refused before any work was done.

    `field` is the name of the refused parameter or column, `message` the whole sentence.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(field, message)

    def __str__(self) -> str:
        return self.message


class InvalidParameterError(InvalidInputError):
    """A parameter is unknown, is not an integer, or is out of bounds."""


class InvalidColumnError(InvalidInputError):
    """A column is missing or unknown, or its type, shape, memory or values are refused."""
