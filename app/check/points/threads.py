"""Thread invariance: the same bits while other threads run the kernel with other items."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import rows_of, take
from hotloop.app.check.names import THREADS
from hotloop.app.check.plan import Plan
from hotloop.app.check.points.base import Base
from hotloop.app.check.points.results import Results
from hotloop.app.check.session import Session
from hotloop.app.check.subject import call
from hotloop.kernels.kernel import new_outputs, new_scratch

__all__ = ["examine_threads"]

_THREADS: Final = 4
_CALL_SECONDS: Final = 2e-3
"""A call takes about as long, so that several are under way at the same time."""

_LEAST_ITEMS: Final = 3
_MOST_ITEMS: Final = 50_000
_OFTEN_SECONDS: Final = 1e-6
"""Python threads take turns as often as that."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A batch that a thread runs again and again, and what it must give."""

    columns: dict[str, NDArray[Any]]
    parameters: dict[str, Any]
    outputs: Mapping[str, NDArray[Any]]
    seconds: float
    """About how long a call takes, alone."""


@dataclass(slots=True)
class _Wrong:
    """The first wrong result."""

    work: _Work
    row: int
    got: dict[str, NDArray[Any]]
    error: str | None = None


def examine_threads(
    session: Session, base: Base, plan: Plan, results: Results, seconds: float
) -> None:
    """Run the kernel in several threads, each with other items, for about `seconds`."""
    calls = 0
    for call_seconds in (_CALL_SECONDS, 0.0):
        made = [
            _work(session, base, plan, results, number, call_seconds) for number in range(_THREADS)
        ]
        works = [work for work in made if work is not None]
        if len(works) == _THREADS and not session.has_failed(base.kernel.name, THREADS.name):
            calls += _together(session, base, works, seconds / 2)
    words = f"{calls:,} calls in {_THREADS} threads, with other items in each"
    session.ended(base.kernel.name, THREADS.name, words)


def _work(
    session: Session, base: Base, plan: Plan, results: Results, number: int, call_seconds: float
) -> _Work | None:
    """Return the batch of a thread, of which a call takes about as long. Every second thread has
    other parameters, too.
    """
    source, parameters, item_seconds = base.columns, base.parameters, base.item_seconds
    others = [
        (results.seconds[place] / case.count, place)
        for place, case in enumerate(plan.usable)
        if place in results.outputs and case.parameters != plan.handy and case.count > 1
    ]
    if number % 2 and others:
        item_seconds, place = sorted(others)[len(others) // 2]
        case = plan.usable[place]
        source, parameters = case.columns, case.parameters
    size = int(min(max(call_seconds / max(item_seconds, 1e-9), _LEAST_ITEMS), _MOST_ITEMS))
    count = rows_of(source)
    columns = take(source, (np.arange(size) + number * max(1, count // _THREADS)) % count)
    with session.doing("a batch for threads", size * item_seconds):
        first = call(base.kernel, columns, parameters)
    if first.error is not None:
        return None
    return _Work(columns, parameters, first.outputs, size * item_seconds)


def _together(session: Session, base: Base, works: list[_Work], seconds: float) -> int:
    """Run all batches at the same time; report the first wrong result. Return the calls made."""
    barrier = threading.Barrier(len(works))
    end = time.monotonic() + seconds
    wrongs: list[_Wrong] = []
    counts = [0] * len(works)

    def repeat(number: int) -> None:
        barrier.wait()
        while time.monotonic() < end and not wrongs:
            wrong = _run(base, works[number])
            counts[number] += 1
            if wrong is not None:
                wrongs.append(wrong)

    threads = [
        threading.Thread(target=repeat, args=(number,), daemon=True) for number in range(len(works))
    ]
    expected = seconds + sum(work.seconds for work in works)
    with session.doing(f"{len(works)} threads", expected), _often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for wrong in wrongs[:1]:
        _report(session, base, wrong)
    return sum(counts)


def _run(base: Base, work: _Work) -> _Wrong | None:
    # All threads of one batch share its inputs, as those of a service do.
    workload = base.kernel.workload
    outputs = new_outputs(workload.columns_out, len(next(iter(work.columns.values()))))
    inputs = {name: values.view() for name, values in work.columns.items()}
    for view in inputs.values():
        view.flags.writeable = False
    scratch = [new_scratch(each, work.parameters) for each in workload.scratch]
    try:
        base.kernel.compute(inputs, work.parameters, outputs, scratch)
    except Exception as error:  # what a user's code raises
        return _Wrong(work, 0, {}, f"{type(error).__name__}: {error}")
    wrong = unlike(work.outputs, outputs)
    return _Wrong(work, int(wrong[0]), outputs) if len(wrong) else None


@contextmanager
def _often() -> Iterator[None]:
    """Let Python threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_OFTEN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _report(session: Session, base: Base, wrong: _Wrong) -> None:
    kernel, work, row = base.kernel, wrong.work, wrong.row
    example = example_of(work.columns, row, work.parameters)
    if wrong.error is not None:
        seen = f"while other threads run it, it raises {wrong.error}"
        session.found(kernel.name, THREADS.name, seen, example)
        return
    for name, wanted in work.outputs.items():
        if len(unlike({name: wanted[[row]]}, {name: wrong.got[name][[row]]})):
            words = in_words(kernel.workload, name, wanted[row], wrong.got[name][row], "alone it")
            seen = f"while other threads run it with other items, {words}"
            session.found(kernel.name, THREADS.name, seen, example)
            return
