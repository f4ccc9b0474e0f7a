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

from tests.fixtures.processes import pool_workers
from tests.fixtures.server import Server

PER_MINUTE: Final = 2.0
"""Deaths of each kind; at least one."""
PATIENCE_SECONDS: Final = 20.0
"""Time to look for a process that may be killed."""


class Victim(StrEnum):
    """The kind of process to kill."""

    HOST = "run host"
    WORKER = "pool worker"


def run_hosts(server: Server) -> list[psutil.Process]:
    """The run hosts, the oldest first. It is never killed, so that its growth can be watched."""
    return sorted(server.run_hosts(), key=lambda process: process.create_time())


class Deaths:
    """Kills at moments that the seed chooses, from 10 % to 90 % of the time."""

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
                # Remember the processes below before their parent dies.
                below = await asyncio.to_thread(self._server.look_below)
                hosts = await asyncio.to_thread(run_hosts, self._server)
                workers = await asyncio.to_thread(pool_workers, self._server.process.pid)
                those = hosts[1:] if victim is Victim.HOST else workers
                if those and below:
                    self._chance.choice(those).kill()
                    self.killed[victim] += 1
                    return
            await asyncio.sleep(0.1)
