"""SIGKILL for run hosts and pool workers, now and then."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from typing import Final

import psutil

from tests.fixtures import processes
from tests.fixtures.processes import tree
from tests.fixtures.server import Server

PER_MINUTE: Final = 2.0
"""Of each sort; one at least."""
PATIENCE_SECONDS: Final = 20.0
"""For somebody who may die."""


class Victim(StrEnum):
    """Who dies."""

    HOST = "run host"
    WORKER = "pool worker"


def run_hosts(server: Server) -> list[psutil.Process]:
    """The oldest first. It is never killed, so that what a run host holds can be watched."""
    below = [p for p in tree(server.process.pid) if "hotloop.app.runhost" in _words(p)]
    return sorted(below, key=lambda process: process.create_time())


def pool_workers(server: Server) -> list[psutil.Process]:
    return processes.pool_workers(server.process.pid)


class Deaths:
    """At moments chosen by the seed, between a tenth and nine tenths of the time."""

    def __init__(self, server: Server, seed: int, seconds: float) -> None:
        self.killed: Counter[Victim] = Counter()
        self._server = server
        self._chance = random.Random(f"{seed} deaths")
        count = max(1, round(PER_MINUTE * seconds / 60))
        self._plan = sorted(
            (seconds * self._chance.uniform(0.1, 0.9), victim)
            for victim in Victim
            for _ in range(count)
        )

    async def strike_all(self) -> None:
        begun = time.monotonic()
        for due, victim in self._plan:
            await asyncio.sleep(max(0.0, begun + due - time.monotonic()))
            await self._strike(victim)

    async def _strike(self, victim: Victim) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with suppress(psutil.Error):
                # Whoever is below one that dies must be known before.
                below = await asyncio.to_thread(self._server.look_below)
                hosts = await asyncio.to_thread(run_hosts, self._server)
                workers = await asyncio.to_thread(pool_workers, self._server)
                those = hosts[1:] if victim is Victim.HOST else workers
                if those and below:
                    self._chance.choice(those).kill()
                    self.killed[victim] += 1
                    return
            await asyncio.sleep(0.1)


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        words: list[str] = process.cmdline()
        return words
    return []
