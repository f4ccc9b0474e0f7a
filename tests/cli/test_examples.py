"""Every example of the help works as it stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import EXAMPLES
from tests.fixtures.command_line import COMMAND, LITTLE, answer, started
from tests.fixtures.server import ROOT, Server, listening_url, plain_environment
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

SERVING = ("serve", "node")
ALONE = [e for name, examples in EXAMPLES.items() if name not in SERVING for e in examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the files of the examples, and a store in `data` with a task."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "prices.py").write_text("def american_put(spot: float) -> float:\n    return spot\n")
    (folder / "examples").symlink_to(ROOT / "examples")
    answer("run", *LITTLE, "--data-dir", "data", cwd=folder)
    return folder


def task_id(folder: Path, server: Server, example: str) -> str:
    """Return a task for the example; make a new one for a deleted or resumed task."""
    if "resume" in example:
        failing = ("run", *LITTLE, "--url", server.url, "--timeout-seconds", "0.1")
        body = answer(*failing, "--items", "10000", "--db", "simulated", code=1)
        return str(body["task_id"])
    if "--url" in example:
        return str(answer("run", *LITTLE, "--url", server.url)["task_id"])
    tasks = answer("tasks", "list", cwd=folder)["items"]
    if not tasks:
        return str(answer("run", *LITTLE, "--data-dir", "data", cwd=folder)["task_id"])
    return str(tasks[0]["task_id"])


@pytest.mark.parametrize("example", ALONE)
def test_example_works(example: str, folder: Path, server: Server) -> None:
    text = example.replace("http://localhost:8001", server.url)
    text = re.sub(
        r"\btask_(?:[0-9a-f]{8}){1,2}_\d+",
        lambda _: task_id(folder, server, example),
        text,
        count=1,
    )
    if example == "hotloop run":
        text += " --items 100"  # 50,000 simulated queries take too long
    text = re.sub(r"^hotloop", " ".join(COMMAND), text)
    done = subprocess.run(
        ["sh", "-c", text],
        cwd=folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    resumed = "resume" in example  # its time is up again
    assert done.returncode == (1 if resumed else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or "--output" in example
    if "--output" in example:
        output = folder / example.split("--output ")[1].split()[0]
        assert output.stat().st_size > 0


@pytest.mark.parametrize("example", EXAMPLES["serve"])
def test_example_of_serve_serves(example: str, folder: Path) -> None:
    log = folder / "serve.log"
    arguments = example.split()[1:]
    with started(arguments, folder, log, {"HOTLOOP_PORT": "0"}) as process:
        assert listening_url(log).startswith("http://127.0.0.1:")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("example", EXAMPLES["node"])
def test_example_of_node_takes_tasks(example: str, folder: Path) -> None:
    log = folder / "node.log"
    with started(example.split()[1:], folder, log) as process:
        wait_until(lambda: "takes tasks" in log.read_text(), "the node is up")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 0
