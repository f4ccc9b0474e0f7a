"""Ctrl-C and SIGTERM (app/cli/exits.py, connection.py): tasks are cancelled, nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.fixtures.command_line import ENDLESS, answer, started
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_cancels_the_task_on_the_service(
    how: signal.Signals, server: Server, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with started(("run", "sequential", *ENDLESS, "--url", server.url), tmp_path, log) as process:
        wait_until(lambda: "running" in log.read_text(), "the run has begun")
        os.killpg(process.pid, how)
        assert process.wait(timeout=60) == 128 + how
    task_id = log.read_text().split()[0]
    view = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
    assert view["status"] == "cancelled"
    assert f"{task_id} cancelled" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_no_process_and_no_file(how: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    place = tmp_path / "place"
    place.mkdir()
    arguments = ("run", "multiprocessing", *ENDLESS)
    with started(arguments, place, log, {"TMPDIR": str(place)}) as process:
        wait_until(lambda: "running" in log.read_text(), "the run has begun")
        below = tree(process.pid)
        assert len(below) >= 2  # a run host and what it has started
        os.killpg(process.pid, how)
        assert process.wait(timeout=60) == 128 + how
    wait_until(lambda: all(map(is_gone, below)), "nothing is left")
    assert list(place.iterdir()) == []
    assert "Traceback" not in log.read_text()


def test_signal_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    log = tmp_path / "log"
    with started(("run", *ENDLESS), place, log, {"TMPDIR": str(place)}) as process:
        seen = psutil.Process(process.pid)
        wait_until(lambda: any(place.rglob("*.sqlite3")), "the store is made")
        below = seen.children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    wait_until(lambda: all(map(is_gone, below)), "nothing is left")
    assert list(place.iterdir()) == []


def test_death_leaves_no_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # Killed, it cannot remove its folders; the test's own is the place for them.
    with started(("run", *ENDLESS), tmp_path, log, {"TMPDIR": str(tmp_path)}) as process:
        wait_until(lambda: "running" in log.read_text(), "the run has begun")
        below = tree(process.pid)
        assert below
        process.kill()
        process.wait()
        wait_until(lambda: all(map(is_gone, below)), "nothing is left")


def test_stored_cancelled_task_can_be_resumed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = ("--items", "300", "--batch-size", "10", "--db-delay-ms", "30", "--cache", "none")
    arguments = ("run", "async-batch", *body, "--data-dir", "data")
    with started(arguments, tmp_path, log) as process:
        wait_until(lambda: "running" in log.read_text(), "the run has begun")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    (task,) = answer("tasks", "list", cwd=tmp_path)["items"]
    assert task["status"] == "cancelled"
    view = answer("tasks", "resume", task["task_id"], cwd=tmp_path)
    assert view["status"] == "completed"
    assert view["attempts"] == 2
    assert view["result"]["items_processed"] == 300
