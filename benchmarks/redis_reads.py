"""The cache stage on a real Redis server, against the client that one would write by hand."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import numpy as np
from redis.asyncio import Redis

from benchmarks.service import finished, service
from hotloop.app.comparison.intervals import Interval, interval, ratios
from hotloop.app.names import RedisLayout
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.resilience import Policy
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import StepCount
from hotloop.app.strategies.worker import fetch_group_async, groups
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.server import Server

COUNT: Final = 50_000
BATCH: Final = 5_000
GROUP: Final = 500
"""Keys of one MGET."""

CONNECTIONS: Final = 10
ROUNDS: Final = 101

BY_HAND: Final = "By hand"
STAGE: Final = "The stage alone"
RUN_IO: Final = "The stage in a run"
RUN: Final = "The whole run"

NOTHING: Final = {"cpu_iterations": 0, "outer_iterations": 0, "inner_iterations": 0}

Read = Callable[[], Awaitable[None]]


def value_of(item_id: int) -> int:
    """The value that the server holds for an item."""
    return item_id % 97


def measure() -> dict[str, list[float]]:
    """Seconds for COUNT keys by way, one for each of ROUNDS, in another order each."""
    with running_redis() as redis:
        redis.fill(COUNT, key="item:{item_id}", value=value_of)
        with service(redis_url=redis.url) as (server, _):
            return asyncio.run(_measure(redis, server))


async def _measure(redis: RunningRedis, server: Server) -> dict[str, list[float]]:
    client = Redis.from_url(redis.url, max_connections=CONNECTIONS)
    seconds: dict[str, list[float]] = {BY_HAND: [], STAGE: [], RUN_IO: [], RUN: []}
    order = [BY_HAND, STAGE, RUN]
    reads: dict[str, Read] = {BY_HAND: lambda: by_hand(client), STAGE: lambda: by_stage(redis.url)}
    try:
        for number in range(-2, ROUNDS):  # the first two only warm up
            random.shuffle(order)
            taken: dict[str, float] = {}
            for name in order:
                if name == RUN:
                    result = await asyncio.to_thread(_run, server)
                    taken[RUN] = float(result["duration_seconds"])
                    taken[RUN_IO] = float(result["io_seconds"])
                else:
                    started = time.perf_counter()
                    await reads[name]()
                    taken[name] = time.perf_counter() - started
            if number >= 0:
                for name, value in taken.items():
                    seconds[name].append(value)
            if number % 20 == 0:
                print(f"  redis, round {number}", flush=True)
    finally:
        await client.aclose()
        await close_connections()
    return seconds


async def by_hand(client: Redis) -> None:
    """redis-py on hiredis, MGETs on every connection at once, the numbers into one array."""
    offsets = np.empty(COUNT, dtype=np.int64)
    starts = iter(range(0, COUNT, GROUP))

    async def read() -> None:
        for start in starts:
            values = await client.mget([f"item:{i}" for i in range(start, start + GROUP)])
            offsets[start : start + GROUP] = _numbers(values)

    await asyncio.gather(*(read() for _ in range(CONNECTIONS)))
    _check(offsets)


def _numbers(values: list[Any]) -> np.ndarray[Any, Any]:
    return np.fromiter(map(int, values), np.int64, len(values))


async def by_stage(url: str) -> None:
    """The stage as a run uses it: batch by batch, CONNECTIONS groups at once."""
    stage = RedisStage(
        url=url,
        key="item:{id}",
        layout=RedisLayout.STRING,
        fields=(("offset", "offset"),),
        defaults=(("offset", 0),),
        workload="loops",
        connections=CONNECTIONS,
        policy=Policy(timeout_seconds=10, attempts=6, outage_seconds=30),
    )
    items = GeneratedItems(COUNT)
    batches = [items.load("loops", start, BATCH) for start in range(0, COUNT, BATCH)]
    waiting = ((batch, positions) for batch in batches for positions in groups(BATCH, GROUP))

    async def read() -> None:
        for batch, positions in waiting:
            await fetch_group_async((stage,), batch, positions, StepCount())

    await asyncio.gather(*(read() for _ in range(CONNECTIONS)))
    _check(np.concatenate([batch.columns["offset"] for batch in batches]))


def _check(offsets: np.ndarray[Any, Any]) -> None:
    if not np.array_equal(offsets, value_of(np.arange(COUNT))):  # type: ignore[arg-type]
        raise RuntimeError("what was read is not what is there")


def _run(server: Server) -> dict[str, Any]:
    return finished(
        server,
        "hybrid",
        items_count=COUNT,
        kernel="cython",
        workers=2,
        batch_size=BATCH,
        io_concurrency=CONNECTIONS * GROUP,
        query_batch_size=GROUP,
        db="none",
        cache="redis",
        parameters=NOTHING,
    )


def section() -> Iterator[str]:
    seconds = measure()
    yield f"""## Reading from Redis

{COUNT:,} keys of a real server on the same machine, MGETs of {GROUP} keys, {CONNECTIONS}
connections, {ROUNDS} rounds, each in another order.

- "{BY_HAND}" is `redis.asyncio` with hiredis. It puts the answers into a NumPy array, without a
  check, a retry or a breaker, in the measuring process.
- "{STAGE}" is our cache stage, also in the measuring process.
- "{RUN_IO}" is the time during which `hybrid` waited for the cache, in a run over HTTP with a
  kernel that does nothing.
- "{RUN}" is the duration of that run: it also makes the items, computes checksums and sends the
  results on.
"""
    yield from table(seconds)
    yield ""


def table(seconds: dict[str, list[float]]) -> list[str]:
    """Markdown."""
    lines = [
        "| | ms (95 % interval) | items / s | throughput ÷ by hand (95 % interval) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, values in seconds.items():
        taken: Interval = interval([1_000 * value for value in values])
        against = ratios(seconds[BY_HAND], values).text(2) if name != BY_HAND else ""
        lines.append(
            f"| {name} | {taken.text(1)} | {COUNT / taken.median * 1_000:,.0f} | {against} |"
        )
    return lines
