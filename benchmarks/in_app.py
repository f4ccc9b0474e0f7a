"""Hotloop inside one's own application: `/ping` beside an endpoint that computes for half a minute,
what leaving that endpoint frees, and a call without HTTP.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

import hotloop
from benchmarks.calls import uvicorn_app
from benchmarks.peers.heavy import spin

KERNEL_SECONDS: Final = 30.0
WATCHED_SECONDS: Final = 10.0
"""Then the client of the long request leaves."""
PINGS_A_SECOND: Final = 50
WAYS: Final = {"`async def`": "/async-def", "`def`": "/def", "Hotloop": "/hotloop"}
CALLS: Final = 2_000
_LONGEST_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Beside:
    """The latency of `/ping` and the processor use beside a long request."""

    pings: list[float]
    """Seconds of each answer of `/ping`, from the time at which it was due."""
    freed_seconds: float
    """Seconds from the client's leaving until the processes that there were computed nothing."""


def section() -> Iterator[str]:
    """Yield the section of docs/performance.md."""
    rounds = _rounds(KERNEL_SECONDS)
    yield f"""## In one's own application

An application under uvicorn has an endpoint that computes for {KERNEL_SECONDS:g} s in pure Python:
in an `async def` endpoint, in a `def` endpoint, and by `hot.run` of the same function (kernel
`python`).
`/ping` is asked {PINGS_A_SECOND} times a second meanwhile; its latency counts from the moment at
which it was due. After {WATCHED_SECONDS:g} s the client of the long request leaves. (The run host
whose kernel did not stop by itself is killed; its successor takes a second of a core to start.)

| endpoint | `/ping` p50 ms | p99 ms | most ms | CPU is free after s |
| --- | ---: | ---: | ---: | ---: |"""
    for name, path in WAYS.items():
        found = _beside(path, rounds)
        shown = [statistics.median(found.pings), _p99(found.pings), max(found.pings)]
        cells = [*(f"{1e3 * value:,.1f}" for value in shown), f"{found.freed_seconds:.1f}"]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    for record in ("none", "durable"):
        taken = asyncio.run(_calls(record))
        p50, p99 = 1e3 * statistics.median(taken), 1e3 * _p99(taken)
        yield (
            f"`hot.call_many` of one item of `loops` (default parameters, `cython`, record "
            f"`{record}`), one after another: p50 {p50:.2f} ms, p99 {p99:.2f} ms."
        )


def _p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def _rounds(seconds: float) -> int:
    """Return the number of iterations that take about so many seconds."""
    started = time.perf_counter()
    spin(1.0, 3_000_000)
    return int(3_000_000 * seconds / (time.perf_counter() - started))


def _beside(path: str, rounds: int) -> Beside:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOTLOOP_DATA_DIR"] = folder
        with uvicorn_app("benchmarks.peers.heavy_app:app") as (url, pid):
            httpx.get(f"{url}/hotloop", params={"rounds": 10}, timeout=60).raise_for_status()
            leave = threading.Event()
            asking = threading.Thread(target=_ask, args=(f"{url}{path}?rounds={rounds}", leave))
            asking.start()
            try:
                pings = asyncio.run(_pings(url))
            finally:
                leave.set()
                asking.join()
            return Beside(pings, _seconds_until_idle(pid))


def _ask(url: str, leave: threading.Event) -> None:
    """Ask, and leave before the answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
        target = f"{parts.path}?{parts.query}"
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        leave.wait()


async def _pings(url: str) -> list[float]:
    """Return the seconds of each `/ping`, asked at a fixed rate."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=_LONGEST_SECONDS, limits=limits) as client:

        async def one(due: float) -> float:
            await client.get("/ping")
            return time.perf_counter() - due

        began, asked = time.perf_counter(), []
        for number in range(int(WATCHED_SECONDS * PINGS_A_SECOND)):
            due = began + number / PINGS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(one(due)))
        return list(await asyncio.gather(*asked))


def _seconds_until_idle(pid: int) -> float:
    """Return the seconds until the application and the child processes that it has now compute
    nothing.
    """
    process = psutil.Process(pid)
    known = [process, *process.children(recursive=True)]
    began = time.perf_counter()
    while time.perf_counter() - began < _LONGEST_SECONDS:
        before = _cpu_seconds(known)
        time.sleep(0.1)
        if _cpu_seconds(known) - before < 0.005:
            break
    return time.perf_counter() - began - 0.1


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the processor seconds of the processes that are still there."""
    total = 0.0
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            used = each.cpu_times()
            total += used.user + used.system
    return total


async def _calls(record: str) -> list[float]:
    """Return the seconds of each call in this process."""
    taken = []
    item = {"value": [0.5], "offset": [7]}
    with tempfile.TemporaryDirectory() as folder:
        hot = hotloop.Hotloop(data_dir=folder, run_hosts=1, log_level="warning")
        async with hot.lifespan():
            for number in range(CALLS + 100):
                started = time.perf_counter()
                await hot.call_many("loops", item, kernel="cython", record=record)
                if number >= 100:
                    taken.append(time.perf_counter() - started)
    return taken
