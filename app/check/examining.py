"""The examination of all kernels of a workload, in a child process: the order of everything."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

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

__all__ = ["Cases", "examine", "load_cases"]

_COMPILING_SECONDS: Final = 1.0


class Cases:
    """What the first process leaves for the others: the cases, and the items that raise."""

    def __init__(self, plan: Plan, raised: list[Raised]) -> None:
        self.plan = plan
        self.raised = raised


def load_cases(path: Path) -> Cases:
    """Return the cases that another process of the same check has written."""
    with path.open("rb") as file:
        found: Cases = pickle.load(file)
    return found


def examine(session: Session, subject: Subject, folder: Path, skip: Collection[str]) -> None:
    """Examine every kernel but those to `skip`, and write what other processes need to `folder`."""
    path = folder / "cases"
    if path.exists():
        cases = load_cases(path)
    else:
        cases = _make_cases(session, subject)
        with path.open("wb") as file:
            pickle.dump(cases, file, protocol=5)
    known: dict[int, Any] = {}
    kernels = [kernel for kernel in subject.kernels.values() if kernel.name not in skip]
    for place, kernel in enumerate(kernels):
        session.send("kernel", name=kernel.name)
        seconds = max(0.9 * session.left() / (len(kernels) - place), 0.5)
        if kernel is subject.reference and len(kernels) > 1:
            seconds = max(session.share(0.25), 0.5)
        if not _is_warm(session, kernel):
            continue
        results = examine_results(session, subject, kernel, cases.plan, 0.3 * seconds)
        if session.has_failed(kernel.name, RUNS.name):
            continue
        with (folder / f"outputs-{kernel.name}").open("wb") as file:
            pickle.dump(results.outputs, file, protocol=5)
        session.send("outputs", kernel=kernel.name)
        examine_errors(session, subject, kernel, cases.raised, 0.08 * seconds)
        _examine_more(session, subject, kernel, cases.plan, results, seconds, known)
        session.send("complete", kernel=kernel.name)


def _make_cases(session: Session, subject: Subject) -> Cases:
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
            f"`python` raises {item.error}, and for every other item something, too",
            {"columns": {k: v[0].tolist() for k, v in item.columns.items()},
             "parameters": item.parameters},
        )
    elif not plan.usable:
        session.found(name, RUNS.name, "`python` takes too long for every item that was tried")
    if raised:
        session.send("note", words=f"`python` raises for {raised:,} of the items tried, as in: "
                     f"{reference.raised[0].error}")
    if reference.slow:
        session.send("note", words=f"`python` takes too long for {len(reference.slow):,} of the "
                     "items tried; they were left out")
    return Cases(plan, reference.raised)


def _is_warm(session: Session, kernel: Kernel) -> bool:
    try:
        with session.doing("it is loaded, and compiled if need be", _COMPILING_SECONDS):
            kernel.warm_up()
    except BaseException as error:  # whatever a user's code or a compiler raises
        if isinstance(error, KeyboardInterrupt):
            raise
        if is_derived(kernel):
            session.send("unavailable", kernel=kernel.name, reason=one_line(error))
        else:
            session.found(kernel.name, RUNS.name, f"its first call raises {one_line(error)}")
        return False
    return True


def _examine_more(
    session: Session,
    subject: Subject,
    kernel: Kernel,
    plan: Plan,
    results: Results,
    seconds: float,
    known: dict[int, Any],
) -> None:
    """Examine the points for which the kernel is run again and again."""
    base = make_base(session, kernel, plan, _item_seconds(plan, results))
    if base is None:
        return
    name = kernel.name
    calls = examine_repeats(session, base, plan, results, 0.1 * seconds)
    session.send("part", kernel=name, point=DETERMINISM.name, words=f"{calls:,} calls repeated")
    if not session.has_failed(name, DETERMINISM.name, POISON.name):
        examine_batches(session, base, plan, 0.2 * seconds)
    if not session.has_failed(name, DETERMINISM.name, POISON.name, BATCH.name, INPUTS.name):
        examine_threads(session, base, plan, min(max(0.1 * seconds, 0.5), 2.0))
    session.send("part", kernel=name, point=BOUNDS.name, words="memory around arrays compared")
    if kernel is not subject.reference:
        examine_far(session, base, plan, known, 0.1 * seconds)
    examine_gil(session, base, 0.1 * seconds)
    typical = plan.cases[0]
    columns = typical.columns if typical.count else base.columns
    examine_cost(session, kernel, columns, plan.handy, 0.15 * seconds)
    examine_again(session, subject, plan, name)


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
