"""What the service holds, read from outside, over and over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tests.fixtures.server import Server
from tests.soak.deaths import run_hosts

INTERVAL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """At one moment. `host_pid` is that of the run host that is never killed."""

    at_seconds: float
    api_bytes: float
    api_descriptors: float
    api_threads: float
    host_pid: int
    host_bytes: float
    host_descriptors: float
    host_threads: float
    processes: float
    """The API and everything below it."""
    all_bytes: float
    files: float
    """In the data folder and the folder for temporary files."""
    store_bytes: float


class Readings:
    """Read in a thread, twice a second."""

    def __init__(self, server: Server, folders: list[Path]) -> None:
        self.all: list[Reading] = []
        self._server = server
        self._folders = folders
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read_on(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            # A process may end while it is looked at: then the next reading tells.
            with suppress(psutil.Error):
                self.all.append(self._read())

    def _read(self) -> Reading:
        self._server.look_below()
        api = psutil.Process(self._server.process.pid)
        host = next(iter(run_hosts(self._server)), None)
        if host is None:
            raise psutil.NoSuchProcess(0)
        below = api.children(recursive=True)
        paths = [path for folder in self._folders for path in folder.rglob("*") if path.is_file()]
        return Reading(
            at_seconds=time.monotonic() - self._begun,
            api_bytes=api.memory_info().rss,
            api_descriptors=api.num_fds(),
            api_threads=api.num_threads(),
            host_pid=host.pid,
            host_bytes=host.memory_info().rss,
            host_descriptors=host.num_fds(),
            host_threads=host.num_threads(),
            processes=1 + len(below),
            all_bytes=api.memory_info().rss + sum(map(_bytes, below)),
            files=len(paths),
            store_bytes=sum(map(_size, paths)),
        )


@contextmanager
def reading(server: Server, folders: list[Path]) -> Iterator[Readings]:
    """From the start of the block to its end."""
    readings = Readings(server, folders)
    readings.start()
    try:
        yield readings
    finally:
        readings.stop()


def _bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
