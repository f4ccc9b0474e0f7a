"""docs/own-function.md from an empty folder: every command as it is written, in its order."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import setuptools

from tests.fixtures.guarded import leashed
from tests.fixtures.server import ROOT, plain_environment

pytestmark = pytest.mark.long

PAGE = (ROOT / "docs" / "own-function.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Step:
    """A block of the page that is carried out, and what it prints according to the page."""

    language: str
    text: str
    introduction: str
    printed: list[str]


def steps() -> list[Step]:
    found: list[Step] = []
    for match in BLOCK.finditer(PAGE):
        language, text = match.groups()
        before = PAGE[: match.start()].rstrip().rsplit("\n\n", 1)[-1]
        if language == "text" and "like this" in before:
            continue  # figures of one machine
        if language == "text":
            times = 12 if "twelve times" in before else 1
            found[-1].printed.extend(text.splitlines() * times)
        else:
            found.append(Step(language, text, before, []))
    return found


class User:
    """A user in an empty folder beside a clone, in an environment of their own."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "own"
        self.folder.mkdir()
        ignored = (".*", "build", "data", "tests", "__pycache__", "*.so", "*.egg-info")
        shutil.copytree(ROOT, home / "hotloop", ignore=shutil.ignore_patterns(*ignored))
        environment = home / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "needed.pth").write_text(f"{Path(setuptools.__file__).parents[1]}\n")
        pip = environment / "bin" / "pip"
        pip.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m pip --python {environment}/bin/python "$@"\n'
        )
        pip.chmod(0o755)
        self.variables = plain_environment(port=0) | {
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which means without isolation
            "CC": "false",  # no compiler: the cython kernel of `loops` takes long to build
        }
        self.variables.pop("PYTHONPATH", None)
        self.port = "8001"

    def run(self, command: str) -> list[str]:
        """Carry a block out; return the lines that it prints, with the port of the page."""
        done = subprocess.run(
            ["sh", "-eu", "-c", self._here(command)],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return self._there(done.stdout).splitlines()

    @contextmanager
    def serving(self, command: str, lines: int) -> Iterator[list[str]]:
        """Serve while the block lasts; gives the lines that are printed."""
        with (
            (self.folder / "log").open("w") as log,
            subprocess.Popen(
                command.split(),
                cwd=self.folder,
                env=self.variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
            leashed(process),
        ):
            assert process.stdout is not None
            try:
                printed = [process.stdout.readline() for _ in range(lines)]
                self.port = re.findall(r"http://127.0.0.1:(\d+)/", "".join(printed))[0]
                yield self._there("".join(printed)).splitlines()
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=60) == 0

    def _here(self, text: str) -> str:
        return text.replace(":8001", f":{self.port}")

    def _there(self, text: str) -> str:
        return text.replace(f":{self.port}", ":8001")


@pytest.mark.timeout(600)
def test_every_command_of_the_page_works_and_prints_what_it_says(tmp_path: Path) -> None:
    user = User(tmp_path)
    left = steps()
    while "serve" not in left[0].text:
        carried_out(user, left.pop(0))
    serving = left.pop(0)
    with user.serving(serving.text, len(serving.printed)) as printed:
        assert printed == serving.printed
        for step in left:
            carried_out(user, step)


def carried_out(user: User, step: Step) -> None:
    if step.language == "python":
        (name,) = re.findall(r"`(\w+\.py)`", step.introduction)[:1]
        (user.folder / name).write_text(step.text)
        return
    assert step.language == "sh"
    printed = user.run(step.text)
    assert printed == step.printed or not step.printed
    assert printed
