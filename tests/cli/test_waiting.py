"""Commands that wait show a word and a spinner on a terminal before the answer is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.command_line import here
from tests.fixtures.comparisons import TASK_ID, comparison
from tests.fixtures.fake_services import task_view
from tests.fixtures.held_service import HeldService, held_service
from tests.fixtures.recommendations import recommendation
from tests.fixtures.server import SAMPLE
from tests.fixtures.terminal import on_terminal

TASKS = "/api/v1/tasks"
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

VIEW: dict[str, Any] = task_view().model_dump(mode="json") | {"estimated_seconds": 1_234.0}
COMPARED: dict[str, Any] = VIEW | {
    "kind": "comparison",
    "strategy": None,
    "kernel": None,
    "result": None,
    "comparison": comparison().model_dump(mode="json"),
}
CALIBRATED = {
    "status": "completed",
    "progress": 1.0,
    "started_at": VIEW["created_at"],
    "ended_at": VIEW["created_at"],
    "estimated_remaining_seconds": 0.0,
    "error_message": None,
}
ANSWERS = {
    f"GET {TASKS}/results": {"items": [VIEW], "total": 1, "limit": 50, "offset": 0, "next": None},
    f"DELETE {TASKS}/results": {"deleted": 2},
    f"DELETE {TASKS}/results/{TASK_ID}": {"deleted": 1},
    f"GET {TASKS}/results/{TASK_ID}": {"item_id": 0, "loop": 1.5, "nested": 7},
    f"GET {TASKS}/status/{TASK_ID}": VIEW,
    f"GET {TASKS}/events/{TASK_ID}": f"event: state\nid: 1\ndata: {json.dumps(VIEW)}\n\n",
    f"DELETE {TASKS}/{TASK_ID}": VIEW,
    f"POST {TASKS}/{TASK_ID}/resume": VIEW,
    f"POST {TASKS}/background": VIEW,
    f"POST {TASKS}/upload": VIEW,
    f"POST {TASKS}/compare": COMPARED,
    f"GET {TASKS}/recommendations": recommendation().model_dump(mode="json"),
    f"POST {TASKS}/calibration": CALIBRATED | {"status": "running", "progress": 0.0},
    f"GET {TASKS}/calibration": CALIBRATED,
}

COMPARISON = ANSWERS | {f"GET {TASKS}/status/{TASK_ID}": COMPARED}

COMMANDS: dict[str, str] = {
    "run": "handing the run over",
    f"run --file {SAMPLE}": "waiting until the service has taken it",
    "compare": "handing the comparison over",
    "recommend": "predicting",
    "calibrate": "asking for a calibration",
    "tasks list": "waiting for the answer",
    f"tasks show {TASK_ID}": "waiting for the answer",
    f"tasks follow {TASK_ID}": "starting",
    f"tasks cancel {TASK_ID}": "waiting for the answer",
    f"tasks resume {TASK_ID} --follow": "waiting for the answer",
    f"tasks results {TASK_ID}": "asking for the results",
    f"tasks delete {TASK_ID}": "waiting for the answer",
    "tasks delete --yes": "waiting for the answer",
}


def answers_for(command: str) -> dict[str, Any]:
    return COMPARISON if command.startswith("compare") else ANSWERS


SHORT = ("compare", "recommend")
"""Commands that wait in ways of their own; each start of a process takes a second."""


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=[] if c in SHORT else [pytest.mark.long]) for c in COMMANDS],
)
def test_terminal_shows_a_word_and_a_spinner_before_the_answer_is_there(command: str) -> None:
    with (
        held_service(answers_for(command)) as service,
        on_terminal(*command.split(), "--url", service.url) as terminal,
    ):
        terminal.wait_for(COMMANDS[command])
        assert not service.held.is_set()
        assert any(character in terminal.text for character in SPINNER)
        service.release()
        assert terminal.finish() == 0, terminal.text
        assert terminal.too_long() == []


@pytest.fixture
def service() -> Iterator[HeldService]:
    """Start a service that answers at once."""
    with held_service(ANSWERS) as service:
        service.release()
        yield service


@pytest.mark.parametrize("command", ["run", "tasks list", f"tasks results {TASK_ID}", "recommend"])
def test_pipe_gets_no_spinner_and_no_escapes(command: str, service: HeldService) -> None:
    done = here(*command.split(), "--url", service.url)
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, done.stderr):
        assert "\x1b" not in text
        assert "\r" not in text
        assert not set(SPINNER) & set(text)
    assert "handing" not in done.stderr


def test_dumb_terminal_gets_lines_and_no_escapes(service: HeldService) -> None:
    run = ("run", "--url", service.url)
    with on_terminal(*run, environment={"TERM": "dumb"}) as terminal:
        assert terminal.finish() == 0
        assert "\x1b" not in terminal.raw
        assert not set(SPINNER) & set(terminal.raw)
        assert f"{TASK_ID} completed, 2 of 2 items" in terminal.text
        assert terminal.too_long() == []


def test_no_color_leaves_the_words_and_takes_the_colours(service: HeldService) -> None:
    run = ("run", "--url", service.url)
    with on_terminal(*run, environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.finish() == 0
        assert "completed" in terminal.text
        assert "\x1b[32m" not in terminal.raw


def test_job_of_more_than_a_minute_is_announced_with_its_estimate(service: HeldService) -> None:
    run = ("run", "--url", service.url)
    assert f"{TASK_ID} is estimated to take 20 min 34 s. Ctrl-C cancels it." in here(*run).stderr
    assert here(*run, "--quiet").stderr == ""
    assert here(*run, "--json").stderr == ""
    with held_service(COMPARISON) as comparing:
        comparing.release()
        done = here("compare", "--budget", "300", "--url", comparing.url)
    assert "at most 5 min (--budget)" in done.stderr
    assert "1 min of set-up (--setup-budget)" in done.stderr


def test_job_of_less_than_a_minute_is_not_announced() -> None:
    short = ANSWERS | {f"POST {TASKS}/background": VIEW | {"estimated_seconds": 59.0}}
    with held_service(short) as service:
        service.release()
        assert "estimated" not in here("run", "--url", service.url).stderr


def test_running_calibration_is_followed_to_its_end() -> None:
    running = CALIBRATED | {"status": "running", "progress": 0.25}
    running["estimated_remaining_seconds"] = 6.0
    answers = ANSWERS | {f"GET {TASKS}/calibration": running}
    with (
        held_service(answers) as service,
        on_terminal("calibrate", "--url", service.url) as terminal,
    ):
        service.release()
        terminal.wait_for("25/100")
        terminal.wait_for("s left")
        answers[f"GET {TASKS}/calibration"] = CALIBRATED
        assert terminal.finish() == 0
        assert "The machine is calibrated" in terminal.text
        assert terminal.too_long() == []


def test_calibration_that_failed_says_why_and_is_exit_status_1() -> None:
    failed = CALIBRATED | {"status": "failed", "error_message": "the run host died"}
    with held_service(ANSWERS | {f"GET {TASKS}/calibration": failed}) as service:
        service.release()
        done = here("calibrate", "--url", service.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert "The calibration failed: the run host died" in done.stderr


def test_calibration_of_another_process_is_not_reported_as_done() -> None:
    elsewhere = CALIBRATED | {"status": "none", "progress": 0.0}
    with held_service(ANSWERS | {f"GET {TASKS}/calibration": elsewhere}) as service:
        service.release()
        done = here("calibrate", "--url", service.url)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Another process of the service calibrates; ask again." in done.stderr


def test_recommendation_waits_for_the_calibration_only_if_it_is_asked_to() -> None:
    rough = recommendation().model_dump(mode="json") | {"calibrated": False}
    answers = ANSWERS | {f"GET {TASKS}/recommendations": rough}
    with held_service(answers) as service:
        service.release()
        done = here("recommend", "--url", service.url)
        assert "Not calibrated yet" in done.stdout
        assert not any("calibration" in asked for asked in service.asked)
        done = here("recommend", "--wait", "--url", service.url)
        assert done.returncode == 0, done.stderr
        assert f"GET {TASKS}/calibration" in service.asked
        assert service.asked[-1].endswith("wait=true")


def test_comparison_that_failed_says_why_and_is_exit_status_1() -> None:
    reason = "nothing could be measured: the set-up of every cell took longer than its budget"
    failed = comparison(status="failed", error_message=reason, winner=None, outputs_equal=None)
    view = COMPARED | {"status": "failed", "comparison": failed.model_dump(mode="json")}
    with held_service(COMPARISON | {f"GET {TASKS}/status/{TASK_ID}": view}) as service:
        service.release()
        done = here("compare", "--url", service.url)
        assert done.returncode == 1
        assert done.stdout.splitlines()[0] == f"The comparison failed: {reason}"
        assert "Outputs: not compared" in done.stdout


def test_empty_list_is_a_sentence_and_success() -> None:
    empty = {"items": [], "total": 0, "limit": 50, "offset": 0, "next": None}
    with held_service(ANSWERS | {f"GET {TASKS}/results": empty}) as service:
        service.release()
        listed = ("tasks", "list", "--url", service.url)
        done = here(*listed)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("No tasks are kept yet.")
        assert here(*listed, "--status", "failed").stdout.startswith("No task matches.")
        assert json.loads(here(*listed, "--json").stdout) == empty
    beyond = empty | {"total": 3, "offset": 50}
    with held_service(ANSWERS | {f"GET {TASKS}/results": beyond}) as service:
        service.release()
        done = here("tasks", "list", "--offset", "50", "--url", service.url)
        assert done.stdout == "No task is at offset 50: 3 match in all.\n"
