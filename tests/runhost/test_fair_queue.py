"""The fair queue: owners take turns, each owner's entries are in order, nothing is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.runhost.fair_queue import FairQueue


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.get() for _ in range(len(queue))]


def filled(*entries: str) -> FairQueue[str]:
    """The first letter is the owner."""
    queue: FairQueue[str] = FairQueue()
    for entry in entries:
        queue.put(entry[0], entry)
    return queue


def test_one_owner_waits_in_order() -> None:
    assert drained(filled("a1", "a2", "a3")) == ["a1", "a2", "a3"]


def test_owners_take_turns() -> None:
    assert drained(filled("a1", "a2", "a3", "b1", "c1", "c2")) == [
        *("a1", "b1", "c1"),
        *("a2", "c2"),
        "a3",
    ]


def test_owner_that_was_just_served_comes_last() -> None:
    queue = filled("a1", "a2", "b1")
    assert queue.get() == "a1"
    queue.put("a", "a3")
    queue.put("c", "c1")
    assert drained(queue) == ["b1", "a2", "c1", "a3"]


def test_empty_queue_raises() -> None:
    with pytest.raises(IndexError):
        filled().get()


def test_removed_entries_are_gone_and_the_turns_stay() -> None:
    queue = filled("a1", "a2", "b1", "c1")
    assert queue.remove("b", "b1")
    assert queue.remove("a", "a1")
    assert not queue.remove("a", "a1")
    assert not queue.remove("x", "x1")
    assert drained(queue) == ["a2", "c1"]
    assert len(queue) == 0


@given(st.lists(st.one_of(st.sampled_from("abc"), st.just("-"), st.just("x")), max_size=60))
def test_no_entry_is_lost_and_no_owner_is_passed_over(moves: list[str]) -> None:
    """A letter puts an entry of that owner in, `-` takes one out, `x` removes the oldest."""
    queue: FairQueue[str] = FairQueue()
    waiting: list[str] = []
    served_since: Counter[str] = Counter()
    for number, move in enumerate(moves):
        if move == "x":
            if waiting:
                gone = waiting.pop(0)
                assert queue.remove(gone[0], gone)
        elif move != "-":
            waiting.append(f"{move}{number}")
            queue.put(move, waiting[-1])
        elif waiting:
            entry = queue.get()
            assert entry == next(e for e in waiting if e[0] == entry[0])
            waiting.remove(entry)
            for owner in {e[0] for e in waiting} - {entry[0]}:
                served_since[owner] += 1
                # At most one entry of each other owner comes before.
                assert served_since[owner] <= 2
            served_since[entry[0]] = 0
        for owner in set(served_since) - {e[0] for e in waiting}:
            del served_since[owner]
        assert len(queue) == len(waiting)
