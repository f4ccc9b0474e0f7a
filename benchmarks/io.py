"""The original workload: every item waits for a query and a lookup, then is computed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.probing import HealthProbe, Latencies
from benchmarks.service import finished, service
from hotloop.app.comparison.intervals import interval
from hotloop.app.system import usable_cpu_count
from tests.fixtures.pinot_broker import running_broker
from tests.fixtures.redis_server import running_redis
from tests.fixtures.server import Server

COUNT: Final = 50_000
CONCURRENCY: Final = 5_000
QUERY_SECONDS: Final = 1.0
LOOKUP_SECONDS: Final = 0.0055
"""Mean of 1 to 10 ms."""

GROUP: Final = 500
"""Items of one real query."""

SQL: Final = 'SELECT item_id, "value", "offset" FROM flights WHERE item_id IN ({ids})'


@dataclass(frozen=True, slots=True)
class Case:
    """A way to run it. With `count` below COUNT its seconds are multiplied: they grow with the
    items.
    """

    name: str
    strategy: str
    workers: int
    rounds: int = 3
    count: int = COUNT
    batch_size: int = 5_000
    real: bool = False

    @property
    def projected(self) -> bool:
        return self.count < COUNT


CASES: Final = (
    Case("`hybrid`", "hybrid", 2),
    Case("`hybrid`, batches of 1,000", "hybrid", 2, batch_size=1_000),
    Case("`hybrid`, broker and Redis", "hybrid", 2, real=True),
    Case("`async-batch`", "async-batch", 1),
    Case("`threading`, 4 workers", "threading", 4, rounds=1, count=32, batch_size=8),
    Case("`sequential`", "sequential", 1, rounds=1, count=8),
)


@dataclass(slots=True)
class Measured:
    """Seconds are the client's, from request to answer; projected where the case is."""

    case: Case
    seconds: list[float] = field(default_factory=list)
    health: list[Latencies] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def compute_bound_seconds(kernel_seconds: float) -> float:
    """`kernel_seconds` of one core, on all of them."""
    return kernel_seconds / usable_cpu_count()


def bound_seconds(case: Case, kernel_seconds: float) -> float:
    """No strategy with CONCURRENCY items in flight can be faster. Of the real sources only the
    broker's second is counted, as nobody knows what the rest must take.
    """
    wait = QUERY_SECONDS if case.real else QUERY_SECONDS + LOOKUP_SECONDS
    return max(COUNT * wait / CONCURRENCY, compute_bound_seconds(kernel_seconds))


def measure() -> tuple[list[Measured], float]:
    """Interleaved rounds, after one small untimed run of each; and the seconds that the kernel
    takes for all items on one core.
    """
    measured = [Measured(case) for case in CASES]
    with running_broker(delay_ms=1_000 * QUERY_SECONDS) as broker, running_redis() as redis:
        redis.fill(COUNT, key="item:{item_id}", value=lambda item_id: item_id % 97)
        with service(pinot_url=broker.url, redis_url=redis.url, pinot_sql=SQL) as (server, _):
            for each in measured:
                _run(server, each.case, min(each.case.count, 4))
            kernel_seconds = _kernel_seconds(server)
            for number in range(max(case.rounds for case in CASES)):
                for each in measured:
                    if number < each.case.rounds:
                        _measure(server, each)
    return measured, kernel_seconds


def _kernel_seconds(server: Server) -> float:
    body = {"kernel": "cython", "db": "none", "cache": "none", "items_count": COUNT}
    return statistics.median(
        float(finished(server, "sequential", **body)["duration_seconds"]) for _ in range(3)
    )


def _measure(server: Server, each: Measured) -> None:
    case = each.case
    with HealthProbe(server.port) as probe:
        started = time.perf_counter()
        each.results.append(_run(server, case, case.count))
        seconds = time.perf_counter() - started
    each.seconds.append(seconds * COUNT / case.count)
    each.health.append(probe.latencies())
    print(f"  {case.name}: {seconds:.2f} s for {case.count:,} items", flush=True)


def _run(server: Server, case: Case, count: int) -> dict[str, Any]:
    sources = ("pinot", "redis") if case.real else ("simulated", "simulated")
    return finished(
        server,
        case.strategy,
        items_count=count,
        kernel="cython",
        workers=case.workers,
        batch_size=case.batch_size,
        io_concurrency=CONCURRENCY,
        query_batch_size=GROUP,
        db=sources[0],
        cache=sources[1],
    )


def section() -> Iterator[str]:
    measured, kernel_seconds = measure()
    yield f"""## The original workload: {COUNT:,} items that wait

Each item waits for a query of {QUERY_SECONDS:g} s and a lookup of 1 to 10 ms, and is then
computed by the `cython` kernel with the default parameters. Batches have 5,000 items,
{CONCURRENCY:,} items are in flight, and there are 3 interleaved rounds over HTTP. "Broker and
Redis" is the same work with real I/O: HTTP queries of {GROUP} items to a broker that answers
after {QUERY_SECONDS:g} s, {CONCURRENCY // GROUP} at a time, and lookups in a real Redis server.

The bound is what no strategy can beat: the waits with {CONCURRENCY:,} items in flight, or the
kernel's {kernel_seconds:.2f} s shared by {usable_cpu_count()} cores, whichever is larger.
*Projected* seconds were measured on the number of items in brackets, and multiplied.
"""
    yield from table(measured, kernel_seconds)
    yield ""


def table(measured: list[Measured], kernel_seconds: float) -> list[str]:
    """Markdown."""
    lines = [
        "| strategy | seconds (95 % interval) | bound s | seconds ÷ bound | items / s | "
        "`/health` ms p50 / p99 / most | loop lag ms p99 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in measured:
        taken, bound = interval(each.seconds), bound_seconds(each.case, kernel_seconds)
        text = taken.text(2)
        if each.case.projected:
            text = f"*projected* {taken.median:,.0f} (from {each.case.count} items)"
        lines.append(
            f"| {each.case.name} | {text} | {bound:.2f} | {_ratio(taken.median / bound)} | "
            f"{COUNT / taken.median:,.0f} | "
            f"{statistics.median(h.p50 for h in each.health):.1f} / "
            f"{max(h.p99 for h in each.health):.1f} / {max(h.max for h in each.health):.1f} | "
            f"{max(r['event_loop_lag_ms']['p99'] for r in each.results):.1f} |"
        )
    return lines


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:,.0f}"
