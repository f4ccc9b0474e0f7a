"""observability.samplers, with app.process_tree: lag, memory and CPU, sampled on demand."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psutil

from hotloop.app.observability.lag import LoopLagMonitor
from hotloop.app.observability.samplers import VitalsService
from hotloop.app.process_tree import ProcessTree
from hotloop.app.schemas.service import VitalsSample
from tests.fixtures.waiting import BOUND_SECONDS, until, wait_until

SPIN = "import sys\nx = bytearray(50_000_000)\nwhile sys.stdin.readable(): pass"


def sampling(vitals: VitalsService) -> bool:
    """Asked anew each time; a property would be taken for one that stays."""
    return vitals.is_sampling


async def samples_after(
    vitals: VitalsService, after: datetime | None, count: int
) -> list[VitalsSample]:
    """The samples after `after`, as soon as there are `count`."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        samples = (await vitals.read(after)).samples
        if len(samples) >= count:
            return samples
        assert time.monotonic() < deadline, f"{len(samples)} samples only"
        await asyncio.sleep(0.005)


@contextmanager
def spinning_child() -> Iterator[psutil.Process]:
    """A process that holds 50 MB and computes until it is killed, at the end of the context."""
    with subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_nothing_is_measured_before_anybody_asks_and_little_after() -> None:
    async def look() -> None:
        monitor = LoopLagMonitor()
        vitals = VitalsService(monitor, 2, sample_seconds=0.03, unseen_seconds=2.0)
        tasks = len(asyncio.all_tasks())
        assert not sampling(vitals)
        first = await vitals.read(None)
        assert first.samples == []
        assert sampling(vitals)
        await until(lambda: not sampling(vitals), "sampling stops")
        kept = await vitals.read(None)
        assert len(kept.samples) >= 2
        assert sampling(vitals), "whoever asks again is told again"
        await vitals.close()
        assert not sampling(vitals)
        await until(lambda: len(asyncio.all_tasks()) == tasks, "nothing is left")

    asyncio.run(look())


def test_only_what_is_new_is_told_again() -> None:
    async def look() -> None:
        vitals = VitalsService(LoopLagMonitor(), 2, sample_seconds=0.1)
        await vitals.read(None)
        seen: list[VitalsSample] = []
        for _ in range(3):
            after = seen[-1].sampled_at if seen else None
            seen += await samples_after(vitals, after, 1)
        await vitals.close()
        times = [sample.sampled_at for sample in seen]
        assert times == sorted(set(times))
        assert all(sample.event_loop_lag_p99_ms > 0 for sample in seen)

    asyncio.run(look())


def test_memory_and_cpu_of_children_are_counted_apart() -> None:
    async def look() -> None:
        vitals = VitalsService(LoopLagMonitor(), 1, sample_seconds=0.2)
        await vitals.read(None)
        with spinning_child() as child:
            await until(lambda: child.memory_info().rss > 50_000_000, "the child has its memory")
            after = (await vitals.read(None)).samples
            latest = after[-1].sampled_at if after else None
            new = await samples_after(vitals, latest, 2)
        await vitals.close()
        assert new[-1].runs_memory_bytes > 50_000_000
        assert new[-1].runs_cpu_utilization > new[-1].api_cpu_utilization
        assert new[-1].api_memory_bytes > 10_000_000

    asyncio.run(look())


def test_seconds_of_a_child_that_has_ended_are_kept() -> None:
    tree = ProcessTree()
    _, before = tree.usage()
    with spinning_child() as child:
        wait_until(lambda: sum(child.cpu_times()[:2]) >= 0.1, "the child has used CPU")
    _, after = tree.usage()
    assert after.cpu_seconds - before.cpu_seconds >= 0.1 - 1e-6  # the clock has hundredths
