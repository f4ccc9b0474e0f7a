"""The folder in which processes add up, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotloop.app.observability.metrics_folder import (
    VARIABLE,
    forget_process,
    metrics_folder,
    shared_folder,
)

COUNT = """
import os
from prometheus_client import CollectorRegistry, Counter, Gauge
registry = CollectorRegistry()
Counter("c", "c", registry=registry).inc(2)
Gauge("g", "g", registry=registry, multiprocess_mode="livesum").set(5)
print(os.getpid())
"""
READ = """
import os
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.decode()


def test_counts_of_dead_processes_stay_and_their_gauges_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with metrics_folder(tmp_path) as folder:
        assert shared_folder() == str(folder)
        pids = [int(python(COUNT)) for _ in range(2)]
        assert {"c_total 4.0", "g 10.0"} <= set(python(READ).splitlines())
        forget_process(folder, pids[0])
        assert {"c_total 4.0", "g 5.0"} <= set(python(READ).splitlines())
    assert shared_folder() is None
    assert not folder.exists()


def test_only_folders_of_killed_supervisors_are_removed(
    tmp_path: Path,
) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from hotloop.app.observability.metrics_folder import metrics_folder\n"
        "with metrics_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    others = []
    for _ in range(2):
        other = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        others.append((other, Path(other.stdout.readline().strip())))
    (killed, its), (living, kept) = others
    try:
        killed.kill()
        killed.wait()
        with metrics_folder(tmp_path) as own:
            assert not its.exists()
            assert kept.exists()
            assert own.exists()
    finally:
        for other, _ in others:
            other.kill()
            other.communicate()
    assert os.environ.get(VARIABLE) is None
    assert living.returncode is not None
