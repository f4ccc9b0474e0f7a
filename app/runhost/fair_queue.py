"""A queue in which no owner's entry waits behind all entries of another owner."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Takes entries of several owners and returns them in turns, one entry of each owner, and each
    owner's entries in their order. Every operation except `remove` and `len` takes constant time.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, deque[T]] = {}
        """Entries by owner, without owners that have none."""
        self._turns: deque[Hashable] = deque()
        """The owners that have entries, the next one first."""

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def put(self, owner: Hashable, entry: T) -> None:
        """Add an entry. An owner without entries comes after all owners that have some."""
        if owner not in self._entries:
            self._entries[owner] = deque()
            self._turns.append(owner)
        self._entries[owner].append(entry)

    def get(self) -> T:
        """Take the next entry. Raises IndexError if the queue is empty."""
        owner = self._turns.popleft()
        entries = self._entries[owner]
        entry = entries.popleft()
        if entries:
            self._turns.append(owner)
        else:
            del self._entries[owner]
        return entry

    def remove(self, owner: Hashable, entry: T) -> bool:
        """Take an entry out of the queue. Return True if it was there."""
        entries = self._entries.get(owner)
        if entries is None or entry not in entries:
            return False
        entries.remove(entry)
        if not entries:
            del self._entries[owner]
            self._turns.remove(owner)
        return True
