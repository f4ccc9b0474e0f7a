"""A kernel as callers see it: one implementation of one workload, behind the one validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hotloop.kernels.contract import KernelName, Workload
from hotloop.kernels.validation import checked_inputs, checked_outputs, new_outputs

__all__ = ["Kernel"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One implementation of `workload`, safe to use from any number of threads.

    `releases_gil` says whether a run lets other Python threads work meanwhile. `instruction_set`
    names the one that was chosen at run time, or is None where there was nothing to choose.
    """

    name: KernelName
    workload: Workload = field(repr=False)
    releases_gil: bool
    instruction_set: str | None
    _functions: tuple[Callable[..., None], ...] = field(repr=False)
    _warm_up: Callable[[], None] = field(repr=False)

    def warm_up(self) -> None:
        """Do whatever a first run would have to do (compile), once in this process."""
        self._warm_up()

    def run(
        self,
        columns: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, object] | None = None,
        *,
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Compute one batch and return its output columns, each of shape (n,).

        `columns` holds the workload's input columns, each of shape (n,) and of exactly its dtype; n
        may be 0, and the arrays are not modified. Parameters left out take their defaults. `out`
        may hold every output column, preallocated; the same arrays are then filled and returned.

        Raises `InvalidParameterError` or `InvalidColumnError` before anything is computed.
        """
        workload = self.workload
        resolved = workload.resolve_parameters(parameters)
        inputs = checked_inputs(workload.columns_in, columns)
        length = len(inputs[workload.columns_in[0].name])
        if out is None:
            results = targets = new_outputs(workload.columns_out, length)
        else:
            targets = checked_outputs(workload.columns_out, out, length, columns)
            results = {name: out[name] for name in targets}
        self.warm_up()
        for term, function in zip(workload.terms, self._functions, strict=True):
            function(
                *map(inputs.__getitem__, term.columns),
                *map(resolved.__getitem__, term.parameters),
                targets[term.name],
            )
        return results
