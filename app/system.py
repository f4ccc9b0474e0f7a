"""What this process may use of the machine: CPUs, container limits included.

Limits of control groups are read as Linux shows them, version 1 or 2, nested or not; elsewhere
there are none. Files that are missing, empty or malformed set no limit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path, PurePosixPath

DEFAULT_CPU_PERIOD_US = 100_000
"""The kernel's own default, for a `cpu.max` that names only the quota."""


def usable_cpu_count(root: Path = Path("/")) -> int:
    """CPUs that this process may keep busy: affinity and CPU quota, a fraction rounded up.

    `root` is where the file system starts. At least 1.
    """
    quotas = [
        quota
        for folder in _cgroup_folders(root, "cpu")
        for quota in (_cpu_quota_v2(folder), _cpu_quota_v1(folder))
        if quota is not None
    ]
    return max(1, min([_affinity(), *map(ceil, quotas)]))


def _affinity() -> int:
    # Not every platform and Python has each of these three.
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    if affinity is not None:
        return len(affinity(0))
    process_count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    return process_count() or 1


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups that may limit `controller`, from the leaf upwards.

    A limit of any of them holds. Inside a container the path in `/proc` may be the host's, of
    which only the top is visible; folders that do not exist are given all the same.
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


def _positive_number(path: Path) -> int | None:
    try:
        number = int(_text(path))
    except ValueError:
        return None
    return number if number > 0 else None


def _text(path: Path) -> str:
    """The file's text, empty when it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
