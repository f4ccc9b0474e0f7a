"""Determinism within a process: the same call again, between other calls, and in used memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import take
from hotloop.app.check.names import DETERMINISM
from hotloop.app.check.plan import Plan
from hotloop.app.check.points.base import Base
from hotloop.app.check.points.results import Results
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Called, Subject, call
from hotloop.kernels.kernel import new_outputs, new_scratch

__all__ = ["examine_again", "examine_repeats"]

_FEW: Final = 3
_TINY_CALLS: Final = 1500
_CALLS: Final = 12
_CASES: Final = 40


def examine_repeats(
    session: Session, base: Base, plan: Plan, results: Results, seconds: float
) -> int:
    """Repeat calls for at most `seconds`; return how many were made."""
    examination = _Repeats(session, base)
    end = time.monotonic() + seconds
    for stage in range(4):
        if session.has_failed(base.kernel.name, DETERMINISM.name):
            break
        if stage == 0:
            examination.same(_CALLS, base.count, time.monotonic() + seconds / 4)
        elif stage == 1:
            examination.in_used_memory()
        elif stage == 2:
            examination.between(plan, results, time.monotonic() + seconds / 3)
        else:
            examination.same(_TINY_CALLS, _FEW, end)
    return examination.calls


def examine_again(session: Session, subject: Subject, plan: Plan, kernel: str) -> None:
    """Run `python` again after a kernel, which may have changed how this process computes."""
    case = next((each for each in plan.usable if each.parameters == plan.handy), None)
    if case is None or case.expected is None or session.has_failed("python", DETERMINISM.name):
        return
    rows = slice(0, 64)
    with session.doing(f"`python` after {kernel}", case.seconds):
        called = call(subject.reference, take(case.columns, rows), case.parameters)
    wanted = {name: values[rows] for name, values in case.expected.items()}
    if called.error is not None or len(unlike(wanted, called.outputs)):
        session.found(
            kernel,
            DETERMINISM.name,
            "after its runs `python` gives other results than before, in the same process",
        )


class _Repeats:
    def __init__(self, session: Session, base: Base) -> None:
        self._session = session
        self._base = base
        self.calls = 0

    def same(self, most: int, count: int, end: float) -> None:
        """Make the same call again and again."""
        columns = take(self._base.columns, slice(0, count))
        expected = count * self._base.item_seconds
        first = self._call(columns, self._base.parameters, 0, expected)
        for number in range(2, most):
            if time.monotonic() > end:
                return
            called = self._call(columns, self._base.parameters, 0, expected)
            if called.error != first.error:
                self._found(f"call {number} of the same batch raises {called.error}", None)
                return
            wrong = unlike(first.outputs, called.outputs)
            if len(wrong):
                words = f"call {number} of the same batch"
                self._report(words, first.outputs, called.outputs, wrong)
                return

    def in_used_memory(self) -> None:
        """Give a kernel the same arrays with other values, and look at results of earlier calls."""
        base = self._base
        half = base.count // 2
        if half == 0:
            return
        workload = base.kernel.workload
        arrays = {name: values[:half].copy() for name, values in base.columns.items()}
        views = {name: array.view() for name, array in arrays.items()}
        for view in views.values():
            view.flags.writeable = False
        outputs = new_outputs(workload.columns_out, half)
        scratch = [new_scratch(each, base.parameters) for each in workload.scratch]
        kept: list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]] = []
        for start in (0, base.count - half, 0):
            rows = np.arange(start, start + half)
            for name, array in arrays.items():
                array[...] = base.columns[name][rows]
            expected = half * base.item_seconds
            with self._session.doing("the same arrays with other values", expected):
                try:
                    base.kernel.compute(views, base.parameters, outputs, scratch)
                except Exception:  # reported by other calls
                    return
            got = {name: values.copy() for name, values in outputs.items()}
            fresh = take(base.columns, rows)
            wanted = self._call(fresh, base.parameters, 0, expected).outputs
            wrong = unlike(wanted, got)
            if len(wrong):
                self._report(
                    "a call with the same arrays and other values in them",
                    wanted,
                    got,
                    wrong,
                    int(rows[wrong[0]]),
                )
                return
            kept.append((outputs, got))
            outputs = new_outputs(workload.columns_out, half)
        if any(len(unlike(now, then)) for now, then in kept):
            self._found("results of an earlier call change during a later one", None)

    def between(self, plan: Plan, results: Results, end: float) -> None:
        """Make calls with other parameters in between, and compare with their first results."""
        places = [p for p in results.outputs if plan.usable[p].count <= 300][:_CASES]
        order = [*places, *reversed(places)]
        for place in order:
            if time.monotonic() > end:
                return
            case = plan.usable[place]
            called = self._call(case.columns, case.parameters, place, case.seconds)
            if called.error is not None:
                self._found(f"{case.name}: after other calls it raises {called.error}", None)
                return
            wrong = unlike(results.outputs[place], called.outputs)
            if len(wrong):
                self._session.found(
                    self._base.kernel.name,
                    DETERMINISM.name,
                    f"{case.name}: after calls with other items and parameters it gives other "
                    "results",
                    example_of(case.columns, int(wrong[0]), case.parameters),
                )
                return

    def _call(
        self,
        columns: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, Any],
        shift: int,
        expected: float,
    ) -> Called:
        self.calls += 1
        with self._session.doing("the same batch again", expected):
            return call(self._base.kernel, columns, parameters, shift=shift)

    def _report(
        self,
        words: str,
        wanted: Mapping[str, NDArray[Any]],
        got: Mapping[str, NDArray[Any]],
        wrong: NDArray[np.intp],
        row: int | None = None,
    ) -> None:
        place = int(wrong[0])
        for name in wanted:
            if len(unlike({name: wanted[name][[place]]}, {name: got[name][[place]]})):
                text = in_words(
                    self._base.kernel.workload,
                    name,
                    wanted[name][place],
                    got[name][place],
                    "the first call",
                )
                self._found(f"{words} gives another result: {text}", place if row is None else row)
                return

    def _found(self, seen: str, row: int | None) -> None:
        example = None if row is None else self._base.example(row)
        self._session.found(self._base.kernel.name, DETERMINISM.name, seen, example)
