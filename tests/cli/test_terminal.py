"""Colours and bars are for terminals; files and pipes get plain lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command_line import COMMAND, LITTLE, hotloop
from tests.fixtures.server import Server, plain_environment
from tests.fixtures.terminal import on_terminal

pytestmark = pytest.mark.long

ESCAPE = "\x1b"


def on_a_terminal(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status, and all that the terminal got."""
    with on_terminal(*arguments, environment=environment) as terminal:
        return terminal.finish(), terminal.raw


def test_terminal_gets_a_bar_and_colours(server: Server) -> None:
    run = ("run", "async-batch", "--items", "60", "--batch-size", "5", "--db-delay-ms", "80")
    code, text = on_a_terminal(*run, "--url", server.url)
    assert code == 0
    assert "━" in text
    assert "items/s" in text
    assert "s left" in text
    assert f"{ESCAPE}[32mcompleted" in text


def test_command_says_that_its_own_service_starts_before_it_has_started() -> None:
    with on_terminal("run", *LITTLE) as terminal:
        terminal.wait_for("starting a service of this command's own")
        assert "checksum" not in terminal.text
        assert terminal.finish() == 0
        assert "checksum" in terminal.text
        assert terminal.too_long() == []
    done = hotloop("run", *LITTLE)
    assert "starting a service of this command's own …\n" in done.stderr
    assert hotloop("run", *LITTLE, "--quiet").stderr == ""


def test_output_of_runs_and_tasks_fits_80_columns(server: Server) -> None:
    url = ("--url", server.url)
    slow = ("--items", "60", "--batch-size", "5", "--db-delay-ms", "40")
    for command in (
        ("run", "concurrent-futures", *slow),
        ("run", "sequential", *slow, "--timeout-seconds", "0.1"),
        ("run", "threading", "--items", "40", "--batch-size", "5000", "--db", "none"),
        ("run", "--workers", "0"),
        ("compare", *LITTLE, "--strategies", "sequential,threading", "--budget", "5"),
        ("tasks", "list"),
        ("tasks", "show", "task_00000000_1"),
    ):
        with on_terminal(*command, *url) as terminal:
            terminal.finish()
            assert "Traceback" not in terminal.text
            assert terminal.too_long() == [], command


def test_no_color_disables_colours(server: Server) -> None:
    run = ("run", *LITTLE, "--quiet", "--url", server.url)
    code, text = on_a_terminal(*run, environment={"NO_COLOR": "1"})
    assert code == 0
    assert "completed" in text
    assert f"{ESCAPE}[32m" not in text
    assert f"{ESCAPE}[32m" in on_a_terminal(*run)[1]


@pytest.mark.parametrize("command", ["--help", "run --help", "tasks list --help", "run --workers"])
def test_help_and_errors_have_no_escapes_in_files(command: str) -> None:
    done = hotloop(*command.split())
    assert ESCAPE not in done.stdout + done.stderr


def test_files_get_neither_escapes_nor_trailing_blanks(server: Server) -> None:
    done = hotloop("run", *LITTLE, "--url", server.url)
    assert ESCAPE not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == []
    listed = hotloop("tasks", "list", "--url", server.url)
    assert ESCAPE not in listed.stdout


def test_reader_that_leaves_ends_the_command_quietly(server: Server, tmp_path: Path) -> None:
    items = ("--items", "200000", "--db", "none", "--cache", "none", "--param", "cpu_iterations=1")
    run = hotloop("run", *items, "--json", "--url", server.url)
    assert run.returncode == 0, run.stderr
    task_id = run.stdout.split('"task_id": "')[1].split('"')[0]
    for command in (("tasks", "results", task_id), ("tasks", "list")):
        with subprocess.Popen(
            [*COMMAND, *command, "--url", server.url],
            env=plain_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            if command[1] == "results":
                assert process.stdout.readline().startswith(b'{"item_id":0,')
            process.stdout.close()
            assert process.wait(timeout=60) == 141
            assert process.stderr.read() == b""


def test_limited_encoding_gets_replacement_characters(server: Server) -> None:
    run = ("run", *LITTLE, "--url", server.url)
    done = hotloop(*run, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "| 9388000 |" in done.stdout
    assert " ? " in done.stdout  # the ×
