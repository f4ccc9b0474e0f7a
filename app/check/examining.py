"""The examination of all kernels of a workload, in a child process: the order of everything.

It goes from stage to stage, and in each from kernel to kernel, so that little time leaves out the
least. What is complete is known to the starter, so that a process that goes on after a crash does
nothing twice.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np

from hotloop.app.check.examples import example_of
from hotloop.app.check.names import BATCH, BOUNDS, DETERMINISM, INPUTS, POISON, RUNS
from hotloop.app.check.plan import Plan, make_plan
from hotloop.app.check.points.base import Base, make_base
from hotloop.app.check.points.batches import examine_batches
from hotloop.app.check.points.cost import examine_cost
from hotloop.app.check.points.errors import examine_errors
from hotloop.app.check.points.far import examine_far
from hotloop.app.check.points.gil import examine_gil
from hotloop.app.check.points.repeats import examine_again, examine_repeats
from hotloop.app.check.points.results import Results, examine_results
from hotloop.app.check.points.threads import examine_threads
from hotloop.app.check.reference import Raised, Reference
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Subject, is_derived
from hotloop.kernels import Kernel
from hotloop.kernels.functions.derive import one_line

__all__ = ["Cases", "examine", "load_cases", "load_results"]

_COMPILING_SECONDS: Final = 1.0

_STAGES: Final = {
    "results": 3.0,
    "repeats": 1.0,
    "threads": 1.0,
    "batch": 2.0,
    "gil": 1.0,
    "cost": 1.5,
    "far": 0.5,
    "again": 0.1,
}
"""The stages in their order, with their shares of the time."""

_SHARE_OF_REFERENCE: Final = 0.4
"""`python` is slow, and seldom wrong."""


class Cases:
    """What the first process leaves for the others: the cases, and the items that raise."""

    def __init__(self, plan: Plan, raised: list[Raised]) -> None:
        self.plan = plan
        self.raised = raised


def load_cases(folder: Path) -> Cases:
    """Return the cases that another process of the same check has written."""
    with (folder / "cases").open("rb") as file:
        found: Cases = pickle.load(file)
    return found


def load_results(folder: Path, kernel: str) -> Results:
    """Return what a kernel gave for the cases in the first process."""
    with (folder / f"results-{kernel}").open("rb") as file:
        found: Results = pickle.load(file)
    return found


def examine(session: Session, subject: Subject, folder: Path, done: Collection[str]) -> None:
    """Examine every kernel, but for what is `done`: names of kernels, or of a kernel and a stage.

    What other processes need is written to `folder`.
    """
    if (folder / "cases").exists():
        cases = load_cases(folder)
    else:
        cases = _make_cases(session, subject)
        with (folder / "cases").open("wb") as file:
            pickle.dump(cases, file, protocol=5)
    if subject.workload.source is not None:
        for name, reason in subject.reasons.items():
            session.found(name, RUNS.name, f"it cannot be loaded: {reason}")
    examination = _Examination(session, subject, folder, cases)
    units = [
        (stage, kernel)
        for stage in _STAGES
        for kernel in (*subject.compiled, subject.reference)
        if kernel.name not in done and f"{kernel.name} {stage}" not in done
    ]
    weights = [_weight(subject, *unit) for unit in units]
    for place, (stage, kernel) in enumerate(units):
        left = session.left()
        if left <= 0:
            break
        seconds = left * weights[place] / sum(weights[place:])
        session.send("kernel", name=kernel.name)
        examination.examine(stage, kernel, seconds)
        session.send("stage", name=f"{kernel.name} {stage}")


def _weight(subject: Subject, stage: str, kernel: Kernel) -> float:
    return _STAGES[stage] * (_SHARE_OF_REFERENCE if kernel is subject.reference else 1.0)


class _Examination:
    def __init__(self, session: Session, subject: Subject, folder: Path, cases: Cases) -> None:
        self._session = session
        self._subject = subject
        self._folder = folder
        self._cases = cases
        self._warm: dict[str, bool] = {}
        self._results: dict[str, Results] = {}
        self._bases: dict[str, Base | None] = {}
        self._known: dict[int, Any] = {}

    def examine(self, stage: str, kernel: Kernel, seconds: float) -> None:
        """Carry a stage out for one kernel, unless it does not run at all."""
        name, session, plan = kernel.name, self._session, self._cases.plan
        if name not in self._warm:
            self._warm[name] = _warmed(session, kernel)
        if not self._warm[name] or session.has_failed(name, RUNS.name):
            return
        if stage == "results":
            self._examine_results(kernel, seconds)
            return
        base = self._base(kernel)
        if base is None:
            return
        fickle = session.has_failed(name, DETERMINISM.name, POISON.name)
        if stage == "repeats" and not session.has_failed(name, POISON.name):
            results = self._results_of(name)
            calls = examine_repeats(session, base, plan, results, min(seconds, 3.0))
            words = f"{calls:,} calls repeated"
            session.send("part", kernel=name, point=DETERMINISM.name, words=words)
        elif stage == "batch" and not fickle:
            examine_batches(session, base, plan, min(seconds, 5.0))
            words = "memory around arrays compared"
            session.send("part", kernel=name, point=BOUNDS.name, words=words)
        elif stage == "far" and kernel is not self._subject.reference:
            examine_far(session, base, plan, self._known, seconds)
        elif stage == "threads":
            if not fickle and not session.has_failed(name, BATCH.name, INPUTS.name):
                seconds = min(max(seconds, 0.3), 1.2)
                examine_threads(session, base, plan, self._results_of(name), seconds)
        elif stage == "gil":
            examine_gil(session, base, min(seconds, 3.0))
        elif stage == "cost":
            columns = next((c.columns for c in plan.cases[:1] if c.count), base.columns)
            examine_cost(session, kernel, columns, plan.handy, min(seconds, 6.0))
        elif stage == "again":
            examine_again(session, self._subject, plan, name)

    def _examine_results(self, kernel: Kernel, seconds: float) -> None:
        session, name = self._session, kernel.name
        results = examine_results(session, self._subject, kernel, self._cases.plan, 0.8 * seconds)
        if session.has_failed(name, RUNS.name):
            return
        self._results[name] = results
        with (self._folder / f"results-{name}").open("wb") as file:
            pickle.dump(results, file, protocol=5)
        session.send("results", kernel=name)
        examine_errors(session, self._subject, kernel, self._cases.raised, 0.2 * seconds)

    def _results_of(self, name: str) -> Results:
        if name not in self._results:
            self._results[name] = load_results(self._folder, name)
        return self._results[name]

    def _base(self, kernel: Kernel) -> Base | None:
        if kernel.name not in self._bases:
            item_seconds = _item_seconds(self._cases.plan, self._results_of(kernel.name))
            self._bases[kernel.name] = make_base(
                self._session, kernel, self._cases.plan, item_seconds
            )
        return self._bases[kernel.name]


def _make_cases(session: Session, subject: Subject) -> Cases:
    """Compute the cases, and report what `python` cannot do."""
    reference = Reference(session, subject.reference)
    plan = make_plan(session, subject, reference)
    name = subject.reference.name
    if plan.fault is not None:
        session.found(name, RUNS.name, f"the simulated items cannot be used: {plan.fault}")
    raised = len(reference.raised)
    if raised and raised == reference.computed:
        item = reference.raised[0]
        session.found(
            name,
            RUNS.name,
            f"it raises {item.error}, and something for every other item, too",
            example_of(item.columns, 0, item.parameters),
        )
    elif not plan.usable:
        session.found(name, RUNS.name, "it takes too long for every item that was tried")
    if raised:
        words = f"`python` raises for {raised:,} of {reference.computed:,} items, as in: "
        session.send("note", words=words + reference.raised[0].error)
    if reference.slow:
        words = f"`python` takes too long for {len(reference.slow):,} items, which were left out"
        session.send("note", words=words)
    for parameter in subject.workload.parameters:
        if parameter.is_integer and parameter.maximum == np.iinfo(parameter.dtype).max:
            words = (
                f"{parameter.name} has no upper bound, so a request may ask for any number of "
                f"turns; declare one: hotloop.Integer(0, 10_000, default={parameter.default})"
            )
            session.send("note", words=words)
    return Cases(plan, reference.raised)


def _warmed(session: Session, kernel: Kernel) -> bool:
    """Warm a kernel up. What it raises is a reason if hotloop derives it, otherwise a finding."""
    try:
        with session.doing("it is loaded, and compiled if need be", _COMPILING_SECONDS):
            kernel.warm_up()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's code or a compiler raises
        if is_derived(kernel):
            session.send("unavailable", kernel=kernel.name, reason=one_line(error))
        else:
            session.found(kernel.name, RUNS.name, f"its first call raises {one_line(error)}")
        return False
    return True


def _item_seconds(plan: Plan, results: Results) -> float:
    """Return the time of the kernel for an item of the largest case with handy parameters."""
    times = [
        (case.count, results.seconds[place])
        for place, case in enumerate(plan.usable)
        if place in results.seconds and case.parameters == plan.handy
    ]
    if not times:
        return plan.handy_seconds
    count, taken = max(times)
    return max(taken / count, 1e-9)
