"""Items for which `python` raises: a compiled kernel must raise, too."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from hotloop.app.check.examples import example_of, plain_value
from hotloop.app.check.names import ERRORS, Status
from hotloop.app.check.reference import Raised
from hotloop.app.check.session import Session
from hotloop.app.check.subject import Subject, call
from hotloop.kernels import Column, Kernel

__all__ = ["examine_errors"]

_ORDINARY: Final = 100.0
"""Values of a float column without a bound up to this are meant, whatever else is."""


def examine_errors(
    session: Session, subject: Subject, kernel: Kernel, raised: list[Raised], seconds: float
) -> None:
    """Run a kernel alone with items for which `python` raised, for at most `seconds`."""
    if kernel is subject.reference:
        words = f"{len(raised):,} items raise" if raised else "no item raises"
        session.checked(kernel.name, ERRORS.name, Status.NOT_APPLICABLE, words)
        return
    end = time.monotonic() + seconds
    tried = passed_over = 0
    for each in _in_turn(raised):
        if time.monotonic() > end:
            break
        with session.doing(f"an item for which python raises: {each.error}"):
            called = call(kernel, each.columns, each.parameters)
        tried += 1
        if called.error is not None:
            continue
        if _is_beyond(subject.workload.columns_in, each):
            passed_over += 1
            continue
        given = ", ".join(f"{n} = {plain_value(v[0])}" for n, v in called.outputs.items())
        session.found(
            kernel.name,
            ERRORS.name,
            f"`python` raises {each.error}; this kernel gives {given}",
            example_of(each.columns, 0, each.parameters),
        )
    words = f"{tried:,} items for which `python` raises" if tried else "`python` raises for no item"
    if passed_over:
        words += f"; for {passed_over:,} with values beyond any bound it gives a result"
    session.ended(kernel.name, ERRORS.name, words)


def _in_turn(raised: list[Raised]) -> list[Raised]:
    """Return the items in an order in which every kind of error comes soon."""
    kinds: dict[str, list[Raised]] = {}
    for each in raised:
        kinds.setdefault(each.error, []).append(each)
    lists = list(kinds.values())
    longest = max(map(len, lists), default=0)
    return [found[place] for place in range(longest) for found in lists if place < len(found)]


def _is_beyond(columns: tuple[Column, ...], item: Raised) -> bool:
    """Return True if the error comes from a float column that has no bound, from a value that is
    not finite, or so large that arithmetic of floats has its limit there: infinity.
    """
    unbounded = [c for c in columns if c.dtype[0] == "f" and None in (c.minimum, c.maximum)]
    values: list[Any] = [item.columns[column.name] for column in unbounded]
    if any(not np.isfinite(each).all() for each in values):
        return True
    overflows = item.error.startswith("OverflowError")
    return overflows and any((np.abs(each) > _ORDINARY).any() for each in values)
