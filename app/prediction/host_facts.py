"""The machine that figures come from: what does not change, and how busy it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from hotloop.app.prediction.memory import usable_bytes
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.system import Throttling, has_gil, memory_limit, throttling, usable_cpu_count
from hotloop.app.version import VERSION

PACKAGES: Final = ("numpy", "numba", "fastapi", "uvicorn", "pydantic")


def host_facts(reports: Sequence[KernelReport], workload: str | None) -> dict[str, Any]:
    """As JSON, with the kernels of a workload or of all; blocks for the time of reading a few
    files.
    """
    return {
        "python": platform.python_version(),
        "gil": "on" if has_gil() else "off",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": usable_cpu_count(),
        "memory_bytes": usable_bytes(),
        "load_before": load(),
        "load_after": None,
        "throttled_seconds": None,
        "instruction_sets": {
            r.kernel: r.instruction_set
            for r in reports
            if r.available and workload in (None, r.workload)
        },
        "versions": {"hotloop": VERSION} | {name: _version(name) for name in PACKAGES},
    }


def load() -> float | None:
    """Load average of the last minute."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def throttled_since(before: Throttling | None) -> float | None:
    now = throttling()
    return None if now is None else now.seconds_since(before)


def available_bytes() -> int:
    """That this process may still take."""
    limit = memory_limit()
    free = int(psutil.virtual_memory().available)
    return free if limit is None else min(free, limit.free_bytes)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name; `root` is where the file system starts."""
    try:
        for line in (root / "proc" / "cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"
