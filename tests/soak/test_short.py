"""A few seconds of mixed load; `make soak` takes ten minutes, and judges growth."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import ROOT, plain_environment
from tests.fixtures.waiting import wait_until
from tests.soak.arrivals import Kind, arrivals
from tests.soak.course import KEPT_FILES, connections, left_files, orphans, soak
from tests.soak.deaths import Victim

SECONDS = 12.0
SEED = 5


@pytest.mark.long
def test_short_soak_has_no_fault(tmp_path: Path) -> None:
    assert {arrival.kind for arrival in arrivals(SEED, SECONDS)} == set(Kind)
    outcome = soak(tmp_path, SECONDS, SEED)
    assert outcome.faults == []
    assert set(outcome.killed) == set(Victim)
    assert outcome.completed == outcome.accepted > 0
    assert outcome.readings
    assert len(outcome.answers) == len(arrivals(SEED, SECONDS))


@pytest.mark.long
def test_terminated_soak_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    environment = plain_environment() | {"TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "tests.soak", "--report", str(tmp_path / "report.md")]
    with subprocess.Popen(words, cwd=ROOT, env=environment) as process:
        try:
            wait_until(lambda: len(tree(process.pid)) > 4, "the service has workers", bound=60)
            below = tree(process.pid)
        finally:
            process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: all(map(is_gone, below)), "nothing is left running")
    assert list(tmp_path.iterdir()) == []


def test_leftover_files_are_named(tmp_path: Path) -> None:
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    (data / "uploads").mkdir(parents=True)
    (temporary / "pymp-1").mkdir(parents=True)
    for name in KEPT_FILES:
        (data / name).touch()
    assert left_files(data, temporary) == [f"a file is left: {temporary / 'pymp-1'}"]
    (data / "uploads" / "half").touch()
    assert left_files(data, temporary)[0] == f"a file is left: {data / 'uploads' / 'half'}"


def test_orphan_is_found_by_its_temporary_folder(tmp_path: Path) -> None:
    words = ["sh", "-c", "sleep 60 >/dev/null & echo $!"]
    environment = plain_environment() | {"TMPDIR": str(tmp_path)}
    started = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True)
    orphan = psutil.Process(int(started.stdout))
    try:
        (fault,) = orphans(tmp_path, ())
        assert f"pid={orphan.pid}" in fault
        assert orphans(tmp_path, {orphan}) == []
    finally:
        orphan.kill()
    wait_until(lambda: not orphans(tmp_path, ()), "it has ended")


def test_open_connection_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert connections(psutil.Process(), port) == []
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
        with accepted:
            assert [one.status for one in connections(psutil.Process(), port)] == ["CLOSE_WAIT"]
        assert connections(psutil.Process(), port) == []


def test_arrivals_are_repeatable_by_their_seed() -> None:
    first = arrivals(SEED, 60)
    assert first == arrivals(SEED, 60) != arrivals(SEED + 1, 60)
    assert first == sorted(first)
    numbers = [arrival.number for arrival in first if arrival.kind is Kind.HEALTH]
    assert numbers == list(range(len(numbers)))
    assert 200 < len(numbers) < 400  # five a second, at random
