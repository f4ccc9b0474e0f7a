"""A description of the machine that the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from hotloop.app.system import usable_cpu_count

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "numba", "cython", "fastapi", "uvicorn", "pydantic")


def machine_lines() -> list[str]:
    """Markdown list items: processor, system, versions, commit, load."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"- processor: {_processor()}, {os.cpu_count()} seen, {usable_cpu_count()} usable",
        f"- system: {platform.system()} {platform.release()}, {platform.machine()}, "
        f"{platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        f"- Python {platform.python_version()}; {versions}",
        f"- commit {_commit()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        load_line("before"),
    ]


def load_line(when: str) -> str:
    """Markdown list item: how busy the machine was with this and with all else."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"- load {when}: {load}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
