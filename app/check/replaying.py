"""The same cases in another process: with another hash seed, other freed memory, and protected
pages around every array, or with Numba's bounds checks.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examining import load_cases
from hotloop.app.check.memory import Fenced, Guarded, Memory
from hotloop.app.check.messages import example_of
from hotloop.app.check.names import BOUNDS, DETERMINISM
from hotloop.app.check.plan import Plan
from hotloop.app.check.points.results import Outputs
from hotloop.app.check.reference import Case
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Subject, call
from hotloop.kernels import Kernel

__all__ = ["replay"]



def replay(
    session: Session, subject: Subject, folder: Path, kernels: Iterable[str], *, bounds: bool
) -> None:
    """Run the kernels as their names come in: with `bounds`, under Numba's bounds checks, which the
    environment switches on; otherwise within protected pages, comparing results.
    """
    cases = None
    for name in kernels:
        cases = cases or load_cases(folder / "cases")
        kernel = subject.kernels[name]
        with session.doing("it is loaded in another process", 1.0):
            try:
                kernel.warm_up()
            except Exception:  # reported by the first process, or a limit of the bounds checks
                continue
        if bounds and "numba" not in sys.modules:
            continue
        with (folder / f"outputs-{name}").open("rb") as file:
            outputs: Mapping[int, Outputs] = pickle.load(file)
        count = _run_cases(session, kernel, cases.plan, outputs, bounds=bounds)
        how = "under Numba's bounds checks" if bounds else "between protected pages"
        session.send("part", kernel=name, point=BOUNDS.name, words=f"{count:,} batches {how}")
        if not bounds:
            words = f"{count:,} batches in another process"
            session.send("part", kernel=name, point=DETERMINISM.name, words=words)


def _run_cases(
    session: Session,
    kernel: Kernel,
    plan: Plan,
    outputs: Mapping[int, Outputs],
    *,
    bounds: bool,
) -> int:
    """Run the cases that have outputs, in less than half of the time; return how many were run."""
    end = session.left() - session.share(0.4)
    count = 0
    for place, case in enumerate(plan.usable):
        if session.left() < end or session.has_failed(kernel.name, BOUNDS.name, DETERMINISM.name):
            break
        if place not in outputs:
            continue
        count += 1
        memory: Memory = Guarded(0) if bounds else Fenced(0, at_end=place % 2 == 0)
        with session.doing(f"{case.name}, {case.parameters}", 20 * case.seconds):
            called = call(kernel, case.columns, case.parameters, memory=memory)
        if called.error is not None:
            _raises(session, kernel, case.name, called.error, bounds=bounds)
        elif not bounds:
            _compare(session, kernel, case, outputs[place], called.outputs)
    return count


def _raises(session: Session, kernel: Kernel, case: str, error: str, *, bounds: bool) -> None:
    if bounds:
        if error.startswith("IndexError"):
            session.found(
                kernel.name, BOUNDS.name, f"with bounds checks it raises {error} ({case})"
            )
        return
    session.found(kernel.name, DETERMINISM.name, f"in another process it raises {error} ({case})")


def _compare(
    session: Session, kernel: Kernel, case: Case, first: Outputs, got: Outputs
) -> None:
    rows = unlike(first, got)
    if not len(rows):
        return
    row = int(rows[0])
    for name, values in first.items():
        if len(unlike({name: values[[row]]}, {name: got[name][[row]]})):
            words = in_words(kernel.workload, name, values[row], got[name][row], "another process")
            session.found(
                kernel.name,
                DETERMINISM.name,
                f"in a process of its own, with another hash seed, {words} ({case.name})",
                example_of(case.columns, row, case.parameters),
            )
            return
