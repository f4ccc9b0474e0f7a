"""The folder in which processes that answer on one port add up their metrics.

prometheus-client maps the numbers of each process to a file there. The counts of a process that has
ended stay; its gauges are removed. The folder exists as long as the supervisor holds a lock in it.
The system frees the lock when the supervisor ends in any way, so a folder that was left behind can
be told by its free lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client reads this variable when it is imported, so it is set before a process starts.
"""

_LOCK: Final = "lock"


def shared_folder() -> str | None:
    """The folder that this process shares with others; None if it answers alone."""
    return os.environ.get(VARIABLE) or None


@contextmanager
def metrics_folder(data_dir: Path) -> Iterator[Path]:
    """Make a folder for the processes that are started in the context. Remove it afterwards, and
    remove folders that were left behind now.
    """
    above = data_dir / "metrics"
    above.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="of-", dir=above))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(above, folder)
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(folder)
        try:
            yield folder
        finally:
            del os.environ[VARIABLE]
            if before is not None:
                os.environ[VARIABLE] = before
            shutil.rmtree(folder, ignore_errors=True)


def forget_process(folder: Path, pid: int) -> None:
    """Remove the gauges of a process that has ended; its counts stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _sweep(above: Path, own: Path) -> None:
    for folder in above.glob("of-*"):
        if folder != own and not _is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # It is just being made or removed; the next start checks it again.
        return True
    return False
