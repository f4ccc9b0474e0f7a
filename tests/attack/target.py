"""The service under attack, and checks that it leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import psutil

from tests.attack.findings import Findings
from tests.fixtures.processes import is_gone
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

SETTLE_SECONDS: Final = 20.0
POOL_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""The size that asyncio's thread pool may reach."""
POOL_DESCRIPTORS: Final = 8
"""The connections that the pool of the store may keep; every attack has far more clients."""


@dataclass(frozen=True, slots=True)
class Held:
    """Resources of the API process."""

    descriptors: int
    threads: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """`work` is the folder of temporary files of the service alone."""

    server: Server
    work: Path

    @property
    def api(self) -> psutil.Process:
        return psutil.Process(self.server.process.pid)

    def held(self) -> Held:
        process = self.api
        return Held(process.num_fds(), process.num_threads(), process.memory_info().rss)

    def resident_bytes(self) -> int:
        """The memory of all its processes."""
        total = 0
        for process in (self.api, *self.server.look_below()):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def settle(self, before: Held) -> Held:
        """Wait until descriptors and threads are back near `before`; returns what is held then."""

        def is_back() -> bool:
            now = self.held()
            few = now.descriptors <= before.descriptors + POOL_DESCRIPTORS
            return few and now.threads <= before.threads + POOL_THREADS

        with suppress(AssertionError):  # the figures tell
            wait_until(is_back, "descriptors and threads are given back", SETTLE_SECONDS, 0.05)
        return self.held()

    def run_checksum(self, body: dict[str, object]) -> str:
        """The checksum of an undisturbed run."""
        answer = self.server.run("sequential", **body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["checksum"])


def note_left(findings: Findings, before: Held, after: Held) -> None:
    """Require descriptors and threads of the API process to be as before, except for its pools."""
    most = before.descriptors + POOL_DESCRIPTORS
    findings.at_most("open descriptors after the attack", after.descriptors, most)
    findings.at_most("threads after the attack", after.threads, before.threads + POOL_THREADS)


@contextmanager
def running_target(
    findings: Findings, *, counts_own: bool = True, **settings: object
) -> Iterator[Target]:
    """Run the service, and note what it leaves: files, processes, tracebacks in its log, and
    (`counts_own`) descriptors of this process.
    """
    own = psutil.Process()
    descriptors = own.num_fds()
    with tempfile.TemporaryDirectory(prefix="hotloop-attack-") as folder:
        data, work = Path(folder, "data"), Path(folder, "work")
        data.mkdir()
        work.mkdir()
        with patch.dict(os.environ, {"TMPDIR": str(work)}), running_server(data, **settings) as s:
            s.wait_ready()
            yield Target(s, work)
            code = s.stop()
            logged = "".join(s.log)
        findings.exactly("exit status of the service", code, 0)
        findings.none("processes left", [str(p) for p in s.below if not is_gone(p)])
        findings.none("temporary files left", sorted(map(str, work.rglob("*"))))
        uploads = data / "uploads"
        findings.none("uploads left", sorted(map(str, uploads.glob("*"))))
        findings.none("tracebacks in the log", _tracebacks(logged))
    if counts_own:
        findings.at_most("descriptors of the attacker left", own.num_fds() - descriptors, 0)


def _tracebacks(log: str) -> list[str]:
    return [f"{piece[:3_000]}" for piece in log.split("Traceback (most recent call last)")[1:]]
