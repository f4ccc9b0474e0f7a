"""The same cases in another process: with another hash seed, with freed memory that is filled with
something else, with Numba's bounds checks, and with protected pages around every array.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examining import load_cases, load_results
from hotloop.app.check.examples import example_of
from hotloop.app.check.memory import Fenced
from hotloop.app.check.names import BOUNDS, DETERMINISM
from hotloop.app.check.plan import Plan
from hotloop.app.check.points.results import Outputs, Results
from hotloop.app.check.reference import Case
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Subject, call
from hotloop.kernels import Kernel

__all__ = ["replay"]


_BRIEF_CASES: Final = 6
_BRIEF_ITEMS: Final = 3000


def replay(
    session: Session, subject: Subject, folder: Path, kernels: Iterable[str], *, role: str
) -> None:
    """Run the kernels as their names come in, and compare with the results of the first process.

    Numba's bounds checks change the code, so that in the role "replay" differences are only
    suspected; "confirm" finds them without these checks. "brief" does so with some cases.
    """
    plan = None
    for name in kernels:
        plan = plan or load_cases(folder).plan
        kernel = subject.kernels[name]
        session.send("kernel", name=name)
        try:
            with session.doing("it is loaded in another process", 1.0):
                kernel.warm_up()
        except Exception:  # the first process did it: a limit of the bounds checks
            continue
        replaying = _Replay(session, kernel, confirms=role != "replay", is_brief=role == "brief")
        count = replaying.run(plan, load_results(folder, name))
        if role == "replay":
            words = f"{count:,} batches between protected pages, under bounds checks"
            session.send("part", kernel=name, point=BOUNDS.name, words=words)
            words = f"{count:,} batches in another process"
            session.send("part", kernel=name, point=DETERMINISM.name, words=words)


class _Replay:
    def __init__(self, session: Session, kernel: Kernel, *, confirms: bool, is_brief: bool) -> None:
        self._session = session
        self._is_brief = is_brief
        self._kernel = kernel
        self._confirms = confirms
        self._is_over = False

    def run(self, plan: Plan, results: Results) -> int:
        """Run the cases that have results, in less than half of the time; return how many."""
        session = self._session
        end = session.left() - session.share(0.4)
        count = 0
        for place, case in enumerate(plan.usable):
            if session.left() < end or self._is_over:
                break
            if place not in results.outputs or (self._is_brief and case.count > _BRIEF_ITEMS):
                continue
            if self._is_brief and count == _BRIEF_CASES:
                break
            count += 1
            memory = Fenced(0, at_end=place % 2 == 0)
            with session.doing(f"{case.name}, {case.parameters}", 20 * case.seconds):
                called = call(self._kernel, case.columns, case.parameters, memory=memory)
            if called.error is None:
                self._compare(case, results.outputs[place], called.outputs)
            elif called.error.startswith("IndexError") and not self._confirms:
                words = f"under bounds checks it raises {called.error} ({case.name})"
                self._found(BOUNDS.name, words)
            else:
                self._suspect(f"in another process it raises {called.error} ({case.name})")
        return count

    def _compare(self, case: Case, first: Outputs, got: Outputs) -> None:
        rows = unlike(first, got)
        if not len(rows):
            return
        row = int(rows[0])
        for name, values in first.items():
            if len(unlike({name: values[[row]]}, {name: got[name][[row]]})):
                words = in_words(
                    self._kernel.workload, name, got[name][row], values[row], "the first process"
                )
                self._suspect(
                    f"in another process, with another hash seed, {words} ({case.name})", case, row
                )
                return

    def _suspect(self, words: str, case: Case | None = None, row: int = 0) -> None:
        self._is_over = True
        if self._confirms:
            self._found(DETERMINISM.name, words, case, row)
        else:
            self._session.send("suspect", kernel=self._kernel.name)

    def _found(self, point: str, words: str, case: Case | None = None, row: int = 0) -> None:
        self._is_over = True
        example = None if case is None else example_of(case.columns, row, case.parameters)
        self._session.found(self._kernel.name, point, words, example)
