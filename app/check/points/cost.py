"""The cost law: does the time of an item grow with each parameter as the declaration says?

What is compared is growth over a range, with a wide margin: that of the declared terms and the
measured one. A growth that breaks the law is measured again before it is reported.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import rows_of, take
from hotloop.app.check.names import COST, Status
from hotloop.app.check.points.timing import Timer, in_unit
from hotloop.app.check.session import Session
from hotloop.kernels import InvalidParameterError, Kernel, Parameter, Term
from hotloop.kernels.contract import REFERENCE
from hotloop.kernels.expressions import evaluate

__all__ = ["examine_cost"]

MARGIN: Final = 3.0
"""A measured growth may differ by this factor from the declared one, over a range of 8."""

_EXPONENT: Final = 0.45
"""Over a wider range, the factor is the range to this power: memory gets slower with size, too."""

_MARGIN_OF_WINDOW: Final = 5.0
"""The factor within a part of the range, where nothing else is wrong."""

_RANGE: Final = 8.0
_STEP: Final = 3
_FREE: Final = 4.0
"""Growth that is allowed with a parameter on which the cost does not depend, as it is declared."""

_FREE_FLOAT: Final = 10.0
"""The same for float parameters: some arithmetic is slow for some values."""

_ABOVE: Final = 2.0
"""Times that are this much above the least one are mostly caused by the parameter."""

_CALL_SECONDS: Final = 50e-6
_MOST_ITEMS: Final = 4096
_LEAST_ITEMS: Final = 8
_LEAST_OPERATION: Final = 3e-10
"""Seconds that an operation of `python` takes at least."""

_SINGLE_ITEMS: Final = 32
_SPREAD: Final = 6.0
"""Of the times of single items: the ninth of ten over the first of ten."""


@dataclass(frozen=True, slots=True)
class _Point:
    value: Any
    seconds: float
    """Of one item."""
    terms: dict[str, float]


def examine_cost(
    session: Session,
    kernel: Kernel,
    columns: Mapping[str, NDArray[Any]],
    start: Mapping[str, Any],
    seconds: float,
) -> None:
    """Measure the growth with each numeric parameter from `start`, in about `seconds` at most."""
    workload = kernel.workload
    if workload.depends_on_data:
        words = "the cost is declared to depend on the items"
        session.checked(kernel.name, COST.name, Status.NOT_APPLICABLE, words)
        return
    timer = Timer(session, kernel, min(0.4, 0.1 * seconds))
    numeric = [p for p in workload.parameters if p.is_number]
    law = _Law(timer, kernel, columns, start)
    measured = 0
    for parameter in numeric:
        limit = seconds / (len(numeric) + 1)
        points = law.points(parameter, limit)
        measured += len(points)
        if law.fault(parameter, points) is None:
            continue
        fault = law.fault(parameter, law.points(parameter, 2 * limit))
        if fault is not None and not timer.has_threads:
            session.found(kernel.name, COST.name, fault, example_of(None, 0, start))
    is_declared = workload.terms != (Term("item", "1"),)
    spread = law.spread()
    if timer.has_threads:
        words = "it computes in threads of its own, whose time depends on the processors"
        session.checked(kernel.name, COST.name, Status.NOT_APPLICABLE, words)
        return
    if is_declared and spread > _SPREAD and law.spread() > _SPREAD:
        session.found(
            kernel.name,
            COST.name,
            f"of typical items, one of ten takes {spread:,.3g} times as long as another one of "
            "ten; the declared cost does not depend on the items",
            example_of(None, 0, start),
        )
    session.ended(
        kernel.name, COST.name, f"{measured} values of {len(numeric)} parameters, single items"
    )


class _Law:
    """Measures, and compares with the declared terms."""

    def __init__(
        self,
        timer: Timer,
        kernel: Kernel,
        columns: Mapping[str, NDArray[Any]],
        start: Mapping[str, Any],
    ) -> None:
        self._timer = timer
        self._kernel = kernel
        self._columns = columns
        self._start = start
        one = timer.seconds(columns, start, _LEAST_ITEMS) or _CALL_SECONDS
        # Enough that the call itself costs little, and few enough that large parameters are tried.
        self._items = int(min(max(_CALL_SECONDS / one, _LEAST_ITEMS), _MOST_ITEMS))

    def points(self, parameter: Parameter, seconds: float) -> list[_Point]:
        """Measure rising values of one parameter, until a call is slow or the time is over."""
        workload = self._kernel.workload
        end = time.monotonic() + seconds
        points: list[_Point] = []
        for value in _values(parameter):
            if time.monotonic() > end and len(points) > 3:
                break
            try:
                parameters = workload.resolve_parameters({**self._start, parameter.name: value})
            except InvalidParameterError:  # a product of parameters is too large
                break
            taken = self._timer.seconds(self._columns, parameters, self._items)
            if taken is None:
                break
            terms = {t.name: float(evaluate(t.operations, parameters)) for t in workload.terms}
            points.append(_Point(value, taken, terms))
            if self._timer.is_slow(taken * self._items):
                break
        return points

    def spread(self) -> float:
        """Return how much longer some single items take than others."""
        count = min(_SINGLE_ITEMS, rows_of(self._columns))
        times = []
        for row in range(count):
            one = take(self._columns, slice(row, row + 1))
            taken = self._timer.seconds(one, self._start, max(self._items // 4, _LEAST_ITEMS))
            if taken is None:
                return 0.0
            times.append(taken)
        return float(np.quantile(times, 0.9) / np.quantile(times, 0.1)) if count > 9 else 0.0

    def fault(self, parameter: Parameter, points: list[_Point]) -> str | None:
        """Return in words how the measured growth breaks the law, or None."""
        if len(points) < 3:
            return None
        names = [t.name for t in self._kernel.workload.terms if parameter.name in t.factors]
        if not names:
            return _undeclared(parameter, points)
        start, last = points[0], points[-1]
        least = min(point.seconds for point in points)
        caused = [point for point in points if point.seconds >= _ABOVE * least]
        spans = [
            (low, high)
            for place, low in enumerate(caused)
            for high in caused[place + 1 :]
            if _ratio(start, low, high) >= _RANGE
        ]
        if not spans:
            return self._constant(parameter, names, start, last)
        # The whole range first, then its parts.
        spans.sort(key=lambda span: -_ratio(start, *span))
        for number, (low, high) in enumerate(spans):
            reach = _ratio(start, low, high)
            wide = max(MARGIN, reach**_EXPONENT)
            margin = wide if number == 0 else max(_MARGIN_OF_WINDOW, wide)
            fault = self._compared(parameter, names, start, low, high, least, margin)
            if fault is not None:
                return fault
        return None

    def _compared(
        self,
        parameter: Parameter,
        names: list[str],
        start: _Point,
        low: _Point,
        high: _Point,
        least: float,
        margin: float,
    ) -> str | None:
        growth = (high.seconds - least) / (low.seconds - least)
        pairs = [
            (high.terms[name] - start.terms[name], low.terms[name] - start.terms[name])
            for name in names
        ]
        growths = [above / below for above, below in pairs if below > 0]
        if not growths:
            return None
        # Any sum of the terms grows at least like the slowest and at most like the fastest.
        slowest, fastest = min(growths), max(growths)
        # Compilers find short cuts through loops: only `python` can be too quick.
        is_slower = growth > margin * fastest
        is_quicker = self._kernel.name == REFERENCE and growth < slowest / margin
        if not (is_slower or is_quicker):
            return None
        declared = f"{slowest:,.3g}" + (f" to {fastest:,.3g}" if fastest > slowest else "")
        return (
            f"from {parameter.name} = {low.value:,} to {high.value:,} an item takes {growth:,.3g} "
            f"times as long, {in_unit(low.seconds)} and {in_unit(high.seconds)}; the declared "
            f"terms grow by a factor of {declared}"
        )

    def _constant(
        self, parameter: Parameter, names: list[str], start: _Point, last: _Point
    ) -> str | None:
        """Find a time that does not grow, although the declared operations cannot be for free."""
        operations = min(last.terms[name] - start.terms[name] for name in names)
        if self._kernel.name != REFERENCE or last.seconds > 1.5 * start.seconds:
            return None
        if last.seconds >= operations * _LEAST_OPERATION:
            return None
        return (
            f"from {parameter.name} = {start.value:,} to {last.value:,} the time of an item does "
            f"not grow, it stays at {in_unit(last.seconds)}; the declared terms grow by "
            f"{operations:,.3g} operations"
        )


def _ratio(start: _Point, low: _Point, high: _Point) -> float:
    """Return how much the parameter grows above its least value."""
    above = float(low.value - start.value)
    return float(high.value - start.value) / above if above > 0 else 0.0


def _values(parameter: Parameter) -> list[Any]:
    """Return rising values, from the minimum to the maximum."""
    least, greatest = parameter.minimum, parameter.maximum
    assert least is not None
    assert greatest is not None
    if parameter.is_integer:
        found, step = [int(least)], 1
        while int(least) + step < greatest and step < 2**62:
            found.append(int(least) + step)
            step *= _STEP
        return [*found, int(greatest)] if greatest > least else found
    low, high = float(least), float(greatest)
    if low > 0 and high / low > _RANGE:
        return [float(value) for value in np.geomspace(low, high, 9)]
    return [float(value) for value in np.linspace(low, high, 5)]


def _undeclared(parameter: Parameter, points: list[_Point]) -> str | None:
    slow = max(points, key=lambda point: point.seconds)
    quick = min(points, key=lambda point: point.seconds)
    growth = slow.seconds / quick.seconds
    if growth <= (_FREE if parameter.is_integer else _FREE_FLOAT):
        return None
    return (
        f"at {parameter.name} = {slow.value:,} an item takes {growth:,.3g} times as long as at "
        f"{quick.value:,}, {in_unit(slow.seconds)} and {in_unit(quick.seconds)}; no declared term "
        "depends on it"
    )
