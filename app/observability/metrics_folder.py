"""The folder in which processes that answer on one port add up what they count.

prometheus-client maps the numbers of each process to a file there. What a process that is gone
has counted stays; how it stood (its gauges) is removed. The folder lives as long as the supervisor:
a lock in it, which the system frees however that ends, tells it from one that was left behind.
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
"""Read by prometheus-client when it is imported: set for processes that are yet to start."""

_LOCK: Final = "lock"


def shared_folder() -> str | None:
    """Where this process counts together with others; None when it is alone."""
    return os.environ.get(VARIABLE) or None


@contextmanager
def metrics_folder(data_dir: Path) -> Iterator[Path]:
    """A folder for the processes started within, which goes with what is left of dead ones."""
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
    """It is gone: its gauges with it, its counts not."""
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
        # Just being made, or removed: it is looked at the next time.
        return True
    return False
