"""The CPUs and the memory that this process may use, and requests that it makes to the system.

Limits of control groups (containers) are read as Linux shows them, version 1 or 2, nested or not;
other systems have none. Files that are missing, empty or malformed set no limit.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Final

DEFAULT_CPU_PERIOD_US = 100_000
"""The kernel's default, for a `cpu.max` that contains only the quota."""

_NO_LIMIT_BYTES = 1 << 60
"""Least value that means no limit: version 1 then writes about 2**63."""


INNER_THREAD_VARIABLES: Final = (
    "BLIS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""Environment variables that set how many threads a library starts."""


def thread_count() -> int | None:
    """Return the number of threads of this process; None if the system does not tell."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return None


_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 16 << 20


def bound_freed_memory() -> None:
    """Make the C library keep at most 16 MiB of freed memory for the next batch, and return the
    rest to the system. If it kept more, a later run would seem to need the memory of an earlier
    one; if it kept less, each batch would ask the system for its memory again, which takes up to
    15 % of it. Does nothing if the C library has no such option.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim_memory() -> None:
    """Return all freed memory of this process to the system, if the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_data_limit: int | None = None
"""The limit of this process's memory before `bound_memory` set one."""


def bound_memory(more_bytes: int | None) -> None:
    """Let this process take at most so many more bytes of memory of its own; None lifts the bound.
    An allocation over it fails. Does nothing on systems other than Linux, which do not count it.
    """
    global _data_limit
    held = _statistics(Path("/proc/self/status"), ":").get("VmData")
    if held is None:
        return
    limit, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if _data_limit is None:
        _data_limit = limit
    limit = _data_limit
    if more_bytes is not None:
        limits = [(held << 10) + more_bytes, limit, hard]
        limit = min(each for each in limits if each != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def end_with_starter() -> None:
    """Make the system kill this process as soon as the thread that started it has ended, even while
    a call into compiled code keeps the GIL. Does nothing on systems other than Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Make the system give this process the children of processes below it that end. Does nothing
    on systems other than Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(
    lifelines: Sequence[int] = (), end: Callable[[], None] = lambda: os._exit(1)
) -> None:
    """End this process, which multiprocessing has started, as soon as its parent is gone, or one of
    these descriptors becomes readable. A thread waits for this, and calls `end`.
    """
    from multiprocessing import connection, parent_process

    if (parent := parent_process()) is None:
        return
    awaited = [parent.sentinel, *lifelines]

    def watch() -> None:
        connection.wait(awaited)
        end()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def cpu_model(root: Path = Path("/")) -> str:
    """Return the processor's name; `root` is the root of the file system."""
    for line in _text(root / "proc" / "cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def has_gil() -> bool:
    """Return True if this interpreter has a GIL, so that its threads take turns."""
    enabled: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return enabled


def usable_cpu_count(root: Path = Path("/")) -> int:
    """Return the number of CPUs that this process may keep busy, by affinity and CPU quota, rounded
    up and at least 1. `root` is the root of the file system.
    """
    quotas = [
        quota
        for folder in _cgroup_folders(root, "cpu")
        for quota in (_cpu_quota_v2(folder), _cpu_quota_v1(folder))
        if quota is not None
    ]
    return max(1, min([_affinity(), *map(ceil, quotas)]))


@dataclass(frozen=True, slots=True)
class Throttling:
    """Number of periods in which a CPU quota stopped this process, and their seconds."""

    periods: int
    seconds: float

    def seconds_since(self, before: Throttling | None) -> float:
        return max(0.0, self.seconds - (before.seconds if before else 0.0))

    def periods_since(self, before: Throttling | None) -> int:
        return max(0, self.periods - (before.periods if before else 0))


def throttling(root: Path = Path("/")) -> Throttling | None:
    """Return the throttling of the control group that was stopped the longest, because each quota
    applies; None if no group counts it. `root` is the root of the file system.
    """
    found = [
        counted
        for folder in _cgroup_folders(root, "cpu")
        if (counted := _throttling_of(folder)) is not None
    ]
    return max(found, key=lambda counted: counted.seconds, default=None)


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Memory that control groups allow all their processes together, this one among them."""

    bytes: int
    free_bytes: int
    """Free bytes of the group with the fewest; file caches count as free."""


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return the memory limit of the control groups; None without one. `root` is the root of the
    file system.
    """
    limits = [
        limit
        for folder in _cgroup_folders(root, "memory")
        for limit in (
            _memory_limit(folder, "memory.max", "memory.current", "inactive_file"),
            _memory_limit(
                folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            ),
        )
        if limit is not None
    ]
    if not limits:
        return None
    return MemoryLimit(min(x.bytes for x in limits), min(x.free_bytes for x in limits))


def _memory_limit(folder: Path, most: str, used: str, cached: str) -> MemoryLimit | None:
    limit, usage = _positive_number(folder / most), _positive_number(folder / used)
    if limit is None or usage is None or limit >= _NO_LIMIT_BYTES:
        return None
    cache = _statistics(folder / "memory.stat").get(cached, 0)
    return MemoryLimit(limit, max(0, limit - usage + cache))


def _throttling_of(folder: Path) -> Throttling | None:
    numbers = _statistics(folder / "cpu.stat")
    if "nr_throttled" not in numbers:
        return None
    # Version 2 counts microseconds, version 1 nanoseconds.
    seconds = numbers.get("throttled_usec", 0) / 1e6 + numbers.get("throttled_time", 0) / 1e9
    return Throttling(numbers["nr_throttled"], seconds)


def _affinity() -> int:
    # Not every platform and Python has each of these three.
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    if affinity is not None:
        return len(affinity(0))
    process_count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return process_count() or 1


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Return the folders of this process's groups that may limit `controller`, leaf first.

    Each of their limits applies. Inside a container the path in `/proc` may be the host's, and only
    its top is visible; folders that do not exist are returned, too.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            tops = [mounts, mounts / "unified"]
        elif controller in controllers.split(","):
            tops = [mounts / controllers, mounts / controller]
        else:
            continue
        # `..` is shown for a group outside the visible tree.
        names = [name for name in PurePosixPath(path).parts if name not in ("/", "..")]
        for top in tops:
            for depth in range(len(names), -1, -1):
                yield top.joinpath(*names[:depth])


def _cpu_quota_v2(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    try:
        quota = int(words[0])
        period = int(words[1]) if len(words) > 1 else DEFAULT_CPU_PERIOD_US
    except (IndexError, ValueError):  # "max" among them
        return None
    return quota / period if quota > 0 and period > 0 else None


def _cpu_quota_v1(folder: Path) -> float | None:
    quota = _positive_number(folder / "cpu.cfs_quota_us")
    period = _positive_number(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None else quota / period


def _statistics(path: Path, mark: str = " ") -> dict[str, int]:
    """Return the numbers in a file that has a name, a mark and a number on each line."""
    numbers: dict[str, int] = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(mark)
        number = value.strip().removesuffix(" kB")
        if number.isdecimal():
            numbers[name] = int(number)
    return numbers


def _positive_number(path: Path) -> int | None:
    try:
        number = int(_text(path))
    except ValueError:
        return None
    return number if number > 0 else None


def _text(path: Path) -> str:
    """Return the file's text, empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
