"""The progress of batches in work, counted in steps: each stage that an item has passed is one, and
its kernel call another.

Threads count in an object of the batch. A worker process counts in its own word of memory that it
shares with the run host: the upper half says which batch, the lower half how many steps, so that
one store changes both. Every counter has one writer at a time, so none needs a lock.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from typing import Final, Protocol

from hotloop.app.sources.base import Batch

_HALF: Final = 32

Words = MutableSequence[int]
"""Shared memory: one word of 64 bits for each worker process of a pool."""


class Steps(Protocol):
    """Steps that the items of one batch have passed."""

    count: int


@dataclass(slots=True)
class StepCount:
    """Steps that are counted in this process."""

    count: int = 0


class _SharedStepCount:
    """Steps that a worker process counts where the run host sees them."""

    __slots__ = ("_base", "_count", "_place", "_words")

    def __init__(self, words: Words, place: int, batch: Batch) -> None:
        self._words = words
        self._place = place
        self._base = (batch.index + 1) << _HALF
        self.count = 0

    @property
    def count(self) -> int:
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        self._count = count
        self._words[self._place] = self._base | count


_mine: tuple[Words, int] | None = None


def count_in(words: Words, place: int) -> None:
    """Let this process, a worker, count in one of the words from now on."""
    global _mine
    _mine = words, place


def steps_of(batch: Batch) -> Steps:
    """A counter for a batch that this process begins to work on."""
    return StepCount() if _mine is None else _SharedStepCount(*_mine, batch)


class InFlight:
    """The batches of a run whose results were not given yet."""

    def __init__(self) -> None:
        self._open: dict[int, StepCount] = {}
        self._words: Callable[[], Words] = list

    def begin(self, words: Callable[[], Words] = list) -> None:
        """Begin a run; its worker processes, if any, count in what `words` gives, which may be
        other memory after one of them has died. They are idle now.
        """
        self._open.clear()
        self._words = words
        for place in range(len(words())):
            words()[place] = 0

    def enter(self, batch: Batch) -> StepCount:
        """A batch is in work; returns the counter for what this process does for it."""
        steps = self._open[batch.index] = StepCount()
        return steps

    def leave(self, batch: Batch) -> None:
        """The result of a batch is given."""
        self._open.pop(batch.index, None)

    def steps(self) -> int:
        """Steps that the items of the batches in work have passed by now."""
        total = sum(steps.count for steps in self._open.values())
        for word in self._words():
            if (word >> _HALF) - 1 in self._open:
                total += word & ((1 << _HALF) - 1)
        return total
