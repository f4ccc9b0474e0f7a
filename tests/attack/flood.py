"""More clients than there is room for, all asking for large runs at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.attack.findings import Findings
from tests.attack.probe import probing
from tests.attack.target import Target, note_left, running_target

PATH: Final = "/api/v1/tasks/sequential"
BODY: Final[dict[str, Any]] = {
    "items_count": 50_000,
    "db": "none",
    "cache": "none",
    "kernel": "numba",
}
ALLOWED: Final = (200, 202, 429, 503)
HEALTH_P99_MS: Final = 20.0
AFTERWARDS_MS: Final = 1_000.0
API_GROWTH_MIB: Final = 64
"""The most by which the memory of the API process may grow."""
ALL_GROWTH_MIB: Final = 512
"""The most by which the memory of all processes together may grow."""
_SAMPLE_SECONDS: Final = 0.25


@dataclass(slots=True)
class Flood:
    """Counts of the answers, and the peaks of memory."""

    statuses: Counter[int] = field(default_factory=Counter)
    checksums: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    api_bytes: int = 0
    all_bytes: int = 0


def attack(
    clients: int = 200,
    seconds: float = 60.0,
    parameters: dict[str, int] | None = None,
    *,
    most_requests: int | None = None,
) -> Findings:
    """Each client sends its next request after the answer to the last, or after its Retry-After.
    `most_requests` ends the flood earlier, for a short test.
    """
    body = BODY | ({"parameters": parameters} if parameters else {})
    findings = Findings(
        "flood",
        f"{clients} clients for {seconds:g} s, runs of {body['items_count']:,} items on numba, "
        "without I/O; a client that is refused comes again after its Retry-After",
    )
    begun = time.monotonic()
    with running_target(findings) as target:
        wanted = target.run_checksum(body)
        before, all_before = target.held(), target.resident_bytes()
        flood = Flood()
        with probing(target.server.port) as probe:
            asyncio.run(_flood(target, body, clients, seconds, flood, most_requests))
        asked = time.perf_counter()
        small = target.server.run("sequential", **(body | {"items_count": 100}))
        afterwards = 1_000 * (time.perf_counter() - asked)
        target.server.client.close()
        note_left(findings, before, target.settle(before))
    findings.seconds = time.monotonic() - begun
    findings.shown(
        "answers by status", ", ".join(f"{s}: {n:,}" for s, n in sorted(flood.statuses.items()))
    )
    findings.at_least("runs that were completed", flood.statuses[200], 1)
    findings.none(f"answers other than {', '.join(map(str, ALLOWED))}, or none", flood.faults)
    wrong = flood.checksums.total() - flood.checksums[wanted]
    findings.exactly("completed runs with a wrong checksum", wrong, 0)
    findings.none("failures of the probe", [probe.error] if probe.error else [])
    if probe.latencies is not None:
        findings.at_most_ms("p99 of /health", probe.latencies.p99, HEALTH_P99_MS)
    growth = flood.api_bytes - before.resident_bytes
    findings.at_most_mib("memory of the API process, growth", growth, API_GROWTH_MIB)
    all_growth = flood.all_bytes - all_before
    findings.at_most_mib("memory of all processes, growth", all_growth, ALL_GROWTH_MIB)
    findings.exactly("status of a small run after the attack", small.status_code, 200)
    findings.at_most_ms("time of a small run after the attack", afterwards, AFTERWARDS_MS)
    return findings


async def _flood(
    target: Target,
    body: dict[str, Any],
    clients: int,
    seconds: float,
    flood: Flood,
    most_requests: int | None,
) -> None:
    enough = asyncio.Event()
    # A connection for each request, as those that are kept may be closed as they are used.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(target.server.url, connector=connector) as session:

        async def client() -> None:
            while True:
                retry_after = await _ask(session, body, flood)
                if most_requests is not None and flood.statuses.total() >= most_requests:
                    enough.set()
                await asyncio.sleep(retry_after)

        tasks = [asyncio.create_task(client()) for _ in range(clients)]
        tasks.append(asyncio.create_task(_sample(target, flood)))
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), seconds)
        # They all leave at once, which cancels what they still wait for.
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                flood.faults.append(f"a client of ours ended: {ended!r}")


async def _ask(session: aiohttp.ClientSession, body: dict[str, Any], flood: Flood) -> float:
    """Send a run; returns the seconds to wait before the next."""
    try:
        async with session.post(PATH, json=body) as answer:
            told = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        flood.faults.append(repr(error))
        return 1.0
    flood.statuses[answer.status] += 1
    if answer.status == 200:
        flood.checksums[told["checksum"]] += 1
    elif answer.status in (429, 503):
        return float(answer.headers["Retry-After"])
    elif answer.status not in ALLOWED:
        flood.faults.append(f"{answer.status} {told}"[:300])
    return 0.0


async def _sample(target: Target, flood: Flood) -> None:
    while True:
        flood.api_bytes = max(flood.api_bytes, target.held().resident_bytes)
        flood.all_bytes = max(flood.all_bytes, target.resident_bytes())
        await asyncio.sleep(_SAMPLE_SECONDS)
