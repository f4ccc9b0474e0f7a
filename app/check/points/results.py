"""Every case through one kernel: its results, and what it does to memory.

This decides the points parity, edges, inputs, poison and bounds. A difference is tried again before
it is reported, so that it is reported at the point that it belongs to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.comparing import differing, in_words, unlike
from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import take
from hotloop.app.check.names import (
    BATCH,
    BOUNDS,
    DETERMINISM,
    EDGES,
    INPUTS,
    PARITY,
    POISON,
    RUNS,
    Status,
)
from hotloop.app.check.plan import Plan
from hotloop.app.check.reference import Case
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Called, Subject, call
from hotloop.kernels import Kernel

__all__ = ["Results", "examine_results"]

Outputs = Mapping[str, NDArray[Any]]

_TRIED_ALONE: Final = 40
"""Items that are run alone in order to find the one that is to blame."""


class Results:
    """What a kernel gave for the cases, and the processor time that it took, by their position
    among the usable ones.
    """

    def __init__(self) -> None:
        self.outputs: dict[int, Outputs] = {}
        self.seconds: dict[int, float] = {}


def examine_results(
    session: Session, subject: Subject, kernel: Kernel, plan: Plan, seconds: float
) -> Results:
    """Run a kernel with every case, twice with different poison, for at most `seconds`."""
    comparison = _Comparison(session, subject, kernel)
    end = time.monotonic() + seconds
    items = {PARITY.name: 0, EDGES.name: 0}
    sets: set[str] = set()
    cases = plan.usable
    for place, case in enumerate(cases):
        if time.monotonic() > end or session.has_failed(kernel.name, RUNS.name):
            break
        if comparison.run(place, case):
            items[case.point] += case.count
            sets.add(repr(case.parameters))
    if session.has_failed(kernel.name, RUNS.name):
        return comparison.results
    is_reference = kernel is subject.reference
    for point in (PARITY.name, EDGES.name):
        if is_reference:
            session.checked(kernel.name, point, Status.NOT_APPLICABLE, "it is the reference")
        elif not items[point]:
            session.checked(kernel.name, point, Status.NOT_CHECKED, "`python` computed no item")
        else:
            session.ended(
                kernel.name, point, f"{items[point]:,} items, {len(sets):,} sets of parameters"
            )
    calls = f"{comparison.calls:,} calls"
    session.ended(kernel.name, INPUTS.name, calls)
    session.ended(kernel.name, POISON.name, f"{calls}, half of them with other poison")
    return comparison.results


class _Comparison:
    def __init__(self, session: Session, subject: Subject, kernel: Kernel) -> None:
        self._session = session
        self._workload = subject.workload
        self._kernel = kernel
        self._is_reference = kernel is subject.reference
        self.results = Results()
        self.calls = 0

    def run(self, place: int, case: Case) -> bool:
        """Run one case; return False if the kernel gave no result."""
        expected = case.expected
        assert expected is not None
        started = time.process_time()
        first = self._call(case, case.columns, 0, place)
        self.results.seconds[place] = time.process_time() - started
        if first.error is not None:
            self._blame_raising(case, first.error)
            return False
        self.results.outputs[place] = first.outputs
        second = self._call(case, case.columns, 1, place)
        poisoned = np.empty(0, dtype=np.intp)
        if second.error is not None:
            self._found(POISON.name, case, f"it raises {second.error}, with other poison only")
        else:
            poisoned = self._poisoned(case, place, first.outputs, second.outputs)
        differences = differing(
            self._workload, case.columns, case.parameters, expected, first.outputs
        )
        for output, rows in differences.items():
            rest = np.setdiff1d(rows, poisoned)
            if len(rest):
                self._blame_difference(case, output, rest, expected, first.outputs)
        return True

    def _poisoned(
        self, case: Case, place: int, first: Outputs, second: Outputs
    ) -> NDArray[np.intp]:
        """Return the positions of the items whose results depend on the poison."""
        rows = unlike(first, second)
        if not len(rows):
            return rows
        again = self._call(case, case.columns, 0, place)
        if again.error is not None or len(unlike(first, again.outputs)):
            self._found(
                DETERMINISM.name, case, "the same call, repeated, gives other results", int(rows[0])
            )
            return rows
        row = int(rows[0])
        name = _first_unlike(first, second, row)
        words = in_words(self._workload, name, second[name][row], first[name][row], "the same call")
        self._found(
            POISON.name,
            case,
            f"{name} depends on what outputs or scratch held before the call: {words}",
            row,
        )
        return rows

    def _blame_difference(
        self,
        case: Case,
        output: str,
        rows: NDArray[np.intp],
        expected: Outputs,
        got: Outputs,
    ) -> None:
        """Report results that are not those of `python`, at the point that is to blame."""
        row = _simplest(case.columns, rows)
        alone = self._call(case, take(case.columns, slice(row, row + 1)), 0, 0)
        words = in_words(self._workload, output, expected[output][row], got[output][row])
        if alone.error is None and case.count > 1:
            one = {name: values[row : row + 1] for name, values in expected.items()}
            columns = take(case.columns, slice(row, row + 1))
            if output not in differing(
                self._workload, columns, case.parameters, one, alone.outputs
            ):
                self._found(
                    BATCH.name,
                    case,
                    f"alone this item is right; at position {row} of a batch of {case.count} "
                    f"({case.name}) {words}",
                    row,
                )
                return
        self._found(case.point, case, f"{words}{_more(len(rows), case)}", row)

    def _blame_raising(self, case: Case, error: str) -> None:
        """Report that the kernel raises where `python` does not."""
        tried = np.linspace(0, case.count - 1, min(case.count, _TRIED_ALONE)).astype(int)
        alone = {}
        for row in dict.fromkeys(tried.tolist()):
            called = self._call(case, take(case.columns, slice(row, row + 1)), 0, 0)
            if called.error is not None:
                alone[row] = called.error
        if len(alone) == len(dict.fromkeys(tried.tolist())) and not self.results.outputs:
            row, text = next(iter(alone.items()))
            self._found(RUNS.name, case, f"it raises {text}, for every item", row)
        elif alone:
            row = _simplest(case.columns, np.array(list(alone)))
            self._found(case.point, case, f"it raises {alone[row]}; `python` gives a result", row)
        elif case.count == 1:
            self._found(DETERMINISM.name, case, f"the same call raised {error} only once", 0)
        else:
            self._found(
                BATCH.name,
                case,
                f"a batch of {case.count} ({case.name}) raises {error}; items of it do not, alone",
            )

    def _call(
        self, case: Case, columns: Mapping[str, NDArray[Any]], kind: int, shift: int
    ) -> Called:
        count = len(next(iter(columns.values())))
        words = f"{case.name}: {count} items, {example_of(None, 0, case.parameters)['parameters']}"
        with self._session.doing(words, case.seconds):
            called = call(self._kernel, columns, case.parameters, kind=kind, shift=shift)
        self.calls += 1
        if called.changed:
            self._found(
                INPUTS.name, case, f"it changes the input {_listed(called.changed)}", example=False
            )
        if called.beside:
            self._found(
                BOUNDS.name,
                case,
                f"it writes beside {_listed(called.beside)}, in a batch of {count}",
                example=False,
            )
        return called

    def _found(
        self, point: str, case: Case, seen: str, row: int | None = None, *, example: bool = True
    ) -> None:
        shown = example_of(
            case.columns if row is not None and example else None, row or 0, case.parameters
        )
        self._session.found(self._kernel.name, point, seen, shown)


def _first_unlike(first: Outputs, second: Outputs, row: int) -> str:
    return next(
        name
        for name in first
        if len(
            unlike(
                {name: first[name][row : row + 1]},
                {name: second[name][row : row + 1]},
            )
        )
    )


def _simplest(columns: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> int:
    """Return the position of the item that is shortest to write."""
    positions: list[int] = rows[:_TRIED_ALONE].tolist()
    return min(
        positions,
        key=lambda row: sum(len(repr(values[row].tolist())) for values in columns.values()),
    )


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _more(count: int, case: Case) -> str:
    where = f"in {case.name}" if case.count > 1 else "here"
    return "" if count == 1 else f"; so do {count - 1:,} more of {case.count:,} items {where}"
