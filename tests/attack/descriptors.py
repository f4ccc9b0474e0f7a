"""The service out of descriptors: it answers again as soon as there are some."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import suppress
from typing import Any, Final

import httpx

from tests.attack.findings import Findings
from tests.attack.target import Target, note_left, running_target
from tests.fixtures.waiting import wait_until

SPARE: Final = 40
"""Descriptors of the service beyond those that it holds when idle."""
RUN: Final = {"items_count": 100, "db": "none", "cache": "none", "kernel": "numba"}
HEADER_SECONDS: Final = 2
RECOVERY_SECONDS: Final = 60.0


def attack(rounds: int = 5) -> Findings:
    """Connections take all descriptors, again and again; then their client closes them, or the
    service must.
    """
    findings = Findings("descriptors", f"{rounds} times all of {SPARE} descriptors taken")
    begun = time.monotonic()
    answers: list[str] = []
    with running_target(findings, run_hosts=1, header_seconds=HEADER_SECONDS) as target:
        wanted = target.run_checksum(dict(RUN))
        _ask(target)
        before = target.held()
        limit = before.descriptors + SPARE
        resource.prlimit(target.server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        starved = recovered = 0
        for number in range(rounds):
            taken = _take_all(target, limit)
            starved += _descriptors(target) >= limit
            answers += _faults_meanwhile(target)
            if number % 2:
                for connection in taken:
                    connection.close()
            with suppress(AssertionError):
                wait_until(lambda: _ask(target), "it answers again", RECOVERY_SECONDS, 0.1)
                recovered += 1
            for connection in taken:
                connection.close()
            if target.run_checksum(dict(RUN)) != wanted:
                answers.append("another checksum after that")
        target.server.client.close()
        note_left(findings, before, target.settle(before))
    findings.seconds = time.monotonic() - begun
    findings.exactly("times that the service had no descriptor left", starved, rounds)
    findings.exactly("times that it answered again after that", recovered, rounds)
    findings.none("answers other than 200, 503 or a closed connection", answers)
    return findings


def _descriptors(target: Target) -> int:
    return int(target.api.num_fds())


def _take_all(target: Target, limit: int) -> list[socket.socket]:
    taken: list[socket.socket] = []
    for _ in range(2 * SPARE):
        with suppress(OSError):
            taken.append(socket.create_connection(("127.0.0.1", target.server.port), timeout=5))
        if _descriptors(target) >= limit:
            break
    with suppress(AssertionError):
        wait_until(lambda: _descriptors(target) >= limit, "all are taken", 1.0)
    return taken


def _ask(target: Target) -> bool:
    """True if /health answers on a new connection."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{target.server.url}/health", timeout=5).status_code == 200
    return False


def _faults_meanwhile(target: Target) -> list[str]:
    """A connection that was there before asks for what needs files."""
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/v1/tasks/results", {}),
        ("POST", "/api/v1/tasks/sequential", {"json": RUN}),
        ("POST", "/api/v1/tasks/background", {"json": RUN}),
        ("GET", "/dashboard", {}),
    ]
    faults = []
    for method, path, more in asked:
        with suppress(httpx.TransportError):
            answer = target.server.client.request(method, path, **more)
            if answer.status_code not in (200, 202, 503):
                faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return faults
