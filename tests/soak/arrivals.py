"""The times of requests in an open model, which waits for no answer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kind of a request."""

    RUN = "run"
    BACKGROUND = "background task"
    COMPARISON = "comparison"
    STATUS = "status of a task"
    EVENTS = "task with events, abandoned"
    LIST = "list of tasks"
    HEALTH = "health"
    METRICS = "metrics"


RATES: Final[Mapping[Kind, float]] = {
    Kind.RUN: 1.0,
    Kind.BACKGROUND: 0.5,
    Kind.COMPARISON: 0.05,
    Kind.STATUS: 4.0,
    Kind.EVENTS: 0.2,
    Kind.LIST: 1.0,
    Kind.HEALTH: 5.0,
    Kind.METRICS: 0.25,
}
"""Arrivals a second, on the average. Two cores are busy with them and not overwhelmed."""


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """The `number`-th request of its kind, counted from 0; due `due_seconds` after the start."""

    due_seconds: float
    kind: Kind
    number: int


def arrivals(seed: int, seconds: float) -> list[Arrival]:
    """All arrivals in order: a Poisson process for each kind, repeatable by the seed."""
    return sorted(arrival for kind in Kind for arrival in _of_kind(kind, seed, seconds))


def _of_kind(kind: Kind, seed: int, seconds: float) -> Iterator[Arrival]:
    chance = random.Random(f"{seed} {kind}")
    due, number = chance.expovariate(RATES[kind]), 0
    while due < seconds:
        yield Arrival(due, kind, number)
        due += chance.expovariate(RATES[kind])
        number += 1
