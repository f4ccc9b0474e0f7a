"""Measures the five workloads of examples/workloads on one core: derived kernels, kernels by hand,
and the binomial tree of QuantLib.

    PYTHONPATH=examples/workloads python -m benchmarks.own_workloads [--rounds 9]

writes docs/own-workloads-speed.md. All forms of a workload compute the same items and take turns
in every round; times are processor time of the one thread, ratios are taken round by round.
Whatever is timed has first been compared with the python kernel, bit for bit. Takes about a minute.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from hotloop_examples.american import american
from hotloop_examples.bytes_hash import bytes_hash
from hotloop_examples.dtw import dtw
from hotloop_examples.haversine import haversine
from hotloop_examples.mandelbrot import mandelbrot
from numpy.typing import NDArray

from benchmarks.kernels import Form, take_turns
from benchmarks.machine import ROOT, load_line, machine_lines
from benchmarks.peers import own_workloads as by_hand
from benchmarks.peers.quantlib_options import Option
from hotloop.app.comparison.intervals import interval, ratios

PAGE: Final = ROOT / "docs" / "own-workloads-speed.md"
COMMAND: Final = "PYTHONPATH=examples/workloads python -m benchmarks.own_workloads"
FLIGHTS: Final = ROOT / "examples" / "workloads" / "flights-1000.csv"
PYTHON, NUMBA, BY_HAND, SIDE_BY_SIDE = "python", "numba", "by hand", "side by side"
QUANTLIB = "QuantLib"
BARS: Final = {PYTHON: 10.0, BY_HAND: 1.5}

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A workload with the items that it is measured on, and its rivals: functions that fill `out`.

    An exact rival gives the same bits as the workload.
    """

    workload: Any
    columns: Columns
    rivals: Mapping[str, Callable[[NDArray[Any]], None]]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def items(self) -> int:
        return len(next(iter(self.columns.values())))

    def forms(self) -> list[Form]:
        """All forms, checked and so warm."""
        name = self.workload.declaration.name
        expected = self._run(PYTHON)
        forms = [Form(name, PYTHON, self.items, lambda: self._run(PYTHON))]
        forms.append(Form(name, NUMBA, self.items, lambda: self._run(NUMBA), 5))
        out = np.empty_like(expected)
        for rival, fill in self.rivals.items():
            is_exact = rival != QUANTLIB
            repeats = 5 if is_exact else 1
            forms.append(Form(name, rival, self.items, lambda fill=fill: fill(out), repeats))  # type: ignore[misc]
            fill(out)
            bound = 0.0 if is_exact else 1e-3 * float(self.columns["strike"].max())
            _check(out, expected, bound, f"{name} {rival}")
        _check(self._run(NUMBA), expected, 0.0, f"{name} {NUMBA}")
        return forms

    def _run(self, kernel: str) -> NDArray[Any]:
        found = self.workload.run(self.columns, self.parameters, kernel=kernel)
        column: NDArray[Any] = next(iter(found.values()))
        return column


def _check(found: NDArray[Any], expected: NDArray[Any], bound: float, what: str) -> None:
    difference = np.abs(found - expected).max()
    if not difference <= bound:
        raise AssertionError(f"{what} differs by {difference}")


def cases() -> list[Case]:
    """The five, on items as they are in use, the same in every run."""
    numbers = np.random.default_rng(20_260)
    return [
        _american(numbers),
        _filled(
            mandelbrot,
            {
                "real": numbers.uniform(-2.0, 0.5, 4_096),
                "imaginary": numbers.uniform(-1.25, 1.25, 4_096),
            },
            {"max_turns": 1_000},
        ),
        _filled(haversine, _flights(50_000)),
        _filled(
            dtw,
            {
                "left": numbers.normal(size=(1_024, 64)).cumsum(axis=1),
                "right": numbers.normal(size=(1_024, 64)).cumsum(axis=1),
            },
        ),
        _filled(bytes_hash, {"data": numbers.integers(0, 256, (16_384, 64), dtype=np.uint8)}),
    ]


def _filled(workload: Any, columns: Columns, parameters: Mapping[str, Any] | None = None) -> Case:
    """Return a case whose rivals by hand have the name of the workload."""
    given = (*columns.values(), *(parameters or {}).values())
    rivals = {}
    for label, name in ((BY_HAND, ""), (SIDE_BY_SIDE, "_side_by_side")):
        function = getattr(by_hand, workload.declaration.name + name, None)
        if function is not None:
            rivals[label] = lambda out, function=function: function(*given, out)
    return Case(workload, columns, rivals, parameters or {})


def _american(numbers: np.random.Generator) -> Case:
    days = numbers.integers(30, 1_096, 1_024)
    columns = {
        "spot": numbers.uniform(60.0, 140.0, len(days)),
        "strike": np.full(len(days), 100.0),
        "years": days / 365.0,
    }
    terms: dict[str, float] = {"volatility": 0.2, "rate": 0.03, "dividends": 0.01}
    steps, kind = 200, "put"
    instruments = [
        Option(spot, strike, int(left), **terms, kind=kind).by_tree(steps)
        for spot, strike, left in zip(
            columns["spot"].tolist(), columns["strike"].tolist(), days, strict=True
        )
    ]

    def tree(out: NDArray[Any]) -> None:
        for item, instrument in enumerate(instruments):
            instrument.recalculate()
            out[item] = instrument.NPV()

    fill: Any = by_hand.american

    def hand(out: NDArray[Any]) -> None:
        fill(*columns.values(), steps, *terms.values(), kind == "call", out)

    parameters = {"steps": steps, **terms, "kind": kind}
    return Case(american, columns, {BY_HAND: hand, QUANTLIB: tree}, parameters)


def _flights(count: int) -> Columns:
    """The real flights of the example, repeated."""
    with FLIGHTS.open(encoding="utf-8") as file:
        flights = list(csv.DictReader(file))
    return {
        column.name: np.resize([float(flight[column.name]) for flight in flights], count)
        for column in haversine.declaration.columns_in
    }


@dataclass(frozen=True)
class Measured:
    """Microseconds an item of all forms of a workload, one for each round."""

    workload: str
    items: int
    microseconds: Mapping[str, Sequence[float]]

    def times_slower(self, form: str) -> float:
        """How many times as long as the derived numba kernel the form takes: the median round."""
        return ratios(self.microseconds[form], self.microseconds[NUMBA]).median

    def meets(self, form: str) -> bool:
        """Whether the bar for the rival is met."""
        slower = self.times_slower(form)
        return 1 / slower <= BARS[form] if form == BY_HAND else slower >= BARS[form]


def measure(rounds: int) -> list[Measured]:
    """Measure every case, one after the other."""
    measured = []
    for case in cases():
        forms = case.forms()
        times = take_turns(forms, rounds)
        found = {form.name: us for form, us in zip(forms, times, strict=True)}
        measured.append(Measured(case.workload.declaration.name, case.items, found))
        print(f"  {measured[-1].workload}", flush=True)
    return measured


def page(measured: Sequence[Measured], rounds: int, machine: Sequence[str]) -> Iterator[str]:
    """Yield the parts of docs/own-workloads-speed.md."""
    yield f"""# Speed of own workloads

This page is for engineers who want to know how fast a plain Python function becomes as a workload,
and how much faster one by hand would be. `{COMMAND}` writes it; do not edit it.

The five workloads of [examples/workloads](../examples/workloads/README.md) run on one core:

- `python` and `numba` are the kernels that Hotloop derives from the plain function. They are called
  as `workload.run(...)`, so the checks of the items are part of the time.
- `by hand` is a batch kernel in Numba that computes one item after the other, with what can be done
  for one item: two levels of the tree or two lines of the warping in one pass, 32 bits for the
  hash. It checks nothing. A derived kernel widens the bytes of the hash to 64 bits first, so that
  integers are those of Python; that takes about as long as the hash.
- `side by side` is a batch kernel by hand that computes 2 to 16 items at once. A function of one
  item cannot say that, so a derived kernel does not do it.

All give the same bits. The forms of a workload take turns in {rounds} rounds. Times are medians of
microseconds an item, in processor time of the one thread; ratios are medians over the rounds.
"""
    yield from machine
    shares = (f"{PYTHON} ÷ {NUMBA}", f"{NUMBA} ÷ {BY_HAND}", f"{NUMBA} ÷ {SIDE_BY_SIDE}")
    head = ("workload", "items", PYTHON, NUMBA, BY_HAND, SIDE_BY_SIDE, *shares)
    yield ""
    yield from _table(head, map(_row, measured))
    faster = sum(each.meets(PYTHON) for each in measured)
    close = sum(each.meets(BY_HAND) for each in measured)
    yield f"""
`numba` is at least {BARS[PYTHON]:.0f} times as fast as `python` in {faster} of {len(measured)}. It
takes at most {BARS[BY_HAND]} times as long as `by hand` in {close} of {len(measured)}.

## American options against QuantLib

The rival is QuantLib's own tree of Cox, Ross and Rubinstein (`BinomialVanillaEngine`, "crr"), with
the same steps, on the same options. Its instruments are made beforehand; `recalculate` and `NPV`
are timed. QuantLib has faster engines for American options, by other methods.
"""
    (tree,) = (each for each in measured if QUANTLIB in each.microseconds)
    rows = [
        (label, _us(tree, form), f"{tree.times_slower(form):,.1f}")
        for form, label in ((NUMBA, "`american`, numba"), (QUANTLIB, "QuantLib's tree"))
    ]
    yield from _table(("", "µs an option", f"÷ {NUMBA}"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    line = ["---"] + ["---:"] * (len(head) - 1)
    return (f"| {' | '.join(cells)} |" for cells in (head, line, *rows))


def _row(measured: Measured) -> Sequence[str]:
    forms = (PYTHON, NUMBA, BY_HAND, SIDE_BY_SIDE)
    return (
        f"`{measured.workload}`",
        f"{measured.items:,}",
        *(_us(measured, form) for form in forms),
        f"{measured.times_slower(PYTHON):,.1f}",
        _share(measured, BY_HAND),
        _share(measured, SIDE_BY_SIDE),
    )


def _us(measured: Measured, form: str) -> str:
    if form not in measured.microseconds:
        return "–"
    median = interval(measured.microseconds[form]).median
    return f"{median:,.0f}" if median >= 100 else f"{median:.3g}"


def _share(measured: Measured, form: str) -> str:
    return f"{1 / measured.times_slower(form):.2f}" if form in measured.microseconds else "–"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.own_workloads")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    machine = machine_lines()
    measured = measure(rounds)
    lines = page(measured, rounds, [*machine, load_line("after")])
    text = "\n".join(lines) + "\n"
    _, *parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    # Those that benchmarks.own_service has written stay.
    titles = set(text.splitlines())
    kept = [part for part in parts if f"## {part.splitlines()[0]}" not in titles]
    PAGE.write_text("\n## ".join([text, *kept]), encoding="utf-8")


if __name__ == "__main__":
    main()
