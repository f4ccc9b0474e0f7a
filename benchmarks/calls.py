"""One item for one caller: calls of the service beside a plain FastAPI application with a pool."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from benchmarks.machine import ROOT
from benchmarks.peers.one_item import compute
from benchmarks.service import service
from tests.fixtures.waiting import wait_until

CLIENTS: Final = (1, 8, 64)
SECONDS: Final = 2.0
ROUNDS: Final = 7
ITEM: Final[dict[str, Any]] = {"value": 0.5, "offset": 7}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to have an item computed."""

    name: str
    url: str
    body: dict[str, Any]


@dataclass(slots=True)
class Measured:
    """The figures of a way in each round, with some number of clients."""

    rates: list[float] = field(default_factory=list)
    """Answers a second."""
    medians: list[float] = field(default_factory=list)
    """Seconds of the median answer."""
    slowest: list[float] = field(default_factory=list)
    """Seconds in which 99 of 100 answers came."""


def section() -> Iterator[str]:
    """Yield the section of docs/performance.md."""
    with service() as (server, _), uvicorn_app("benchmarks.peers.plain_app:app") as (plain, _):
        url = f"{server.url}/api/v1/workloads/loops"
        call = {"items": [ITEM], "kernel": "cython"}
        ways = [
            *(Way(f"call, `{r}`", url, call | {"record": r}) for r in ("durable", "lazy", "none")),
            *(
                Way(f"FastAPI + {pool}", f"{plain}/{pool}", ITEM)
                for pool in ("threads", "processes")
            ),
        ]
        found = {(way.name, clients): Measured() for way in ways for clients in CLIENTS}
        for number in range(-1, ROUNDS):  # the first only warms up
            for clients in CLIENTS:
                for way in ways:
                    seconds, taken = asyncio.run(ask(way, clients))
                    if number >= 0:
                        each = found[way.name, clients]
                        each.rates.append(len(taken) / seconds)
                        each.medians.append(statistics.median(taken))
                        each.slowest.append(statistics.quantiles(taken, n=100)[98])
    yield from _text(ways, found)


def _text(ways: list[Way], found: dict[tuple[str, int], Measured]) -> Iterator[str]:
    yield f"""## One item for one caller

`POST /api/v1/workloads/loops` with one item and the default parameters (20,000 iterations and
100 × 200; the kernel takes {1e6 * kernel_seconds():.0f} µs alone), beside a FastAPI application
that calls the same kernel in a `ThreadPoolExecutor` or a `ProcessPoolExecutor` and keeps nothing.
Each client asks again when it has its answer, for {SECONDS:g} s; all ways take turns
in {ROUNDS} rounds. The clients share the processors with the service.
"""
    yield "| way | clients | answers a second | p50 ms | p99 ms | ÷ threads | ÷ processes |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for clients in CLIENTS:
        for way in ways:
            each = found[way.name, clients]
            cells = [
                f"{statistics.median(each.rates):,.0f}",
                *(f"{1e3 * statistics.median(v):.2f}" for v in (each.medians, each.slowest)),
            ]
            for pool in ("threads", "processes"):
                peer = found[f"FastAPI + {pool}", clients].rates
                ratio = statistics.median(a / b for a, b in zip(each.rates, peer, strict=True))
                cells.append(f"{ratio:.2f}")
            yield f"| {way.name} | {clients} | {' | '.join(cells)} |"


def kernel_seconds() -> float:
    """Return the seconds of a kernel call for the item, the call of Python included."""
    taken = []
    for _ in range(1_000):
        started = time.perf_counter()
        compute(ITEM["value"], ITEM["offset"])
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def ask(way: Way, clients: int) -> tuple[float, list[float]]:
    """Return the seconds of a measurement, and those of each answer."""
    parts = urlsplit(way.url)
    body = json.dumps(way.body).encode()
    request = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    taken: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (started := time.perf_counter()) - began < SECONDS:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - began, taken


@contextmanager
def uvicorn_app(target: str) -> Iterator[tuple[str, int]]:
    """An application under uvicorn: its address, and the process id of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", target, "--port", str(port)]
    log = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/openapi.json").is_success
            except httpx.TransportError:
                return False

        try:
            wait_until(answers, "the application answers", 60)
            yield url, process.pid
        finally:
            process.terminate()
            process.wait(60)
