"""Connections that send half a request, a body byte by byte, or nothing more: they are cut off."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.attack.findings import Findings
from tests.attack.probe import probing
from tests.attack.target import note_left, running_target
from tests.fixtures.server import Server

KINDS: Final = ("half a head", "trickled body", "idle keep-alive")
HEAD: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
BODY: Final = (
    b"POST /api/v1/tasks/sequential HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
)
LIMIT_SECONDS: Final = 10
"""The time that the service allows for headers and bodies; idle connections have 5 s anyway. All
connections are open by then.
"""
OPENED_PER_SECOND: Final = 200
"""The connections should be open at the same time; `flood` tests bursts."""
PATIENCE_SECONDS: Final = 60.0
"""A connection that is still open after this time was not cut off."""
TRICKLE_SECONDS: Final = 0.5
P99_MS: Final = 50.0


@dataclass(slots=True)
class Cut:
    """Counts of the ends of connections."""

    ended: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def attack(connections: int = 1_000, limit_seconds: int = LIMIT_SECONDS) -> Findings:
    """Open connections of three kinds at once while another client is measured."""
    how = f"{connections:,} connections, the service gives them {limit_seconds} s"
    findings = Findings("slow", how)
    begun = time.monotonic()
    with running_target(
        findings, run_hosts=1, header_seconds=limit_seconds, body_seconds=limit_seconds
    ) as target:
        before = target.held()
        with probing(target.server.port) as probe:
            cut = asyncio.run(_all(target.server, connections))
        assert target.server.client.get("/health").status_code == 200
        target.server.client.close()
        note_left(findings, before, target.settle(before))
    findings.seconds = time.monotonic() - begun
    for kind in KINDS:
        wanted = len(range(KINDS.index(kind), connections, len(KINDS)))
        findings.exactly(f"connections cut off, {kind}", cut.ended[kind], wanted)
    findings.none("connections that were not cut off in the required way", cut.faults)
    findings.none("failures of the other client", [probe.error] if probe.error else [])
    if probe.latencies is not None:
        findings.at_most_ms("p99 of the other client", probe.latencies.p99, P99_MS)
    return findings


async def _all(server: Server, connections: int) -> Cut:
    cut = Cut()
    kinds = [KINDS[number % len(KINDS)] for number in range(connections)]
    await asyncio.gather(
        *(
            _one(server.port, kind, cut, number / OPENED_PER_SECOND)
            for number, kind in enumerate(kinds)
        )
    )
    return cut


async def _one(port: int, kind: str, cut: Cut, delay_seconds: float) -> None:
    await asyncio.sleep(delay_seconds)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                answer = await _dawdle(reader, writer, kind)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        cut.faults.append(f"{kind}: {error!r}")
        return
    wanted = b"HTTP/1.1 200 " if kind == "idle keep-alive" else b"HTTP/1.1 408 "
    if answer.startswith(wanted):
        cut.ended[kind] += 1
    else:
        cut.faults.append(f"{kind}: {answer[:100]!r}")


async def _dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> bytes:
    """Send slowly; returns everything that the service sends until it closes the connection."""
    writer.write(BODY if kind == "trickled body" else HEAD)
    if kind == "idle keep-alive":
        writer.write(b"\r\n")
    rest = asyncio.ensure_future(_rest(reader))
    while kind != "idle keep-alive":
        done, _ = await asyncio.wait({rest}, timeout=TRICKLE_SECONDS)
        if done:
            break
        writer.write(b" " if kind == "trickled body" else b"X: y\r\n")
    return await rest


async def _rest(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    try:
        while piece := await reader.read(65_536):
            pieces.append(piece)
    except ConnectionError:
        pass  # closed while something of ours was on its way
    return b"".join(pieces)
