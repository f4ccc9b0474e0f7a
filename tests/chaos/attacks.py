"""The failures that a round causes in the cluster, and the recovery from them."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from tests.chaos.clock import STEPS
from tests.chaos.cluster import PATIENCE_SECONDS, Cluster, Member
from tests.chaos.databases import can_be_written, hanging
from tests.chaos.kinds import Event, Kind
from tests.fixtures.processes import is_gone
from tests.fixtures.waiting import wait_until

STARTS_SECONDS: Final = 60.0
"""The longest that no run host comes up."""
HANG_SECONDS: Final = 30.0
"""The longest that the database answers nothing."""
_LEAST_SECONDS: Final = 5.0

GONE_SECONDS: Final = 5.0
"""Processes below a killed one must end within this time."""

_LOOK_SECONDS: Final = 0.1
"""The interval between two looks for new run hosts, which take longer than that to start."""

LASTING: Final = (Kind.STARTS_KILLED, Kind.STARTS_FAIL, Kind.HANG)
"""`strike` returns only after these failures end."""
RETURNING: Final = (Kind.FREEZE, Kind.CUT)
ADOPTED: Final = (Kind.API, Kind.NODE, *RETURNING)
"""Other members take over the work of the victim."""


class Attack:
    """An event: `strike` a victim that `fits`, then `recover`."""

    def __init__(self, cluster: Cluster, event: Event, chance: random.Random) -> None:
        self.kills = 0
        self._cluster = cluster
        self._kind = event.kind
        self._severity = event.severity
        self._random = chance
        self._doomed: set[psutil.Process] = set()
        """Killed processes, and those below them."""

    def prepare(self) -> None:
        """Start members that the event needs, before the first task is submitted."""
        if self._kind is Kind.WEAK:
            self._cluster.wait_up([self._cluster.start("weak")])

    def fits(self, member: Member) -> bool:
        """True if the member is a possible victim."""
        if self._kind is Kind.API:
            return member is self._cluster.api
        if self._kind in (Kind.NODE, *RETURNING):
            return member is self._cluster.node
        return self._kind is not Kind.WORKER or bool(member.workers())

    def strike(self, victim: Member) -> None:
        """Cause the failure; returns at once unless it lasts for a while."""
        seconds = _LEAST_SECONDS + self._severity * (STARTS_SECONDS - _LEAST_SECONDS)
        if self._kind is Kind.DATABASE:
            assert self._cluster.database is not None
            self._cluster.database.crash()
            self.kills += 1
        elif self._kind is Kind.FREEZE:
            self._freeze(victim)
        elif self._kind is Kind.CUT:
            assert self._cluster.database is not None
            self._cluster.database.link.cut()
        elif self._kind is Kind.HOST:
            self._kill_one(victim.run_hosts())
        elif self._kind is Kind.WORKER:
            self._kill_one(victim.workers())
        elif self._kind is Kind.STARTS_KILLED:
            self._kill_hosts_for(seconds)
        elif self._kind is Kind.STARTS_FAIL:
            self._cluster.interpreter.take_away()
            try:
                self._kill_hosts_for(seconds)
            finally:
                self._cluster.interpreter.put_back()
        elif self._kind is Kind.HANG:
            self._hang(victim)
        elif self._kind is Kind.CLOCK:
            self._cluster.clock.step(STEPS[round(self._severity * len(STEPS)) - 1])
            self._kill_member_or_host(victim)
        elif self._kind in (Kind.SHARDS, Kind.WEAK):
            self._kill_member_or_host(victim)
        else:
            self._kill_member(victim)

    def _freeze(self, victim: Member) -> None:
        """Freeze the victim outside of a write: otherwise it would lock the SQLite file for all
        members.
        """
        while True:
            victim.process.send_signal(signal.SIGSTOP)
            if self._cluster.database is not None:
                return
            if can_be_written(self._cluster.data_folder("api")):
                return
            victim.process.send_signal(signal.SIGCONT)

    def recover(self, victim: Member) -> None:
        """Start everything that is down. Raises AssertionError if something does not come back."""
        cluster = self._cluster
        if self._kind is Kind.FREEZE:
            victim.process.send_signal(signal.SIGCONT)
            cluster.wait_listed(victim)
        elif self._kind is Kind.CUT:
            assert cluster.database is not None
            cluster.database.link.mend()
            cluster.wait_listed(victim)
        elif self._kind is Kind.DATABASE:
            assert cluster.database is not None
            cluster.database.restart()
        elif self._kind in (Kind.STARTS_KILLED, Kind.STARTS_FAIL):
            for member in cluster.members:  # it may pause before it tries again
                wait_until(member.run_hosts, f"{member.name} starts a run host", PATIENCE_SECONDS)
        cluster.wait_up(cluster.revive())

    def left_over(self) -> int:
        """Count processes that outlive a killed parent by more than some seconds."""
        with suppress(AssertionError):
            wait_until(lambda: all(map(is_gone, self._doomed)), "all are gone", GONE_SECONDS)
        left = [process for process in self._doomed if not is_gone(process)]
        for process in left:
            print(f"    left over: {process}", flush=True)
        return len(left)

    def tidy(self) -> None:
        """Dismiss extra members once all tasks have ended."""
        if self._kind is Kind.WEAK:
            self._cluster.dismiss("weak")

    def _hang(self, victim: Member) -> None:
        seconds = _LEAST_SECONDS + self._severity * (HANG_SECONDS - _LEAST_SECONDS)
        cluster = self._cluster
        with hanging(cluster.database, cluster.data_folder("api")):
            time.sleep(seconds / 2)
            self._kill_member_or_host(victim)
            time.sleep(seconds / 2)

    def _kill_hosts_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for member in self._cluster.members:
                for host in member.run_hosts():
                    self._kill(host)
            time.sleep(_LOOK_SECONDS)

    def _kill_member_or_host(self, victim: Member) -> None:
        if self._random.random() < 0.5:
            self._kill_one(victim.run_hosts())
        else:
            self._kill_member(victim)

    def _kill_one(self, processes: list[psutil.Process]) -> None:
        if processes:
            self._kill(self._random.choice(processes))

    def _kill(self, process: psutil.Process) -> None:
        with suppress(psutil.Error):
            self._doomed |= {process, *process.children(recursive=True)}
            process.kill()
            self.kills += 1

    def _kill_member(self, victim: Member) -> None:
        self._doomed.update(victim.below())
        victim.process.kill()
        self.kills += 1


def supervise(cluster: Cluster, until: Callable[[], bool], most_deaths: int, bound: float) -> int:
    """Restart dead members until the condition holds; returns the number of deaths. Gives up after
    more than `most_deaths`, or `bound` seconds.
    """
    deaths, deadline = 0, time.monotonic() + bound
    while not until() and deaths <= most_deaths and time.monotonic() < deadline:
        deaths += len(cluster.revive())
        time.sleep(_LOOK_SECONDS)
    return deaths
