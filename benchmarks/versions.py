"""Two checkouts side by side, round by round in one run: `python -m benchmarks.versions OTHER`.

Each checkout has its own .venv, as `make install` makes it. What is printed is Markdown: for each
case the median of the ratios this checkout ÷ OTHER, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.background import ended
from benchmarks.service import finished
from hotloop.app.comparison.intervals import ratios
from tests.fixtures.sections import table
from tests.fixtures.server import ROOT, Server, server_of

QUICK: Final[dict[str, Any]] = {"kernel": "cython", "db": "none", "cache": "none", "workers": 2}
JOB: Final = QUICK | {"items_count": 50_000, "batch_size": 2_500}
WAITING: Final[dict[str, Any]] = {
    "items_count": 2_000,
    "kernel": "cython",
    "db_delay_ms": 100,
    "redis_delay_ms": [5, 5],
    "io_concurrency": 500,
    "parameters": {"cpu_iterations": 100, "outer_iterations": 10, "inner_iterations": 10},
}
ONE_ITEM_REQUESTS: Final = 50

Measure = Callable[[Server], float]
"""Returns seconds."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    measure: Measure


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _one_item(server: Server) -> float:
    body = QUICK | {"items_count": 1}

    def ask() -> None:
        finished(server, "threading", **body)

    return statistics.median(_seconds(ask) for _ in range(ONE_ITEM_REQUESTS))


def _background(server: Server) -> float:
    def do() -> None:
        ended(server, server.submit(**JOB | {"strategy": "threading"}), interval=0.02)

    return _seconds(do)


CASES: Final = (
    Case(
        "the job: 50,000 items by threading",
        lambda s: _seconds(lambda: finished(s, "threading", **JOB)),
    ),
    Case("one item, from request to answer", _one_item),
    Case("the job as a background task", _background),
    Case(
        "2,000 items that wait 105 ms, by hybrid",
        lambda s: _seconds(lambda: finished(s, "hybrid", **WAITING)),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        servers = [_serving(stack, checkout) for checkout in (ROOT, arguments.other.absolute())]
        rows = [_row(case, servers, arguments.rounds) for case in CASES]
    print(*table(("case", "this", "other", "this ÷ other"), rows), sep="\n")


def _serving(stack: ExitStack, checkout: Path) -> Server:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    command = (str(checkout / ".venv" / "bin" / "python"), str(checkout / "main.py"))
    settings = {"run_hosts": 1, "sync_limit_seconds": 3_600}
    return stack.enter_context(server_of(command, folder, settings, cwd=checkout))


def _row(case: Case, servers: list[Server], rounds: int) -> tuple[str, str, str, str]:
    measured: list[list[float]] = [[], []]
    for number in range(rounds + 1):  # the first one warms up
        turns = (0, 1) if number % 2 else (1, 0)
        for turn in turns:
            seconds = case.measure(servers[turn])
            if number:
                measured[turn].append(seconds)
    ours, other = (f"{1_000 * statistics.median(values):,.1f} ms" for values in measured)
    return case.name, ours, other, ratios(measured[0], measured[1]).text(3)


if __name__ == "__main__":
    main()
