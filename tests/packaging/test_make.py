"""`make` as a new user types it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import ROOT, listening_url, plain_environment
from tests.fixtures.waiting import wait_until


def test_help_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets == [
        "help", "install", "run", "node", "test", "test-long", "parity", "pinot", "check", "house",
        "chaos", "soak", "attack", "audit", "bench", "clean",
    ]  # fmt: skip
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets


@pytest.mark.skipif(
    not (ROOT / ".venv" / ".installed").exists(), reason="this is not the .venv of make install"
)
def test_make_run_serves_and_installs_once(tmp_path: Path) -> None:
    settings = {"HOTLOOP_PORT": "0", "HOTLOOP_DATA_DIR": str(tmp_path / "data")}
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            ["make", "run"],
            cwd=ROOT,
            env=plain_environment() | settings,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert httpx.get(f"{listening_url(log)}/health", timeout=60).json()["status"] == "alive"
            below = tree(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
            output, _ = process.communicate()
    assert "pip install" not in output
    wait_until(lambda: all(map(is_gone, below)), "nothing is left")
