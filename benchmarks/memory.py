"""Peak memory against the number of items."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.service import finished, service
from hotloop.app.names import StrategyName
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.server import Server

COUNTS: Final = (50_000, 5_000_000)
LIGHT: Final = {"cpu_iterations": 20, "outer_iterations": 1, "inner_iterations": 20}
REDIS: Final = "hybrid, lookups in Redis"
FILL: Final = (
    "for i = ARGV[1], ARGV[2] do redis.call('SET', 'item:' .. string.format('%d', i), i % 97) end"
)
FILL_AT_ONCE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes: of the run host and its workers during the run, of the API process so far."""

    run_host: int
    api: int


def measure() -> dict[str, list[Peak]]:
    """Measure each strategy for each of COUNTS, each on a service of its own, so that no
    other's pools are counted. Memory, not speed: the kernel does little, so that millions of items
    take seconds.
    """
    peaks = {}
    for strategy in LOCAL_STRATEGIES:
        with service() as (server, _):
            peaks[strategy.value] = _peaks(server, strategy, cache="none")
        print(f"  {strategy}", flush=True)
    with running_redis() as redis:
        _fill(redis)
        print("  Redis is filled", flush=True)
        with service(redis_url=redis.url) as (server, _):
            peaks[REDIS] = _peaks(server, StrategyName.HYBRID, cache="redis", io_concurrency=5_000)
        print(f"  {REDIS}", flush=True)
    return peaks


def _peaks(server: Server, strategy: StrategyName, **fields: Any) -> list[Peak]:
    body = {"kernel": "cython", "workers": 2, "batch_size": 5_000, "db": "none"}
    body |= {"parameters": LIGHT, **fields}
    peaks = []
    for count in (COUNTS[0], *COUNTS):  # the first only warms up
        result = finished(server, strategy, items_count=count, **body)
        peaks.append(Peak(result["peak_memory_bytes"], _most_bytes(server.process.pid)))
    return peaks[1:]


def _most_bytes(pid: int) -> int:
    """Most memory that a process ever had resident, by the system's own account."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError("the system does not say")
    return int(found[1]) * 1_024


def _fill(redis: RunningRedis) -> None:
    # In the server: a client would take minutes for millions of keys.
    with redis.client() as client:
        for start in range(0, COUNTS[-1], FILL_AT_ONCE):
            last = min(start + FILL_AT_ONCE, COUNTS[-1]) - 1
            client.eval(FILL, 0, str(start), str(last))


def section() -> Iterator[str]:
    yield f"""## Memory does not depend on the number of items

The table has the peak memory of a run with {COUNTS[0]:,} and with {COUNTS[1]:,} items: of the run
host with its workers, and of the API process since its start. Each strategy ran on a service of
its own, with the `cython` kernel, 2 workers and batches of 5,000. "{REDIS}" reads every item from
a real server, 500 items a round trip.
"""
    yield from table(measure())
    yield ""


def table(peaks: dict[str, list[Peak]]) -> list[str]:
    """Markdown."""
    few, many = (f"{count:,}" for count in COUNTS)
    lines = [
        f"| strategy | run host, {few} | run host, {many} | ratio | API, {few} | API, {many} | "
        "ratio |",
        "| --- |" + " ---: |" * 6,
    ]
    for strategy, (small, large) in peaks.items():
        lines.append(
            f"| {strategy} | {small.run_host / 1e6:.1f} MB | {large.run_host / 1e6:.1f} MB | "
            f"{large.run_host / small.run_host:.3f} | {small.api / 1e6:.1f} MB | "
            f"{large.api / 1e6:.1f} MB | {large.api / small.api:.3f} |"
        )
    return lines
