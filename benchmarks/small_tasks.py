"""Background tasks of one item: how many a second are accepted, executed and stored, beside taskiq
and Celery with results.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import hotloop
from benchmarks.machine import ROOT
from hotloop.app.tasks.claims import count_queued
from tests.fixtures.redis_server import running_redis

COUNT: Final = 2_000
AT_ONCE: Final = 64
"""Submissions in progress at the same time."""
ROUNDS: Final = 7
VALUE, OFFSET = 0.5, 7
_LOOK_SECONDS: Final = 0.01

Submit = Callable[[], Awaitable[Any]]
Left = Callable[[], Awaitable[int]]


def section() -> Iterator[str]:
    """Yield the section of docs/performance.md."""
    found = asyncio.run(_measured())
    yield f"""## Background tasks of one item

{COUNT:,} tasks of one item of `loops` (default parameters, `cython`) are submitted by one process,
{AT_ONCE} at a time, and executed as they come; the time ends when the last result is stored. All
ways take turns in {ROUNDS} rounds. Hotloop runs inside the submitting process and writes tasks and
results through to the disk (SQLite, `HOTLOOP_DURABILITY=power`). taskiq (1 worker process, as 2
were slower here) and Celery (2) have a Redis server that writes nothing to a disk; their workers
wait for the tasks.
"""
    yield "| way | tasks a second | least … most | ÷ taskiq | ÷ Celery |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for way, rates in found.items():
        cells = [
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f} … {max(rates):,.0f}",
            *(
                f"{statistics.median(a / b for a, b in zip(rates, found[peer], strict=True)):.2f}"
                for peer in ("taskiq", "Celery")
            ),
        ]
        yield f"| {way} | {' | '.join(cells)} |"


async def _measured() -> dict[str, list[float]]:
    """Return the tasks a second of each way in each round."""
    found: dict[str, list[float]] = {"Hotloop": [], "taskiq": [], "Celery": []}
    with running_redis() as server, server.client() as redis, _workers(server.url):
        from benchmarks.peers.celery_app import one_item as celery_task
        from benchmarks.peers.taskiq_app import broker
        from benchmarks.peers.taskiq_app import one_item as taskiq_task

        async def of_taskiq() -> None:
            await taskiq_task.kiq(VALUE, OFFSET)

        async def of_celery() -> None:
            await asyncio.to_thread(celery_task.delay, VALUE, OFFSET)

        async def without_result() -> int:
            kept = ("result:*", "celery-task-meta-*")
            return COUNT - sum(1 for name in kept for _ in redis.scan_iter(name, COUNT))

        await broker.startup()
        await (await taskiq_task.kiq(VALUE, OFFSET)).wait_result(timeout=60)
        await asyncio.to_thread(celery_task.delay(VALUE, OFFSET).get, timeout=60)
        async with _hotloop() as (ours, waiting):
            ways: dict[str, tuple[Submit, Left]] = {
                "Hotloop": (ours, waiting),
                "taskiq": (of_taskiq, without_result),
                "Celery": (of_celery, without_result),
            }
            for number in range(-1, ROUNDS):  # the first only warms up
                for name, way in ways.items():
                    redis.delete(*redis.keys("result:*"), *redis.keys("celery-task-meta-*"), "none")
                    rate = COUNT / await _seconds(*way)
                    if number >= 0:
                        found[name].append(rate)
        await broker.shutdown()
    return found


@asynccontextmanager
async def _hotloop() -> AsyncIterator[tuple[Submit, Left]]:
    """Hotloop in this process: what submits a task, and what counts those that are left."""
    item = {"value": [VALUE], "offset": [OFFSET]}
    with tempfile.TemporaryDirectory() as folder:
        hot = hotloop.Hotloop(
            data_dir=folder, log_level="warning", run_hosts=1, client_tasks=1_000_000
        )
        async with hot.lifespan():

            async def submit() -> None:
                await hot.submit("loops", item, kernel="cython")

            async def left() -> int:
                engine = hot.services.store.engine
                return sum((await asyncio.to_thread(count_queued, engine)).values())

            yield submit, left


async def _seconds(submit: Submit, left: Left) -> float:
    """Return the seconds until all tasks are submitted and none is left."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turns:
            await submit()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(COUNT)))
    while await left():  # noqa: ASYNC110 — another process does the work
        await asyncio.sleep(_LOOK_SECONDS)
    return time.perf_counter() - began


@contextmanager
def _workers(url: str) -> Iterator[None]:
    """The workers of taskiq and Celery, which use the Redis server at `url`."""
    os.environ["BENCHMARK_REDIS"] = url
    commands = (
        ["taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "1"],
        ["celery", "-A", "benchmarks.peers.celery_app", "worker", "-c", "2"],
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
