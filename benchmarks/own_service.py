"""Measures the five workloads of examples/workloads as a service runs them: what strategies cost
over their bare executors, and how far predictions and recommendations are right.

    PYTHONPATH=examples/workloads python -m benchmarks.own_service [overhead] [predictions]

replaces those parts of docs/own-workloads-speed.md. Takes about half an hour.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
from hotloop_examples.american import american
from hotloop_examples.bytes_hash import bytes_hash
from hotloop_examples.dtw import dtw
from hotloop_examples.haversine import haversine
from hotloop_examples.mandelbrot import mandelbrot

from benchmarks import model
from benchmarks.machine import ROOT, load_line, machine_lines
from benchmarks.model import BEST, HIGH, LOW, Run, Verdict
from benchmarks.service import finished, service
from hotloop.app.names import StrategyName
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import Server

PAGE: Final = ROOT / "docs" / "own-workloads-speed.md"
COMMAND: Final = "PYTHONPATH=examples/workloads python -m benchmarks.own_service"
FUNCTIONS: Final = {each.name: each for each in (american, bytes_hash, dtw, haversine, mandelbrot)}
TARGETS: Final = ",".join(
    f"{each.function.__code__.co_filename}:{each.function.__name__}" for each in FUNCTIONS.values()
)

# --- what strategies cost over their bare executors -----------------------------------------------

BATCH_SECONDS: Final = 0.05
BATCHES: Final = 60
WORKERS: Final = 2
ROUNDS: Final = 7
MOST_ITEMS: Final = 10_000_000
MOST_OF_BATCH: Final = 1_000_000
PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "american": {"steps": 1_000},
    "mandelbrot": {"max_turns": 10_000},
}
BARE: Final = {
    StrategyName.SEQUENTIAL: "a loop",
    StrategyName.THREADING: "ThreadPoolExecutor",
    StrategyName.HYBRID: "ThreadPoolExecutor",
    StrategyName.MULTIPROCESSING: "ProcessPoolExecutor",
    StrategyName.CONCURRENT_FUTURES: "ProcessPoolExecutor",
}


def job(name: str, start: int, count: int) -> Any:
    """Make up a batch's items and compute them: the code of a user without the service."""
    function = FUNCTIONS[name]
    items = function.declaration.simulated_columns(np.arange(start, start + count, dtype=np.int64))
    return function.run(items, PARAMETERS.get(name, {}), kernel="numba")


def overhead() -> Iterator[str]:
    """Yield the part about strategies and their bare executors."""
    yield f"""
Jobs of {BATCHES} batches of about {BATCH_SECONDS * 1e3:.0f} ms each, or {MOST_ITEMS:,} items,
with `numba` and {WORKERS} workers; the items are made up. A figure is a strategy's seconds ÷ those
of the bare executor with the same batches and the same function, the median of {ROUNDS} rounds in
which all take turns. Pools are warm. The bare executor forgets the results. The service stores
them: 17 bytes and a checksum for each item, which takes about 0.1 µs. Two of the
five have items so cheap that this shows.
"""
    yield from machine_lines()
    head = "| workload | items of a batch | µs an item | " + " | ".join(f"`{s}`" for s in BARE)
    rows = [head + " |", "| --- | ---: | ---: |" + " ---: |" * len(BARE)]
    worst: list[float] = []
    with service(workloads=TARGETS) as (server, _):
        _examine_all(server)
        for name in FUNCTIONS:
            size, seconds, ratios = _overhead_of(server, name)
            worst.append(max(ratios.values()))
            cells = " | ".join(f"{ratios[s]:.3f}" for s in BARE)
            rows.append(f"| {_title(name)} | {size:,} | {seconds * 1e6:.3g} | {cells} |")
            print(f"  {rows[-1]}", flush=True)
    yield load_line("after")
    yield ""
    yield from rows
    yield ""
    within = sum(each <= 1.03 for each in worst)
    yield f"The dearest strategy costs at most 3 % over its executor for {within} of {len(worst)}."


def _examine_all(server: Server) -> None:
    """Have all workloads examined, so that the service does not do it while it is measured."""
    model.calibrate(server)  # waits until they are loaded
    for name in FUNCTIONS:
        model.ask(server, {"workload": name, "items_count": 1_000}, limit=1)


def _title(name: str) -> str:
    parameters = ", ".join(f"{key} {value:,}" for key, value in PARAMETERS.get(name, {}).items())
    return f"`{name}`" + (f", {parameters}" if parameters else "")


def _overhead_of(server: Server, name: str) -> tuple[int, float, dict[StrategyName, float]]:
    """Return the items of a batch, the seconds of an item in one thread, and each strategy's
    ratio.
    """
    job(name, 0, 100)  # compiled
    size, taken = 100, 0.0
    while taken < BATCH_SECONDS / 2:
        size *= 2
        started = time.perf_counter()
        job(name, 0, size)
        taken = time.perf_counter() - started
    size = max(1, min(MOST_OF_BATCH, round(size * BATCH_SECONDS / taken)))
    count = size * min(BATCHES, MOST_ITEMS // size)
    calls = [(name, start, size) for start in range(0, count, size)]
    body: dict[str, Any] = {
        "workload": name, "items_count": count, "batch_size": size, "workers": WORKERS,
        "kernel": "numba", "db": "none", "cache": "none", "parameters": PARAMETERS.get(name, {}),
    }  # fmt: skip

    def ours(strategy: StrategyName) -> Callable[[], float]:
        return lambda: float(finished(server, strategy, **body)["duration_seconds"])

    def timed(call: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            started = time.perf_counter()
            call()
            return time.perf_counter() - started

        return run

    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(WORKERS))
        processes = stack.enter_context(
            ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
        )
        ways: dict[str, Callable[[], float]] = {
            "a loop": timed(lambda: [job(*call) for call in calls]),
            "ThreadPoolExecutor": timed(lambda: list(threads.map(job, *zip(*calls, strict=True)))),
            "ProcessPoolExecutor": timed(
                lambda: list(processes.map(job, *zip(*calls, strict=True)))
            ),
            **{strategy: ours(strategy) for strategy in BARE},
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(-1, ROUNDS):  # the first only warms up
            for way, run in ways.items():
                taken = run()
                if number >= 0:
                    seconds[way].append(taken)
    item_seconds = statistics.median(seconds["a loop"]) / count
    return (
        size,
        item_seconds,
        {
            strategy: statistics.median(
                ours / bare for ours, bare in zip(seconds[strategy], seconds[executor], strict=True)
            )
            for strategy, executor in BARE.items()
        },
    )


# --- predictions and recommendations --------------------------------------------------------------

SEED: Final = 50_000
SIZES: Final = {
    "american": (2, 5),
    "bytes_hash": (3.5, 6),
    "dtw": (2, 5),
    "haversine": (4, 6.5),
    "mandelbrot": (3, 6),
}
"""Powers of ten of the numbers of items."""


def random_work(chance: random.Random) -> dict[str, Any]:
    """Draw a workload, items, parameters and delays; half of them have none."""
    name = chance.choice(sorted(FUNCTIONS))
    parameters: dict[str, Any] = {}
    if name == "american":
        parameters = {
            "steps": round(10 ** chance.uniform(1.3, 2.6)),
            "kind": chance.choice(("put", "call")),
        }
    elif name == "mandelbrot":
        parameters = {"max_turns": round(10 ** chance.uniform(1.5, 3.5))}
    work: dict[str, Any] = {
        "workload": name,
        "items_count": round(10 ** chance.uniform(*SIZES[name])),
        "parameters": parameters,
    }
    if chance.random() < 0.5:
        return work | {"db": "none", "cache": "none"}
    low = chance.choice([1, 2, 5])
    delays = {"db_delay_ms": chance.choice([5, 20, 50, 100]), "redis_delay_ms": [low, 2 * low]}
    return work | delays | {"items_count": min(work["items_count"], 20_000)}


def predictions() -> Iterator[str]:
    """Yield the part about predictions and recommendations."""
    machine = machine_lines()
    with service(workloads=TARGETS) as (server, _):
        _examine_all(server)
        model.calibrate(server)
        runs = _configurations(server)
        for number in range(model.ROUNDS):
            if number > 0:
                model.calibrate(server)
                for run in runs:
                    run.predict(server)
            model.measure(server, runs, number)
        for run in runs:
            print(f"  {_text(run)}", flush=True)
        verdicts = list(_verdicts(server))
    right = sum(LOW <= run.ratio <= HIGH for run in runs)
    at_first = sum(LOW <= run.first_ratio <= HIGH for run in runs)
    good = sum(verdict.ratio <= BEST for verdict in verdicts)
    yield f"""
{len(runs)} random configurations (seed {SEED}) over the five workloads were run over HTTP in
{model.ROUNDS} rounds, each after a calibration of the machine. For **{right}** the median of
predicted ÷ measured is in {LOW} … {HIGH} ({at_first} by the first calibration alone). For
{len(verdicts)} random requests the service recommended a choice; for **{good}** of them it took at
most {BEST - 1:.0%} longer than the best of those measured.
"""
    yield from machine
    yield load_line("after")
    yield ""
    yield "| workload | strategy | kernel | items | batch | workers | delay | predicted s | took \
s | ratio |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    yield from (_text(run) for run in sorted(runs, key=lambda run: run.ratio))
    yield ""
    yield "| workload | items | recommended | s | best measured | s | ratio |"
    yield "| --- | ---: | --- | ---: | --- | ---: | ---: |"
    yield from map(_verdict_text, verdicts)


def _configurations(server: Server) -> list[Run]:
    chance = random.Random(SEED)
    found: list[Run] = []
    while len(found) < model.CONFIGURATIONS:
        strategy = LOCAL_STRATEGIES[len(found) % len(LOCAL_STRATEGIES)].value
        body = model.random_choice(chance, random_work(chance), ["python", "numba", "numba"])
        best = model.ask(server, body, strategy=strategy, limit=1)["recommended"]
        if model.SHORTEST <= best["predicted_seconds"] <= model.LONGEST:
            found.append(Run(strategy, body, [best["predicted_seconds"]]))
    return found


def _verdicts(server: Server) -> Iterator[Verdict]:
    chance = random.Random(SEED + 1)
    count = 0
    while count < model.WORKLOADS:
        work = random_work(chance)
        best = model.ask(server, work, limit=1)["recommended"]["predicted_seconds"]
        if not model.SHORTEST <= best <= model.LONGEST / 4:
            continue
        count += 1
        runs = model.choices(server, work)
        for number in range(model.CHOICE_ROUNDS):
            model.measure(server, runs, number)
        verdict = model.judge(server, runs)
        print(f"  {_verdict_text(verdict)}", flush=True)
        yield verdict


def _text(run: Run) -> str:
    body = run.body
    delay = "–" if body.get("db") == "none" else f"{body['db_delay_ms']} ms"
    return (
        f"| `{body['workload']}` | `{run.strategy}` | {body['kernel']} | {body['items_count']:,} | "
        f"{body['batch_size']:,} | {body['workers']} | {delay} | {run.predictions[-1]:.3f} | "
        f"{run.seconds:.3f} | {run.ratio:.2f} |"
    )


def _verdict_text(verdict: Verdict) -> str:
    def way(run: Run) -> str:
        body = run.body
        return f"`{run.strategy}` × {body['kernel']}, {body['workers']} w, {body['batch_size']:,}"

    body = verdict.recommended.body
    return (
        f"| `{body['workload']}` | {body['items_count']:,} | {way(verdict.recommended)} | "
        f"{verdict.seconds:.3f} | {way(verdict.best)} | {verdict.best_seconds:.3f} | "
        f"{verdict.ratio:.2f} |"
    )


PARTS: Final[dict[str, tuple[str, Callable[[], Iterator[str]]]]] = {
    "overhead": ("Strategies over their bare executors", overhead),
    "predictions": ("Predictions and recommendations", predictions),
}


def main(names: list[str]) -> None:
    """Measure parts, and replace them in the page."""
    if unknown := set(names) - set(PARTS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    for name in names or PARTS:
        title, make = PARTS[name]
        text = "\n".join(make()).strip()
        text += f"\n\nMeasured by `{COMMAND} {name}`.\n"
        page = PAGE.read_text(encoding="utf-8").split("\n## ")
        kept = [part for part in page if part.partition("\n")[0] != title]
        kept[-1] = kept[-1].rstrip() + "\n"
        PAGE.write_text("\n## ".join([*kept, f"{title}\n\n{text}"]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
