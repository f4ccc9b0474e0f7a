"""The cases that every kernel is run with: batches under several parameters, as time allows.

The most telling come first, so that little time leaves out the least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.items.parameters import ParameterMaker
from hotloop.app.check.items.rows import RowMaker, rows_of, take
from hotloop.app.check.names import EDGES, PARITY
from hotloop.app.check.reference import Case, Reference
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Subject
from hotloop.kernels import Parameter, Workload

__all__ = ["Plan", "above_least", "make_plan"]

_HANDY_SECONDS: Final = 60e-6
"""An item costs about as much under the parameters that most items are computed with."""

_LEAST_TURNS: Final = 5
"""Integer parameters are lowered to no less than this above their minimum."""

_SHARE: Final = 0.45
"""The plan may take this share of the whole time."""

_SHARE_OF_ONE: Final = 0.2
"""A single item may take this share of the whole time."""

_POOL: Final = 8192
_EDGES: Final = 2048
_STRUCTURE: Final = 48
_SETS: Final = 400
_ROWS_OF_SET: Final = 8
_ROWS_OF_END: Final = 24
_MOST_FAR: Final = 64


class Plan:
    """The cases, and the parameters that they were varied from.

    `handy` are parameters under which an item costs little, and `pool` is the case with most items
    under them. `far` are parameters that `python` is too slow for, with two items each.
    """

    def __init__(self, handy: Mapping[str, Any], handy_seconds: float) -> None:
        self.handy = dict(handy)
        self.handy_seconds = handy_seconds
        """Seconds of `python` for an item under the handy parameters."""
        self.cases: list[Case] = []
        self.far: list[Case] = []
        self.pool: Case | None = None
        self.fault: str | None = None
        """What is wrong with the simulated items, in words."""

    @property
    def usable(self) -> list[Case]:
        """The cases with at least one item."""
        return [case for case in self.cases if case.count]


def make_plan(session: Session, subject: Subject, reference: Reference) -> Plan:
    """Compute the cases with `python`, in about a third of the time."""
    rows = RowMaker(subject.workload, subject.constants)
    default = subject.workload.resolve_parameters()
    typical = rows.typical(3)
    limit = max(session.share(0.04), 0.2)
    default_seconds = reference.seconds_of(typical, default, limit) / rows_of(typical)
    handy, handy_seconds = default, default_seconds
    for smaller in _smaller(subject.workload, default):
        if handy_seconds <= _HANDY_SECONDS:
            break
        seconds = reference.seconds_of(typical, smaller, limit) / rows_of(typical)
        if seconds < handy_seconds:
            handy, handy_seconds = smaller, seconds
    if not math.isfinite(handy_seconds):
        one = take(typical, slice(0, 1))
        handy_seconds = reference.seconds_of(one, handy, session.share(_SHARE_OF_ONE))
    # An item may take as long as one that was waited for.
    reference.item_seconds = 2 * handy_seconds if math.isfinite(handy_seconds) else 0.0
    end = session.left() - session.share(_SHARE)
    plan = Plan(handy, handy_seconds)
    parameters = ParameterMaker(subject.workload, subject.constants, handy)

    def add(
        name: str, point: str, values: Mapping[str, Any], columns: Any, fraction: float
    ) -> Case:
        known = len(reference.raised)
        # The first cases are always tried.
        limit = session.share(fraction) if session.left() > end or len(plan.cases) < 3 else 0.0
        case = reference.case(name, point, values, columns, limit)
        plan.cases.append(case)
        if case.count == 0 and rows_of(columns) and len(reference.raised) == known:
            _add_far(plan, name, values, columns)
        return case

    each = handy_seconds if math.isfinite(handy_seconds) else 1.0

    def affordable(most: int, fraction: float) -> int:
        return int(min(most, max(32, session.share(fraction) / max(each, 1e-7))))

    add("typical items", PARITY.name, default, rows.typical(256), 0.03)
    plan.pool = add("many items", PARITY.name, handy, rows.mixed(affordable(_POOL, 0.08)), 0.1)
    add(
        "edges of every column",
        EDGES.name,
        handy,
        rows.edge_rows(affordable(_EDGES, 0.06), handy),
        0.08,
    )
    for name, columns in rows.structures(affordable(_STRUCTURE, 0.002)).items():
        add(name, EDGES.name, handy, columns, 0.01)
    some = rows.mixed(2048)
    for name, values in parameters.choices():
        add(name, PARITY.name, values, _some(some, 4 * _ROWS_OF_END, name), 0.01)
        add(name, EDGES.name, values, rows.edge_rows(4 * _ROWS_OF_END, values), 0.01)
    for name, values in parameters.ends():
        add(name, EDGES.name, values, rows.edge_rows(_ROWS_OF_END, values), 0.01)
        add(name, EDGES.name, values, _some(some, _ROWS_OF_END, name), 0.01)
    if handy != default:
        add("edges, default parameters", EDGES.name, default, rows.edge_rows(256, default), 0.03)
    _add_sets(session, plan, reference, parameters, some)
    plan.fault = rows.fault
    return plan


def _add_sets(
    session: Session,
    plan: Plan,
    reference: Reference,
    parameters: ParameterMaker,
    some: Mapping[str, NDArray[Any]],
) -> None:
    """Add few items for each of many sets of parameters."""
    streams = (parameters.special(), parameters.sweep(_SETS), parameters.magnitudes(_SETS // 2))
    sets = list(_merged(*streams))
    time_of_set = session.share(0.12) / max(len(sets), 1)
    end = session.left() - session.share(0.12)
    too_slow: list[dict[str, Any]] = []
    for place, (name, values) in enumerate(sets):
        if session.left() < end:
            break
        columns = _some(some, _ROWS_OF_SET, str(place))
        if any(_is_larger(values, other) for other in too_slow):
            _add_far(plan, name, values, columns)
            continue
        limit = max(2 * time_of_set, 4 * plan.handy_seconds, 2e-3)
        known = len(reference.raised)
        case = reference.case(name, PARITY.name, values, columns, limit)
        if case.count:
            plan.cases.append(case)
        elif len(reference.raised) == known:
            too_slow.append(values)
            _add_far(plan, name, values, columns)


def _is_larger(values: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return True if no integer of the other set is larger, so that it cost at most as much."""
    return all(
        values[name] >= number
        for name, number in other.items()
        if isinstance(number, int) and not isinstance(number, bool)
    )


def _merged(*streams: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield from the streams in turn, each set once."""
    seen: set[str] = set()
    open_ones = list(streams)
    while open_ones:
        for stream in list(open_ones):
            found = next(stream, None)
            if found is None:
                open_ones.remove(stream)
            elif repr(found[1]) not in seen:
                seen.add(repr(found[1]))
                yield found


def _add_far(
    plan: Plan, name: str, values: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]
) -> None:
    if len(plan.far) < _MOST_FAR:
        few = take(columns, slice(0, 2))
        plan.far.append(Case(name, PARITY.name, dict(values), few, None, math.inf))


def _some(columns: Mapping[str, NDArray[Any]], count: int, seed: str) -> dict[str, NDArray[Any]]:
    """Return some of these items, always the same for a seed."""
    random = np.random.default_rng(list(seed.encode()))
    size = rows_of(columns)
    return take(columns, random.choice(size, min(count, size), replace=False))


def above_least(parameter: Parameter, values: Mapping[str, Any]) -> int:
    """Return by what a number of turns, as which an integer is taken, is above its minimum, or
    above 0 if it may be negative.
    """
    return max(0, int(values[parameter.name]) - max(0, int(parameter.minimum or 0)))


def _smaller(workload: Workload, default: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield parameters whose integers come closer and closer to their minimum."""
    integers = [p for p in workload.parameters if p.is_integer]
    before = dict(default)
    for halvings in range(1, 30):
        values = dict(default)
        for parameter in integers:
            above = above_least(parameter, values)
            lowered = max(above >> halvings, min(above, _LEAST_TURNS))
            values[parameter.name] += lowered - above
        if values == before:
            return
        before = values
        yield values
