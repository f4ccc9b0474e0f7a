"""The kinds of failures, their frequency and their severity."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The failure of a round: a process is killed, frozen or cut off."""

    API = "API process"
    HOST = "run host"
    WORKER = "pool worker"
    NODE = "node"
    FREEZE = "node frozen and back"
    CUT = "node cut off and back"
    DATABASE = "PostgreSQL"
    STARTS_KILLED = "run hosts killed whenever they start, up to 60 s"
    STARTS_FAIL = "run hosts that cannot start, up to 60 s"
    HANG = "database hangs, 5 to 30 s"
    WEAK = "one of three nodes without Cython, with little memory"
    SHARDS = "small shards with items from bodies"
    CLOCK = "clock set by up to 3 days"
    TAKES_HOST = "task that kills its run host each time"
    TAKES_NODE = "task that kills its node each time"

    @property
    def option(self) -> str:
        """The name of the kind on the command line."""
        return self.name.lower().replace("_", "-")


ONLY_POSTGRESQL: Final = (Kind.CUT, Kind.DATABASE, Kind.WEAK)
"""SQLite has no link to cut, no server to kill, and a single machine."""

UNHEALTHY: Final = (Kind.TAKES_HOST, Kind.TAKES_NODE)
"""The kinds of rounds in which one task must end as failed."""

WEIGHTS: Final = {
    Kind.API: 13,
    Kind.HOST: 14,
    Kind.WORKER: 14,
    Kind.NODE: 13,
    Kind.FREEZE: 4,
    Kind.CUT: 4,
    Kind.DATABASE: 8,
    Kind.STARTS_KILLED: 2,
    Kind.STARTS_FAIL: 2,
    Kind.HANG: 4,
    Kind.WEAK: 7,
    Kind.SHARDS: 9,
    Kind.CLOCK: 9,
    Kind.TAKES_HOST: 2,
    Kind.TAKES_NODE: 1,
}
"""Relative frequencies of the kinds; long ones are rare."""


@dataclass(frozen=True, slots=True)
class Event:
    """`severity` is 0 … 1 of the worst of its kind: how long it lasts, or how far it goes."""

    kind: Kind
    severity: float


def schedule(count: int, kinds: Collection[Kind], seed: int) -> list[Event]:
    """`count` events in random order. Each kind comes about as often as its weight says, and at
    least once where there is room; its severities are spread evenly up to the worst.
    """
    numbers = dict.fromkeys(kinds, 0)

    def is_due(kind: Kind) -> float:
        times = numbers[kind]
        return (times + 0.5) / WEIGHTS[kind] if times else 0.0

    for _ in range(count):
        numbers[min(kinds, key=is_due)] += 1
    events = [
        Event(kind, (number + 1) / times)
        for kind, times in numbers.items()
        for number in range(times)
    ]
    random.Random(seed).shuffle(events)
    return events
