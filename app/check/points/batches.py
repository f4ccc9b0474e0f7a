"""Batch invariance: an item has the same bits whatever else is in its batch, and wherever it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.comparing import in_words, unlike
from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import take
from hotloop.app.check.names import BATCH
from hotloop.app.check.plan import Plan
from hotloop.app.check.points.base import Base
from hotloop.app.check.points.results import Outputs
from hotloop.app.check.session import Session
from hotloop.app.check.subject import call

__all__ = ["examine_batches"]

_SIZES: Final = (
    *(1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 15, 16, 17, 23, 31, 32, 33, 47, 63, 64, 65, 100),
    *(127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1023),
)
_LARGE: Final = (1024, 1025, 2047, 4096, 4097, 10_007, 20_011, 65_537, 131_101, 1_000_003)
_MOST_VALUES: Final = 16_000_000
_PAIRS: Final = 48
_SHRINKS: Final = 24


def examine_batches(session: Session, base: Base, plan: Plan, seconds: float) -> None:
    """Run items again in other batches, for at most `seconds`."""
    end = time.monotonic() + seconds
    examination = _Examination(session, base)
    examination.empty()
    for words, rows in _merged(_small(base), _large(base, seconds)):
        if time.monotonic() > end or session.has_failed(base.kernel.name, BATCH.name):
            break
        examination.same(words, rows)
    examination.other_parameters(plan, end)
    session.ended(
        base.kernel.name,
        BATCH.name,
        f"{examination.calls:,} batches of up to {examination.largest:,}",
    )


def _small(base: Base) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield positions in the base, and in words what is special about such a batch."""
    count = base.count
    everything = np.arange(count)
    random = np.random.default_rng(1)
    yield "in reversed order", everything[::-1]
    for row in everything[:200]:
        yield "alone", np.array([row])
    for size in _SIZES:
        if size < count:
            starts = range(0, count, size)
            # Of small pieces some are enough.
            for start in list(starts)[:: max(1, len(starts) // 40)]:
                yield f"in a batch of {size}", everything[start : start + size]
    for _ in range(6):
        yield "in another order", random.permutation(count)
    yield "each twice", np.repeat(everything, 2)
    yield "each five times", np.repeat(everything[: count // 3 + 1], 5)
    for _ in range(_PAIRS):
        row, other = random.choice(count, 2, replace=False) if count > 1 else (0, 0)
        rows = np.full(int(random.choice((4, 8, 9, 16, 17))), other)
        rows[random.integers(0, len(rows))] = row
        yield "among copies of another item", rows
    for chosen in (3, 33, 97):
        yield "some of them", random.choice(count, min(chosen, count), replace=False)


def _large(base: Base, seconds: float) -> Iterator[tuple[str, NDArray[np.intp]]]:
    widest = max(values[0].size for values in base.columns.values())
    for size in _LARGE:
        if size * base.item_seconds < seconds * 0.15 and size * widest <= _MOST_VALUES:
            yield f"in a batch of {size:,}", np.arange(size) % base.count


def _merged(*streams: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield twenty of the first stream for one of each other, so that no kind comes too late."""
    first, *others = streams
    while True:
        taken = [each for each, _ in zip(first, range(20), strict=False)]
        taken += [each for stream in others for each, _ in zip(stream, range(1), strict=False)]
        if not taken:
            return
        yield from taken


class _Examination:
    def __init__(self, session: Session, base: Base) -> None:
        self._session = session
        self._base = base
        self.calls = 0
        self.largest = 0

    def empty(self) -> None:
        """Run a batch without items."""
        base = self._base
        with self._session.doing("a batch without items"):
            called = call(base.kernel, take(base.columns, slice(0, 0)), base.parameters)
        if called.error is not None:
            self._found(f"a batch without items raises {called.error}", None)
        elif called.beside:
            self._found("it writes in a batch without items", None)
        self.calls += 1

    def same(self, words: str, rows: NDArray[np.intp]) -> None:
        """Run these items as one batch, which must give the same bits."""
        wrong = self._wrong(rows, self.calls)
        if wrong is None:
            self._found(f"a batch of {len(rows)} raises, although its items do not alone", None)
        elif len(wrong):
            place = int(wrong[0])
            row = int(rows[place])
            # A smaller batch that shows it is easier to look into.
            rows, place = self._shrunk(rows, place)
            got = self._outputs(rows, 0)
            wanted = self._base.outputs
            if got is None:
                return
            for name in wanted:
                if len(unlike({name: wanted[name][[row]]}, {name: got[name][[place]]})):
                    self._found(
                        f"{words} an item gives another result, here at position {place} of "
                        f"{len(rows):,}: "
                        + in_words(
                            self._base.kernel.workload,
                            name,
                            wanted[name][row],
                            got[name][place],
                            f"a batch of {self._base.count:,} other items",
                        ),
                        row,
                    )
                    return
            self._found(
                f"{words} an item at position {place} of {len(rows):,} gave another result once",
                row,
            )

    def other_parameters(self, plan: Plan, end: float) -> None:
        """Run the items of other cases alone and in reversed order."""
        kernel = self._base.kernel
        for case in plan.usable:
            if time.monotonic() > end or self._session.has_failed(kernel.name, BATCH.name):
                return
            if case.parameters == plan.handy or case.count < 2:
                continue
            rows = np.arange(min(case.count, 9))
            columns = take(case.columns, rows)
            with self._session.doing(case.name, case.seconds):
                whole = call(kernel, columns, case.parameters)
            for batch in (rows[::-1], rows[:1], rows[1:3], rows[1:]):
                with self._session.doing(f"{case.name}, other batches", case.seconds):
                    part = call(kernel, take(columns, batch), case.parameters)
                self.calls += 1
                if whole.error is not None or part.error is not None:
                    continue
                wanted = {name: values[batch] for name, values in whole.outputs.items()}
                wrong = unlike(wanted, part.outputs)
                if len(wrong):
                    row = int(batch[wrong[0]])
                    self._session.found(
                        kernel.name,
                        BATCH.name,
                        f"an item gives other results in a batch of {len(batch)} than in one of "
                        f"{len(rows)}",
                        example_of(columns, row, case.parameters),
                    )
                    return

    def _wrong(self, rows: NDArray[np.intp], shift: int) -> NDArray[np.intp] | None:
        """Return the positions of wrong results; None if the kernel raises."""
        got = self._outputs(rows, shift)
        return None if got is None else unlike(self._base.expected(rows), got)

    def _outputs(self, rows: NDArray[np.intp], shift: int) -> Outputs | None:
        base = self._base
        self.calls += 1
        self.largest = max(self.largest, len(rows))
        columns = take(base.columns, rows)
        with self._session.doing(f"a batch of {len(rows)}", len(rows) * base.item_seconds):
            called = call(base.kernel, columns, base.parameters, shift=shift)
        return None if called.error is not None else called.outputs

    def _shrunk(self, rows: NDArray[np.intp], place: int) -> tuple[NDArray[np.intp], int]:
        """Return fewer items and the position of the wrong one among them, if it stays wrong."""
        step = len(rows) // 2
        for _ in range(_SHRINKS):
            if step == 0:
                break
            for start, end in ((step, len(rows)), (0, len(rows) - step)):
                if start <= place < end and end > start:
                    wrong = self._wrong(rows[start:end], 0)
                    if wrong is not None and place - start in wrong:
                        rows, place = rows[start:end], place - start
                        break
            else:
                step //= 2
            step = min(step, len(rows) // 2)
        return rows, place

    def _found(self, seen: str, row: int | None) -> None:
        example = None if row is None else self._base.example(row)
        self._session.found(self._base.kernel.name, BATCH.name, seen, example)
