"""docs/client.md is carried out as it is written: its programs, its commands, its signature."""

from __future__ import annotations

import asyncio
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from tests.end_to_end.test_after_tasks import FICKLE, SECRET, accept, receiving
from tests.fixtures.own_modules import write
from tests.fixtures.server import ROOT, Server, running_server
from tests.fixtures.waiting import wait_until

PAGE: Final = (ROOT / "docs" / "client.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PROGRAM, SIGNATURE, *STEPS = (text for kind, text in BLOCKS if kind == "python")
PRIORITY, START, RETRY = (text for kind, text in BLOCKS if kind == "sh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "flag").touch()
    write(folder, "fickle", FICKLE.replace("FLAG", repr(str(folder / "flag"))))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    """The service, started with the settings of the page."""
    assert "HOTLOOP_WEBHOOK_HOSTS=" in START
    assert "HOTLOOP_WEBHOOK_SECRET=" in START
    settings = {"webhook_hosts": '["127.0.0.1"]', "webhook_secret": SECRET}
    with running_server(folder, run_hosts=1, workloads="fickle.py", **settings) as server:
        server.wait_ready()
        wait_until(lambda: "fickle" in server.client.get("/api/v1/tasks/kernels").text, "own", 60)
        yield server


def here(text: str, server: Server) -> str:
    return text.replace("localhost:8001", f"localhost:{server.port}")


def test_program_prints_results(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", here(PROGRAM, server)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("[")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_task_with_a_priority_is_accepted(server: Server) -> None:
    command = ["sh", "-eu", "-c", here(PRIORITY, server)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert '"priority":10' in done.stdout


def test_receiver_checks_the_signature(server: Server) -> None:
    made: dict[str, Any] = {}
    exec(compile(SIGNATURE, "page", "exec"), made)
    with receiving() as receiver:
        row = {"item_id": 0, "value": 0.5, "offset": 7}
        accept(server, items=[row], webhook=receiver.url)
        wait_until(lambda: bool(receiver.calls), "the call", 20)
    headers, body = receiver.calls[0]
    assert made["is_signed"](headers, body, SECRET)
    assert not made["is_signed"](headers, body + b" ", SECRET)
    assert not made["is_signed"](headers, body, SECRET[::-1])


def test_failed_items_are_tried_again_by_the_command(server: Server, folder: Path) -> None:
    rows = [{"item_id": n, "value": float(n)} for n in range(100)]
    accepted = accept(server, workload="fickle", kernel="python", items=rows)
    task_id = accepted["task_id"]
    assert server.ended(task_id)["result"]["failed_items"] == 49
    (folder / "flag").unlink()
    words = here(RETRY, server).replace("TASK_ID", task_id).split()[1:]
    command = [sys.executable, "-m", "hotloop", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert server.view(task_id)["result"]["failed_items"] == 0


def same(*given: Any, **options: Any) -> Any:
    """Stand in for the decorator of a workflow, with or without options."""
    if given:
        return given[0]
    return lambda function: function


@pytest.mark.parametrize("step", STEPS, ids=["airflow", "prefect", "celery"])
def test_step_of_a_workflow_finds_its_task_again(
    server: Server, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, decorator in (
        ("airflow.sdk", "task"),
        ("prefect", "task"),
        ("celery", "shared_task"),
    ):
        module = ModuleType(name)
        setattr(module, decorator, same)
        monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType("package"))
        monkeypatch.setitem(sys.modules, name, module)
    made: dict[str, Any] = {}
    exec(compile(here(step, server), "page", "exec"), made)
    compute: Callable[..., Any] = made["compute"]

    def once(day: str) -> Any:
        found = compute(day, [{"value": 0.5, "offset": 7}])
        return asyncio.run(found) if inspect.iscoroutine(found) else found

    assert once("2026-11-30") == once("2026-11-30") != once("2026-12-01")
    assert len(step.strip().splitlines()) <= 12
