"""Functions of the user's own on the command line of `hotloop serve` (app/cli/serving.py), and what
is printed about them (app/serving/announcing.py).
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import hotloop
from hotloop import kernels
from hotloop.app.serving.announcing import run_command
from tests.fixtures.command_line import refusal, started
from tests.fixtures.server import listening_url
from tests.fixtures.waiting import wait_until

SHAPES = '''\
import math

import hotloop


@hotloop.workload(columns={"radius": hotloop.Float(0.5, 9.0)})
def area(radius: float) -> float:
    """Area of a circle."""
    return math.pi * radius * radius


@hotloop.workload(name="double")
def twice(number: float, times: int = 2) -> float:
    return number * times
'''
BROKEN = "import nothing_that_is_there\n"


def served(
    folder: Path, *arguments: str, lines: int, settings: dict[str, str] | None = None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Serve until so many lines are printed, and carry out the commands among them. Returns the
    other lines, and the answers to the commands.
    """
    log = folder / "log"
    given = {"HOTLOOP_PORT": "0", "HOTLOOP_RUN_HOSTS": "1"} | (settings or {})
    with started(("serve", *arguments), folder, log, given) as process:
        listening_url(log)
        assert process.stdout is not None
        told = [process.stdout.readline().rstrip() for _ in range(lines)]
        answers = [_answer(line) for line in told if line.startswith("  curl ")]
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 0
    return sorted(line for line in told if not line.startswith("  ")), answers


def _answer(command: str) -> dict[str, Any]:
    """Carry a command out, again while a process still loads the function: it says so with 503."""
    answers: list[dict[str, Any]] = []

    def is_answered() -> bool:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        answers[:] = [json.loads(done.stdout)]
        return answers[0].get("type") != "urn:hotloop:problem:not-ready"

    wait_until(is_answered, "the function is known", 60)
    return answers[0] | {"command": command}


@pytest.mark.long
def test_outcome_and_command_of_each_target_are_printed(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "broken.py").write_text(BROKEN)
    told, answers = served(tmp_path, "shapes.py", "broken.py:f", "shapes:none", lines=6)
    missing = "there is no module nothing_that_is_there; install it, or put its folder on"
    assert told == [
        "area  shapes.py  python, numba",
        f"broken.py:f  cannot be used: {missing} PYTHONPATH at broken.py:1",
        "double  shapes.py  python, numba",
        "shapes:none  cannot be used: shapes has no function 'none'; its workloads are: area, "
        "twice",
    ]
    for each, name in zip(answers, ("radius", "number"), strict=True):
        (given,) = re.findall(rf'"{name}": ([\d.]+)', each["command"])
        exact = math.pi * float(given) ** 2 if name == "radius" else 2 * float(given)
        assert each["results"][0]["result"] == pytest.approx(exact) != 0


@pytest.mark.long
def test_module_is_found_in_the_folder_beside_those_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    (tmp_path / "other.py").write_text("def plain(x: float) -> float:\n    return x\n")
    settings = {"HOTLOOP_WORKLOADS": "other.py", "HOTLOOP_API_PROCESSES": "2"}
    told, answers = served(tmp_path, "shapes:area", lines=4, settings=settings)
    assert told == ["area  shapes:area  python, numba", "plain  other.py  python, numba"]
    assert [each.get("failed_items") for each in answers] == [0, 0], answers


@hotloop.workload(columns={"series": hotloop.Float(0, 1, width=1_000)}, parameters={})
def longest(series: Any) -> float:
    """Has more values than a line shows."""
    return 0.0


def test_command_makes_items_up_where_one_would_be_long(tmp_path: Path) -> None:
    kernels.declare(longest.declaration)
    try:
        command = run_command("longest", "unix:/some folder/socket")
    finally:
        kernels.withdraw("longest")
    assert "--unix-socket '/some folder/socket' http://hotloop/api/v1/" in command
    assert """-d '{"workload": "longest", "items_count": 10}'""" in command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "shapes.py"), "there is no file shapes.py"),
        (("serve", "a b"), "names no workload; give module:function, or a file such as prices.py"),
        (("node", "shapes.py"), "there is no file shapes.py"),
    ],
)
def test_target_that_names_nothing_is_refused(
    arguments: Sequence[str], words: str, tmp_path: Path
) -> None:
    assert words in refusal(*arguments, cwd=tmp_path)
