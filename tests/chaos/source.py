"""A source that logs which batches are computed; importable in every worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from hotloop.app.sources.base import ItemBatch, Positions

LOG_VARIABLE: Final = "CHAOS_LOG"
WAIT_VARIABLE: Final = "CHAOS_WAIT_SECONDS"
SOURCES: Final = json.dumps(
    {
        "counted": "tests.chaos.source:make",
        "takes-host": "tests.chaos.source:make_deadly",
        "takes-node": "tests.chaos.source:make_taking_node",
    }
)
"""HOTLOOP_SOURCES of the cluster."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch that began to be computed: its first item's id, and when, on the monotonic clock."""

    first_id: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class CountingStage:
    """Log every batch, then wait a little."""

    name: str
    log: str
    wait_seconds: float
    source: str = "counted"
    batched: bool = True

    @property
    def seconds_per_call(self) -> float:
        return self.wait_seconds

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        self._note(batch, positions)
        stop.wait(self.wait_seconds)

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        self._note(batch, positions)
        await asyncio.sleep(self.wait_seconds)

    def _note(self, batch: ItemBatch, positions: Positions) -> None:
        if 0 not in positions:
            return
        # One short write to a file opened for appending is never torn, nor mixed with another's.
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, b"%d %d\n" % (int(batch.item_ids[0]), time.monotonic_ns()))
        finally:
            os.close(descriptor)


def make(*, name: str, **_: Any) -> CountingStage:
    """Make the source for HOTLOOP_SOURCES; environment variables name the log and the delay."""
    return CountingStage(name, os.environ[LOG_VARIABLE], float(os.environ[WAIT_VARIABLE]))


@dataclass(frozen=True, slots=True)
class DeadlyStage(CountingStage):
    """Kills its own process with every batch except the first, while the file `armed` exists."""

    armed: str = ""

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        if batch.item_ids[0] and Path(self.armed).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        self._note(batch, positions)


def make_deadly(*, name: str, **_: Any) -> DeadlyStage:
    """Make a deadly stage that is armed as long as `<log>.armed` exists."""
    log = os.environ[LOG_VARIABLE]
    return DeadlyStage(name, log, 0.0, armed=f"{log}.armed")


@dataclass(frozen=True, slots=True)
class TakingNodeStage(CountingStage):
    """Kills the API process or node that it works for with every batch, while `armed` exists."""

    armed: str = ""

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        if Path(self.armed).exists():
            for process in psutil.Process().parents():
                if _is_main(process):
                    process.kill()
            time.sleep(60)  # what is below the killed process ends very soon
        self._note(batch, positions)


def make_taking_node(*, name: str, **_: Any) -> TakingNodeStage:
    """Make a stage that kills its API process or node while `<log>.armed` exists."""
    log = os.environ[LOG_VARIABLE]
    return TakingNodeStage(name, log, 0.0, armed=f"{log}.armed")


def _is_main(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(Path(word).name == "main.py" for word in process.cmdline())
    return False


def computed(log: Path) -> Iterator[Computed]:
    """The logged batches in order."""
    if log.exists():
        for line in log.read_text("ascii").splitlines():
            first_id, at_ns = line.split()
            yield Computed(int(first_id), int(at_ns))
