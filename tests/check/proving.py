"""Proofs that a kernel is wrong, one for each way in which a fault can show.

Each takes a bench and returns what it has seen, in words, or nothing for a kernel that is right.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numba.core import config

from hotloop.kernels.expressions import evaluate
from tests.check.bases import Value
from tests.check.proofs import ZEROS, Bench, Columns, head, joined

Proof = Callable[[Bench], str]

SIZES: Final = (2, 3, 7, 16, 33, 65, 130, 257, 1001, 1500)


def _count(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def values(bench: Bench) -> str:
    """Compare with the scalar function: many items, and edges under several parameters."""
    seen = []
    for parameters in bench.parameter_sets():
        is_default = parameters == bench.base.defaults
        items = bench.items(10_000 if is_default else 60)
        edges = bench.edges()
        if not is_default:
            edges = head(edges, min(_count(edges), 60))
        wrong = bench.wrong(items, parameters)
        wrong_edges = bench.wrong(edges, parameters)
        if wrong.any() and (wrong.mean() >= 0.004 or not is_default):
            seen.append(f"{wrong.mean():.2%} of items at {parameters}")
        if wrong_edges.any():
            seen.append(f"{int(wrong_edges.sum())} edges at {parameters}")
    return "; ".join(seen)


def batches(bench: Bench) -> str:
    """Compare batches with their items computed one by one, in other places, and none at all."""
    parameters = bench.base.defaults
    pool = bench.items(max(SIZES))
    for size in SIZES:
        items = head(pool, size)
        whole = bench.run(items, parameters)
        places = np.linspace(0, size - 1, min(size, 40)).astype(int)
        places = np.unique(np.concatenate([places, np.arange(max(0, size - 8), size)]))
        alone = joined(*(bench.run(head(items, 1, row), parameters) for row in places))
        if bench.differ({name: column[places] for name, column in whole.items()}, alone).any():
            return f"batches of {size} differ from single items"
        turned = bench.run(_turned(items), parameters)
        if bench.differ(whole, _turned(turned)).any():
            return f"batches of {size} differ when turned round"
    try:
        bench.run(head(pool, 0), parameters)
    except Exception as error:
        return f"{type(error).__name__} for an empty batch"
    return ""


def threads(bench: Bench, seconds: float = 20.0) -> str:
    """Compare what several threads compute at once, each other items, with one after the other."""
    parameters = bench.base.defaults
    count = _items_for(bench, 0.01)
    parts = [bench.items(count - 7 * seed % 3, seed) for seed in range(4)]
    alone = [bench.run(part, parameters) for part in parts]
    found: list[str] = []
    turns = itertools.count(1)
    stop = threading.Event()
    start = threading.Barrier(len(parts))
    deadline = time.monotonic() + seconds

    def work(place: int) -> None:
        start.wait()
        while not stop.is_set() and time.monotonic() < deadline:
            turn = next(turns)
            try:
                wrong = bench.differ(alone[place], bench.run(parts[place], parameters))
            except (ArithmeticError, ValueError) as error:
                found.append(f"{type(error).__name__} in call {turn}")
            else:
                if wrong.any():
                    found.append(f"{int(wrong.sum())} of {len(wrong)} items differ in call {turn}")
            if found:
                stop.set()

    workers = [threading.Thread(target=work, args=(place,)) for place in range(len(parts))]
    with _switching(1e-4):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return found[0] if found else ""


def gil(bench: Bench) -> str:
    """Run in another thread, and see for how long this one cannot do anything meanwhile."""
    parameters = bench.base.defaults
    call, _ = bench.prepared(bench.items(_items_for(bench, 0.2)), parameters)
    done: list[float] = []

    def work() -> None:
        call()
        done.append(time.perf_counter())

    shares = []
    # Without switches by time, only a kernel that releases the GIL lets this thread go on.
    with _switching(100.0):
        for _ in range(3):
            done.clear()
            worker = threading.Thread(target=work)
            begun = time.perf_counter()
            worker.start()
            ticks = [time.perf_counter()]
            while not done:
                ticks.append(time.perf_counter())
                time.sleep(0)
            ended = done[0]
            worker.join()
            gaps = np.diff([begun, *[tick for tick in ticks if tick < ended], ended])
            shares.append(float(gaps.max() / (ended - begun)))
    return f"held for {min(shares):.0%} of the time" if min(shares) > 0.2 else ""


def inputs(bench: Bench) -> str:
    """Compare the bytes of the inputs before and after."""
    parameters = bench.base.defaults
    edges = bench.edges()
    for items in (bench.items(1), bench.items(2), bench.items(33), bench.items(1000), edges):
        before = {name: column.tobytes() for name, column in items.items()}
        bench.run(items, parameters)
        changed = [name for name, column in items.items() if column.tobytes() != before[name]]
        if changed:
            return f"{', '.join(changed)} changed in a batch of {_count(items)}"
    return ""


def memory(bench: Bench) -> str:
    """Compare runs whose outputs and scratch held zeros with those where they held other values."""
    seen = []
    for parameters in itertools.islice(bench.parameter_sets(), 3):
        for items in (bench.items(400), bench.items(1, 5), bench.edges()):
            zeros = bench.run(items, parameters, ZEROS)
            others = [bench.run(items, parameters, (fill, 1e9)) for fill in (np.nan, 1e9)]
            wrong = np.logical_or(*(bench.differ(zeros, each) for each in others))
            if wrong.any():
                seen.append(f"{wrong.mean():.2%} of {len(wrong)} items at {parameters}")
    return "; ".join(seen)


def repeats(bench: Bench) -> str:
    """Repeat calls, among others of other sizes, places in memory and parameters."""
    items = bench.items(300)
    other = bench.items(300, 9)
    other = {name: np.concatenate([items[name][:1], column[1:]]) for name, column in other.items()}
    mixed = {name: (items if place == 0 else other)[name] for place, name in enumerate(items)}
    first: dict[str, Columns] = {}
    sets = list(itertools.islice(bench.parameter_sets(), 5))
    for turn in range(25):
        for place, columns in enumerate((items, other, mixed, head(items, 3), head(items, 50))):
            parameters = sets[turn % len(sets)] if place == 0 else sets[0]
            got = bench.run(_moved(columns, turn % 5), parameters)
            known = first.setdefault(f"{place} {parameters}", got)
            wrong = bench.differ(known, got)
            if wrong.any():
                return f"{int(wrong.sum())} of {len(wrong)} items differ in turn {turn}"
            if turn < len(sets) and bench.wrong(head(columns, 20), parameters).any():
                return f"wrong in turn {turn} at {parameters}"
    return ""


def cost(bench: Bench, declared: Mapping[str, str] | str | None = None) -> str:
    """Fit the declared terms to measured times; also compare small batches with large ones."""
    one = bench.items(1)
    for size in (100, 3000):
        bench.run(bench.items(size), bench.base.defaults)
    if not isinstance(declared, Mapping):
        small = min(_seconds(bench, 150, bench.base.defaults) for _ in range(7)) / 150
        large = min(_seconds(bench, 6000, bench.base.defaults) for _ in range(3)) / 6000
        return f"large batches take {large / small:.1f} times as long" if large > 8 * small else ""
    bench.run(one, bench.base.defaults)
    worst = ""
    for parameter in bench.base.given:
        if parameter.kind != "int":
            continue
        high = int(parameter.values[1])
        points = [{**bench.base.defaults, parameter.name: max(high >> shift, 1)}
                  for shift in (8, 6, 4, 3, 2, 1, 0)]  # fmt: skip
        count = _items_for(bench, 0.02, points[-1], 8)
        times = np.array([min(_seconds(bench, count, p) for _ in range(7)) for p in points])
        terms = np.array([[evaluate(t, p) for t in declared.values()] for p in points], float)
        error = _misfit(terms, times)
        if error > 0.5:
            worst = f"the declared terms are {error:.0%} off for {parameter.name}"
    return worst


def bounds(bench: Bench) -> str:
    """Look for an index out of bounds; the module was loaded with bounds checks on."""
    for parameters in bench.parameter_sets():
        for items in (bench.items(50), bench.edges()):
            try:
                bench.run(items, parameters)
            except IndexError as error:
                return f"{error} at {parameters}"
    return ""


@contextmanager
def bounds_checked() -> Iterator[None]:
    """Have Numba compile with bounds checks."""
    settings: Any = config
    before = settings.BOUNDSCHECK
    settings.BOUNDSCHECK = 1
    try:
        yield
    finally:
        settings.BOUNDSCHECK = before


@contextmanager
def _switching(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _seconds(bench: Bench, count: int, parameters: Mapping[str, Value]) -> float:
    items = bench.items(count)
    bench.run(head(items, 2), parameters)
    call, _ = bench.prepared(items, parameters)
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def _items_for(
    bench: Bench, seconds: float, parameters: Mapping[str, Value] | None = None, least: int = 64
) -> int:
    """Return how many items take about so long."""
    count = least
    while count < 1 << 22:
        taken = _seconds(bench, count, parameters or bench.base.defaults)
        if taken > seconds / 8:
            return max(least, int(count * seconds / taken))
        count *= 4
    return count


def _misfit(terms: Any, times: Any) -> float:
    """Return the largest relative distance of the best sum of terms, with no negative weight."""
    best = np.inf
    weights = 1.0 / times
    for chosen in itertools.product((False, True), repeat=terms.shape[1]):
        if not any(chosen):
            continue
        part = terms[:, list(chosen)] * weights[:, None]
        found = np.linalg.lstsq(part, np.ones(len(times)), rcond=None)[0]
        if (found >= 0).all():
            best = min(best, float(np.abs(part @ found - 1).max()))
    return best


def _turned(columns: Columns) -> Columns:
    return {name: column[::-1].copy() for name, column in columns.items()}


def _moved(columns: Columns, steps: int) -> Columns:
    """Copy columns to a place in memory that begins some values after another."""
    found = {}
    for name, column in columns.items():
        room = np.empty((len(column) + steps, *column.shape[1:]), column.dtype)
        room[steps:] = column
        found[name] = room[steps:]
    return found


PROOFS: Final[Mapping[str, Proof]] = {
    "values": values, "batches": batches, "threads": threads, "gil": gil, "inputs": inputs,
    "memory": memory, "repeats": repeats, "cost": cost, "bounds": bounds,
}  # fmt: skip
