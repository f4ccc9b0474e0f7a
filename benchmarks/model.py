"""The cost model against measurements: random configurations, and random workloads for which the
recommended choice is held against the others. Written into docs/model.md.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from benchmarks.machine import ROOT, load_line, machine_lines
from benchmarks.service import finished, service
from benchmarks.uncalibrated import Typical
from hotloop.app.schemas.queries import flat
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import Server

PAGE: Final = ROOT / "docs" / "model.md"
START: Final = "<!-- model: written by python -m benchmarks.report model -->"
END: Final = "<!-- end of model -->"

SEED: Final = 20_000
CONFIGURATIONS: Final = 60
WORKLOADS: Final = 10
SHORTEST, LONGEST = 0.05, 8.0
"""Predicted seconds of what is measured."""

LOW, HIGH = 0.8, 1.25
"""Predicted ÷ measured that counts as right."""

BEST: Final = 1.1
"""Times the best measured that the recommended may take."""

HOPELESS: Final = 3.0
"""Choices predicted at so many times the recommended are not measured: the model would have to be
wrong by that much."""

ROUNDS: Final = 5
FEW_ROUNDS_SECONDS: Final = 1.0
FEW_ROUNDS: Final = 2
"""Rounds of slow configurations."""

CHOICE_ROUNDS: Final = 7
"""Rounds of all configurations of a workload, to find the best."""

PAIRS: Final = 20
"""Pairs of runs of the recommended and the best choice, to measure the gain: the shortest of
many medians is short by luck, too, and would not be again.
"""


@dataclass(slots=True)
class Run:
    """A strategy with the body of its run."""

    strategy: str
    body: dict[str, Any]
    predictions: list[float]
    """A prediction for each calibration; the last is of the round to come."""
    measured: list[float] = field(default_factory=list)
    typical: float = 0.0
    """The prediction that would have been made before any calibration."""
    ratios: list[float] = field(default_factory=list)
    """Predicted ÷ measured, of each round."""

    @property
    def seconds(self) -> float:
        return statistics.median(self.measured)

    @property
    def predicted(self) -> float:
        """The prediction by the first calibration."""
        return self.predictions[0]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def first_ratio(self) -> float:
        """The ratio to what the first calibration predicted."""
        return self.predicted / self.seconds

    def measure(self, server: Server) -> None:
        self.measured.append(finished(server, self.strategy, **self.body)["duration_seconds"])
        self.ratios.append(self.predictions[-1] / self.measured[-1])

    def predict(self, server: Server) -> None:
        found = ask(server, self.body, strategy=self.strategy, limit=1)["recommended"]
        self.predictions.append(found["predicted_seconds"])

    def text(self) -> str:
        delays = "–"
        if self.body.get("db") != "none":
            delays = f"{self.body['db_delay_ms']:g} ms"
        return (
            f"| `{self.strategy}` | {self.body['kernel']} | {self.body['items_count']:,} | "
            f"{self.body['batch_size']:,} | {self.body['workers']} | "
            f"{self.body['io_concurrency']:,} | {delays} | {self.predicted:.3f} | "
            f"{self.seconds:.3f} | {self.first_ratio:.2f} | {self.ratio:.2f} |"
        )


def ask(server: Server, work: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A recommendation for a run's body, by a machine that is calibrated."""
    query = flat(work | {"wait": True} | more)
    answer = server.client.get("/api/v1/tasks/recommendations", params=query)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def random_work(chance: random.Random) -> dict[str, Any]:
    """Items, delays and parameters: from 100 to 100,000 items, half of them with delays."""
    share = 10 ** chance.uniform(-1.5, 0)
    work: dict[str, Any] = {
        "items_count": round(10 ** chance.uniform(2, 5)),
        "parameters": {
            "cpu_iterations": round(20_000 * share),
            "outer_iterations": 100,
            "inner_iterations": round(200 * share),
        },
    }
    if chance.random() < 0.5:
        work |= {"db": "none", "cache": "none"}
    else:
        low = chance.choice([1, 2, 5])
        work |= {"db_delay_ms": chance.choice([5, 20, 50, 100, 200])}
        work |= {"redis_delay_ms": [low, 2 * low]}
    return work


def random_choice(chance: random.Random, work: dict[str, Any], kernels: list[str]) -> Any:
    most = max(10, work["items_count"])
    return work | {
        "kernel": chance.choice(kernels),
        "workers": chance.choice([1, 2, 3, 4, 8]),
        "batch_size": max(1, round(10 ** chance.uniform(1, min(4, len(str(most)))))),
        "io_concurrency": chance.choice([50, 200, 1_000, 5_000]),
    }


def configurations(server: Server) -> list[Run]:
    """Draw as many configurations for each strategy, with predictions within the bounds."""
    chance = random.Random(SEED)
    reported = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
    kernels = [each["kernel"] for each in reported if each["available"]]
    typical = Typical(reported)
    found: list[Run] = []
    while len(found) < CONFIGURATIONS:
        strategy = LOCAL_STRATEGIES[len(found) % len(LOCAL_STRATEGIES)].value
        body = random_choice(chance, random_work(chance), kernels)
        best = ask(server, body, strategy=strategy, limit=1)["recommended"]
        if SHORTEST <= best["predicted_seconds"] <= LONGEST:
            run = Run(strategy, body, [best["predicted_seconds"]])
            run.typical = typical.seconds(strategy, body)
            found.append(run)
    return found


def calibrate(server: Server) -> float:
    """Seconds that it took."""
    server.client.post("/api/v1/tasks/calibration").raise_for_status()
    return float(ask(server, {"items_count": 100})["calibration"]["duration_seconds"])


def measure_configurations(server: Server) -> list[Run]:
    """Measure in rounds, each after its own calibration: the pace of a shared machine may
    be another minutes later.
    """
    runs = configurations(server)
    for number in range(ROUNDS):
        if number > 0:
            calibrate(server)
            for run in runs:
                run.predict(server)
        measure(server, runs, number)
    for run in runs:
        print(f"  {run.text()}", flush=True)
    return runs


def measure(server: Server, runs: list[Run], number: int) -> None:
    """A round, shuffled: whatever else the machine does meanwhile meets all of them. Pools that
    change between runs do not count, as the seconds of a run begin when its pool is up.
    """
    for run in random.Random(number).sample(runs, len(runs)):
        if number < FEW_ROUNDS or run.seconds < FEW_ROUNDS_SECONDS:
            run.measure(server)


def choices(server: Server, work: dict[str, Any]) -> list[Run]:
    """The first five of the ranking and the best of each strategy, the recommended first."""
    ranked = ask(server, work, limit=5)["ranked"]
    for strategy in LOCAL_STRATEGIES:
        ranked += ask(server, work, strategy=strategy.value, limit=1)["ranked"]
    found: list[Run] = []
    names = ("kernel", "workers", "batch_size", "io_concurrency")
    for choice in ranked:
        run = Run(
            choice["strategy"],
            work | {name: choice[name] for name in names},
            [choice["predicted_seconds"]],
        )
        hopeless = run.predicted > HOPELESS * ranked[0]["predicted_seconds"]
        if not hopeless and (run.strategy, run.body) not in [(r.strategy, r.body) for r in found]:
            found.append(run)
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """The recommended choice against the best measured one, which may be the same. Seconds are
    medians."""

    recommended: Run
    best: Run
    seconds: float
    best_seconds: float
    ratio: float
    """The median of pairs, next to each other."""


def measure_workloads(server: Server) -> list[Verdict]:
    chance = random.Random(SEED + 1)
    found: list[Verdict] = []
    while len(found) < WORKLOADS:
        work = random_work(chance)
        best = ask(server, work, limit=1)["recommended"]["predicted_seconds"]
        if not SHORTEST <= best <= LONGEST / 4:
            continue
        runs = choices(server, work)
        for number in range(CHOICE_ROUNDS):
            measure(server, runs, number)
        found.append(judge(server, runs))
        print(f"  {_line(found[-1])}", flush=True)
    return found


def judge(server: Server, runs: list[Run]) -> Verdict:
    first, best = runs[0], min(runs, key=lambda run: run.seconds)
    if first is best:
        return Verdict(first, best, first.seconds, best.seconds, 1.0)
    for pair in range(PAIRS):
        for run in (first, best) if pair % 2 else (best, first):
            run.measure(server)
    ours, theirs = first.measured[-PAIRS:], best.measured[-PAIRS:]
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Verdict(first, best, statistics.median(ours), statistics.median(theirs), ratio)


def lines(calibrating: float, runs: list[Run], verdicts: list[Verdict]) -> Iterator[str]:
    """Markdown."""
    right = sum(LOW <= run.ratio <= HIGH for run in runs)
    at_first = sum(LOW <= run.first_ratio <= HIGH for run in runs)
    factors = [run.seconds / run.typical for run in runs]
    low, high = np.quantile(np.asarray(factors), (0.05, 0.95))
    before = sum(LOW <= 1 / factor <= HIGH for factor in factors)
    good = sum(verdict.ratio <= BEST for verdict in verdicts)
    yield f"""
Calibrating took {calibrating:.1f} s. {len(runs)} random configurations (seed {SEED}) were run over
HTTP in {ROUNDS} rounds ({FEW_ROUNDS} if a run took longer than {FEW_ROUNDS_SECONDS:g} s). A
calibration just before each round made the predictions. For **{right}** configurations the median
of predicted ÷ measured is in {LOW} … {HIGH}. The predictions of the first calibration alone, made
minutes before the last round, are within those bounds of the median measured for **{at_first}**.
Predictions from typical figures, before any calibration, are for **{before}**: measured ÷ predicted
is {min(factors):.2f} … {max(factors):.2f}, and from the 5th to the 95th percentile {low:.2f} …
{high:.2f}.

The service recommended a choice for {len(verdicts)} random workloads. For **{good}** of them the
choice took at most {BEST - 1:.0%} longer than the best choice that was measured. Measured were the
first five of the ranking and the best of each strategy, except those predicted at {HOPELESS:g}
times as long. {CHOICE_ROUNDS} rounds found the best; {PAIRS} runs of both by turns found the ratio.

In the first table, "ratio" is predicted ÷ measured seconds by the first calibration; "in rounds" is
the median over the rounds, each with its own calibration.
"""
    yield from machine_lines()
    yield load_line("after")
    yield ""
    yield "| strategy | kernel | items | batch | workers | in flight | db delay | predicted s | \
measured s | ratio | in rounds |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from (run.text() for run in sorted(runs, key=lambda run: run.ratio))
    yield ""
    yield "| workload | recommended | measured s | best measured | measured s | ratio |"
    yield "| --- | --- | ---: | --- | ---: | ---: |"
    yield from map(_line, verdicts)
    yield ""


def _line(verdict: Verdict) -> str:
    body = verdict.recommended.body
    delay = "no I/O" if body.get("db") else f"{body['db_delay_ms']} ms"
    return (
        f"| {body['items_count']:,} items, {delay} | {_way(verdict.recommended)} | "
        f"{verdict.seconds:.3f} | {_way(verdict.best)} | {verdict.best_seconds:.3f} | "
        f"{verdict.ratio:.2f} |"
    )


def _way(run: Run) -> str:
    body = run.body
    return (
        f"`{run.strategy}` × {body['kernel']}, {body['workers']} w, {body['batch_size']:,}, "
        f"{body['io_concurrency']:,} in flight"
    )


def write() -> None:
    """Measure, and replace what is between the marks of the page."""
    before, _, rest = PAGE.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit("docs/model.md has no place for the tables")
    started = time.monotonic()
    with service() as (server, _):
        calibrating = calibrate(server)
        runs = measure_configurations(server)
        calibrate(server)
        workloads = measure_workloads(server)
    text = "\n".join(lines(calibrating, runs, workloads))
    PAGE.write_text(before + START + "\n" + text + "\n" + END + after)
    print(f"  {time.monotonic() - started:.0f} s", flush=True)
