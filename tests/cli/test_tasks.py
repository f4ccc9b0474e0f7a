"""cli.task_commands, own_service, files: `hotloop tasks`, with a service and on a store."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from pyarrow import parquet

from hotloop.app.cli.own_service import settings_of_the_store
from tests.fixtures.command_line import ENDLESS, LITTLE, answer, hotloop, refusal, started
from tests.fixtures.server import Server, running_server
from tests.fixtures.terminal import on_terminal
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

UNKNOWN = "task_00000000_1"


def test_list_is_filtered_and_paged(server: Server) -> None:
    url = ("--url", server.url)
    ids = [answer("run", "threading", *LITTLE, *url)["task_id"] for _ in range(2)]
    page = answer("tasks", "list", "--strategy", "threading", "--limit", "1", *url)
    assert [task["task_id"] for task in page["items"]] == ids[-1:]
    page = answer(
        *("tasks", "list", "--strategy", "threading", "--status", "completed"),
        *("--limit", "1", "--offset", "1", *url),
    )
    assert [task["task_id"] for task in page["items"]] == ids[:1]
    assert answer("tasks", "list", "--kernel", "python", "--status", "failed", *url)["total"] == 0
    text = hotloop("tasks", "list", *url).stdout
    assert all(task_id in text for task_id in ids)


def test_task_and_results_are_shown(server: Server, tmp_path: Path) -> None:
    url = ("--url", server.url)
    task_id = answer("run", *LITTLE, *url)["task_id"]
    assert answer("tasks", "show", task_id, *url)["result"]["items_processed"] == 40
    text = hotloop("tasks", "show", task_id, *url).stdout
    assert task_id in text
    assert "40 of 40" in text
    lines = hotloop("tasks", "results", task_id, *url).stdout.splitlines()
    assert [json.loads(line)["item_id"] for line in lines] == list(range(40))
    page = hotloop(
        *("tasks", "results", task_id, "--format", "csv", "--offset", "5", "--limit", "2", *url)
    ).stdout.splitlines()
    assert [line.split(",")[0] for line in page] == ["item_id", "5", "6"]
    output = tmp_path / "out.csv"
    done = hotloop("tasks", "results", task_id, "--output", str(output), *url)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(output.read_text().splitlines()) == 41
    output = tmp_path / "out.parquet"
    arguments = ("tasks", "results", task_id, "--format", "parquet", "--output", str(output), *url)
    assert hotloop(*arguments).returncode == 0
    assert parquet.read_table(output).column("item_id").to_pylist() == list(range(40))
    wrong = refusal("tasks", "results", task_id, "--format", "csv", "--output", "x.arrow", *url)
    assert "--format" in wrong


@pytest.mark.parametrize("command", ["show", "follow", "cancel", "resume", "results", "delete"])
def test_unknown_task_is_refused(command: str, server: Server) -> None:
    assert UNKNOWN in refusal("tasks", command, UNKNOWN, "--url", server.url)
    assert "like task_" in refusal("tasks", command, "../results", "--url", server.url)


def test_running_task_is_followed_and_cancelled(server: Server, tmp_path: Path) -> None:
    url = ("--url", server.url)
    task_id = hotloop("run", "sequential", *ENDLESS, "--background", *url).stdout.strip()
    log = tmp_path / "log"
    with started(("tasks", "follow", task_id, *url), tmp_path, log) as process:
        wait_until(lambda: "running" in log.read_text(), "it is followed")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    # Whoever only watches ends nothing.
    assert answer("tasks", "show", task_id, *url)["status"] == "running"
    text = refusal("tasks", "results", task_id, *url)
    assert "once it has ended" in text
    with started(("tasks", "follow", task_id, "--json", *url), tmp_path, log) as process:
        assert answer("tasks", "cancel", task_id, *url)["status"] == "cancelled"
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["status"] == "cancelled"
        assert process.wait(timeout=60) == 1
    assert log.read_text() == ""


def test_follower_continues_after_a_restart_of_the_service(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    log = tmp_path / "log"
    body = ("--items", "400", "--batch-size", "4", "--db-delay-ms", "20", "--workers", "1")
    with running_server(data, run_hosts=1) as first:
        wait_until(lambda: first.client.get("/health/ready").is_success, "the service is warm")
        arguments = ("run", "sequential", *body, "--json", "--url", first.url)
        with started(arguments, tmp_path, log) as process:
            wait_until(
                lambda: any(
                    0 < task["progress"] < 1
                    for task in first.client.get("/api/v1/tasks/results").json()["items"]
                ),
                "the run has begun",
            )
            first.stop(signal.SIGKILL)
            with running_server(data, run_hosts=1, port=first.port):
                assert process.stdout is not None
                result = json.loads(process.stdout.read())
                assert process.wait(timeout=60) == 0
    assert result["items_processed"] == 400
    assert log.read_text() == ""


def test_commands_read_the_store_without_a_service(tmp_path: Path) -> None:
    done = hotloop("tasks", "list", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No tasks are kept in" in done.stdout
    assert "--data-dir" in done.stdout
    assert answer("tasks", "list", cwd=tmp_path)["items"] == []
    assert "--data-dir" in refusal("tasks", "show", UNKNOWN, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    task_id = answer("run", *LITTLE, "--data-dir", "kept", cwd=tmp_path)["task_id"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    page = answer("tasks", "list", "--data-dir", "kept", cwd=tmp_path)
    assert [task["task_id"] for task in page["items"]] == [task_id]
    environment = {"HOTLOOP_DATA_DIR": str(tmp_path / "kept")}
    lines = hotloop("tasks", "results", task_id, environment=environment).stdout.splitlines()
    assert len(lines) == 40
    assert answer("tasks", "delete", "--yes", "--data-dir", "kept", cwd=tmp_path) == {"deleted": 1}


def test_store_of_a_running_service_is_read_only(tmp_path: Path) -> None:
    """The command must not take the work that waits there."""
    (tmp_path / "hotloop.sqlite3").touch()
    assert settings_of_the_store(tmp_path, executes=False).background_runs == 0
    with running_server(tmp_path, run_hosts=1, background_runs=0) as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        url = ("--url", server.url)
        task_id = hotloop("run", *LITTLE, "--background", *url).stdout.strip()
        shown = answer("tasks", "show", task_id, "--data-dir", str(tmp_path))
        assert shown["status"] == "pending"
        cancelled = answer("tasks", "cancel", task_id, "--data-dir", str(tmp_path))
        assert cancelled["status"] == "cancelled"
        assert answer("tasks", "show", task_id, *url)["status"] == "cancelled"


def test_one_task_is_deleted_and_others_stay(server: Server) -> None:
    url = ("--url", server.url)
    gone, kept = (answer("run", *LITTLE, *url)["task_id"] for _ in range(2))
    done = hotloop("tasks", "delete", gone, *url)
    assert (done.returncode, done.stdout) == (0, f"{gone} is removed, with its results.\n")
    assert gone in refusal("tasks", "delete", gone, *url)
    assert answer("tasks", "show", kept, *url)["status"] == "completed"
    assert answer("tasks", "delete", kept, *url) == {"deleted": 1}


def test_task_that_has_not_ended_is_not_deleted(server: Server) -> None:
    url = ("--url", server.url)
    task_id = hotloop("run", "sequential", *ENDLESS, "--background", *url).stdout.strip()
    assert "cancel it first" in refusal("tasks", "delete", task_id, *url)
    answer("tasks", "cancel", task_id, *url)
    assert answer("tasks", "delete", task_id, *url) == {"deleted": 1}


def test_deleting_all_asks_first(server: Server) -> None:
    text = refusal("tasks", "delete", "--url", server.url)
    assert "--yes" in text
    task_id = answer("run", *LITTLE, "--url", server.url)["task_id"]
    with on_terminal("tasks", "delete", "--url", server.url) as terminal:
        terminal.wait_for("Remove all tasks that have ended")
        terminal.type("n\n")
        assert terminal.finish() == 1
    assert answer("tasks", "show", task_id, "--url", server.url)["status"] == "completed"
    with on_terminal("tasks", "delete", "--url", server.url) as terminal:
        terminal.wait_for("Remove all tasks that have ended")
        terminal.type("y\n")
        assert terminal.finish() == 0
        assert "removed, with all results" in terminal.text
    assert task_id in refusal("tasks", "show", task_id, "--url", server.url)
