"""Streams of events that are abandoned: nothing of them is left."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Any, Final

from tests.attack.findings import Findings
from tests.attack.target import note_left, running_target
from tests.fixtures.server import Server

WARM_UP: Final = 100
AT_ONCE: Final = 20
GROWTH_MIB: Final = 16
"""The most by which a thousand abandoned streams may grow the memory of the API process."""
LONG: Final[dict[str, Any]] = {
    "items_count": 10, "batch_size": 1, "db_delay_ms": 60_000, "strategy": "sequential"
}  # fmt: skip
"""A task that takes longer than this attack."""
_RESET: Final = struct.pack("ii", 1, 0)


def attack(streams: int = 1_000) -> Findings:
    """Leave streams of a running and of a waiting task after the first event, half of them by a
    reset.
    """
    findings = Findings("streams", f"{streams:,} streams of two tasks, each left in the middle")
    begun = time.monotonic()
    with running_target(findings, run_hosts=1) as target:
        tasks = [target.server.submit(**LONG) for _ in range(2)]
        _abandon(target.server, tasks, WARM_UP)
        target.server.client.close()
        target.server.client = type(target.server.client)(base_url=target.server.url, timeout=60)
        before = target.settle(target.held())
        events = _abandon(target.server, tasks, streams)
        after = target.settle(before)
        for task in tasks:
            answer = target.server.client.delete(f"/api/v1/tasks/{task}")
            assert answer.status_code == 200, answer.text
        assert target.server.client.get("/health").status_code == 200
    findings.seconds = time.monotonic() - begun
    findings.exactly("streams that began with an event", events, streams)
    note_left(findings, before, after)
    growth = after.resident_bytes - before.resident_bytes
    findings.at_most_mib("memory of the API process, growth", growth, GROWTH_MIB)
    return findings


def _abandon(server: Server, tasks: list[str], count: int) -> int:
    """Open and abandon `count` streams; returns how many had an event."""
    began = 0
    opened: list[socket.socket] = []
    for number in range(count):
        opened.append(_open(server.port, tasks[number % len(tasks)]))
        if len(opened) == AT_ONCE or number == count - 1:
            for position, connection in enumerate(opened):
                began += _left_after_an_event(connection, by_reset=position % 2 == 0)
            opened.clear()
    return began


def _open(port: int, task: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    path = f"/api/v1/tasks/events/{task}"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def _left_after_an_event(connection: socket.socket, *, by_reset: bool) -> bool:
    got = b""
    with connection, suppress(OSError):
        while b"\ndata: " not in got and (piece := connection.recv(65_536)):
            got += piece
        if by_reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return got.startswith(b"HTTP/1.1 200 ") and b"\ndata: " in got
