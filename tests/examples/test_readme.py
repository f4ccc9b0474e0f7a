"""Every command of examples/workloads/README.md works as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.workloads import FOLDER
from tests.fixtures.server import ROOT, Server, plain_environment

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((FOLDER / "README.md").read_text(encoding="utf-8"))
INSTALL = "pip install ./examples/workloads\n"
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [text for language, text in BLOCKS if language == "sh" and text != INSTALL]


def test_readme_names_the_folder_that_is_installed() -> None:
    assert ("sh", INSTALL) in BLOCKS  # conftest.py installs it
    assert (ROOT / INSTALL.split()[-1]).resolve() == FOLDER


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(installed: None, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_work(server: Server, tmp_path: Path, command: str) -> None:
    # `hotloop` as `make install` puts it there, whichever environment runs this.
    entry = tmp_path / "hotloop"
    entry.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "main.py"}" "$@"\n')
    entry.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-eu", "-c", command.replace(":8001", f":{server.port}")],
        cwd=ROOT,
        env=plain_environment(data_dir=tmp_path / "data", url=server.url) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "urn:hotloop:problem" not in done.stdout
