"""Parameters that `python` is too slow for: compiled kernels are compared with each other there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examples import example_of
from hotloop.app.check.names import BOUNDS, INPUTS, PARITY, POISON, RUNS
from hotloop.app.check.plan import Plan, above_least
from hotloop.app.check.points.base import Base
from hotloop.app.check.reference import Case
from hotloop.app.check.session import Session
from hotloop.app.check.subject import call

__all__ = ["examine_far"]

_LONGEST_SECONDS: Final = 0.5

Outputs = Mapping[str, NDArray[Any]]


def examine_far(
    session: Session, base: Base, plan: Plan, known: dict[int, tuple[str, Outputs]], seconds: float
) -> None:
    """Run a compiled kernel with the far cases, for at most `seconds`. `known` has the results of
    the first kernel that gave some, with its name, and gets those of this one.
    """
    end = time.monotonic() + seconds
    kernel = base.kernel
    longest = min(_LONGEST_SECONDS, seconds / 4)
    for place, case in enumerate(plan.far):
        expected = _expected_seconds(base, case)
        if time.monotonic() > end or session.has_failed(kernel.name, RUNS.name):
            return
        if expected * case.count > longest:
            continue
        example = example_of(case.columns, 0, case.parameters)
        results = []
        for kind in (0, 1):
            with session.doing(f"{case.name}: {example['parameters']}", expected * case.count):
                called = call(kernel, case.columns, case.parameters, kind=kind, shift=place)
            if called.beside:
                names = ", ".join(called.beside)
                session.found(kernel.name, BOUNDS.name, f"it writes beside {names}", example)
            if called.changed:
                names = ", ".join(called.changed)
                session.found(kernel.name, INPUTS.name, f"it changes {names}", example)
            results.append(called)
        first, second = results
        if first.error is not None or second.error is not None:
            continue  # `python` may raise there, too
        if len(unlike(first.outputs, second.outputs)):
            seen = "its results depend on what outputs or scratch held before the call"
            session.found(kernel.name, POISON.name, seen, example)
            continue
        other, wanted = known.setdefault(place, (kernel.name, first.outputs))
        rows = unlike(wanted, first.outputs)
        if (
            other != kernel.name
            and len(rows)
            and not any(column.ulp for column in kernel.workload.columns_out)
        ):
            row = int(rows[0])
            name = next(n for n in wanted if wanted[n][row] != first.outputs[n][row])
            words = in_words(
                kernel.workload, name, wanted[name][row], first.outputs[name][row], other
            )
            session.found(
                kernel.name,
                PARITY.name,
                f"{words}; `python` is too slow for these parameters",
                example_of(case.columns, row, case.parameters),
            )


def _expected_seconds(base: Base, case: Case) -> float:
    """Return about how long an item takes, rather too long than too short."""
    workload = base.kernel.workload
    if not workload.depends_on_data:
        here, there = (workload.operations(each) for each in (base.parameters, case.parameters))
        return base.item_seconds * max(there[name] / max(here[name], 1.0) for name in here)
    growth = 1.0
    for parameter in workload.parameters:
        if parameter.is_integer:
            one, other = (
                above_least(parameter, values) + 1 for values in (base.parameters, case.parameters)
            )
            growth *= max(1.0, other / one) ** 2
    return base.item_seconds * growth
