"""Every command in the README and in docs/ works as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from examples.sqlite_source import make_file
from tests.fixtures.clusters import BIN
from tests.fixtures.guarded import free_port
from tests.fixtures.pinot_broker import running_broker
from tests.fixtures.redis_server import running_redis
from tests.fixtures.server import ROOT, Server, plain_environment, running_server

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


CARRIED_OUT = ("own-function.md", "in-your-app.md", "client.md")
"""Pages that a test of their own carries out in their order: tests/test_own_function.py,
tests/test_in_your_app.py and tests/test_client_page.py."""


@dataclass(frozen=True, slots=True)
class Command:
    """A block of shell commands or of Python, and the words before it."""

    page: str
    language: str
    text: str
    introduction: str

    @property
    def id(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:50]}"


def commands() -> Iterator[Command]:
    for page in PAGES:
        if page.name in CARRIED_OUT:
            continue
        text = page.read_text()
        for match in BLOCK.finditer(text):
            before = text[: match.start()].rstrip().rsplit("\n\n", 1)[-1]
            yield Command(page.name, match[1], match[2], before)


BLOCKS = list(commands())
COMMANDS = [block for block in BLOCKS if block.language == "sh"]
OWN = next(block for block in BLOCKS if block.language == "python")
"""The function at the top of the README."""
PROGRAMS = [block for block in BLOCKS if block.language == "python" and block is not OWN]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the sources that the pages name."""
    data = tmp_path_factory.mktemp("data")
    make_file(data / "items.sqlite", 1_000)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_broker() as pinot,
        running_redis() as redis,
    ):
        redis.fill(1_000, key="item:{item_id}", value=lambda item_id: item_id % 97)
        patch.setenv("SQLITE_SOURCE", str(data / "items.sqlite"))
        (data / "braking.py").write_text(OWN.text)
        with running_server(
            data,
            workloads="braking.py",
            redis_url=redis.url,
            pinot_url=pinot.url,
            pinot_sql='SELECT item_id, value, "offset" FROM flights WHERE item_id IN ({ids})',
            sources='{"sqlite": "examples.sqlite_source:make_stage"}',
        ) as server:
            server.wait_ready()
            yield server


def test_readme_has_two_commands_and_ten_requests() -> None:
    readme = [command.text for command in COMMANDS if command.page == "README.md"]
    assert [text for text in readme if text.startswith("make")] == ["make run\n", "make test\n"]
    assert f"```python\n{OWN.text}```" in (ROOT / "docs" / "own-function.md").read_text()
    assert sum(text.count("curl ") for text in readme) >= 10


MEASURING = ("/compare", "/recommendations")
"""Requests that take as long as all others together."""

REQUESTS = [c for c in COMMANDS if "curl" in c.text]
CLUSTERS = [c for c in COMMANDS if re.search("(RAY|DASK)_ADDRESS=", c.text)]
SERVED = [c for c in COMMANDS if "hotloop serve " in c.text]
"""Executed by tests/test_own_function.py."""
LINES = [c for c in COMMANDS if c not in REQUESTS + SERVED + CLUSTERS and "hotloop " in c.text]
SERVERS = [c for c in COMMANDS if "uvicorn " in c.text]
"""Executed by tests/packaging/test_requirements.py, in an environment of their own."""
OTHERS = [c for c in COMMANDS if c not in REQUESTS + LINES + SERVED + SERVERS + CLUSTERS]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, marks=[pytest.mark.long] if any(m in c.text for m in MEASURING) else [])
        for c in REQUESTS
    ],
    ids=lambda c: c.id,
)
def test_requests_of_the_pages_are_answered(server: Server, command: Command) -> None:
    done = subprocess.run(
        ["sh", "-eu", "-c", command.text.replace(":8001", f":{server.port}")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    meant = "cannot be met" in command.introduction
    assert ("urn:hotloop:problem" in done.stdout) == meant, done.stdout
    assert '"failed_items":' not in done.stdout or '"failed_items":0' in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("command", LINES, ids=lambda c: c.id)
def test_command_lines_of_the_pages_work(server: Server, command: Command, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        ["sh", "-eu", "-c", command.text.replace(":8001", f":{server.port}")],
        cwd=tmp_path,
        env=_with_hotloop(tmp_path),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _with_hotloop(folder: Path) -> dict[str, str]:
    """Variables under which `hotloop` is found as `make install` puts it there, whichever
    environment runs this.
    """
    (folder / "bin").mkdir()
    entry = folder / "bin" / "hotloop"
    entry.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "main.py"}" "$@"\n')
    entry.chmod(0o755)
    return plain_environment() | {"PATH": f"{entry.parent}:{BIN}:{os.environ['PATH']}"}


@pytest.mark.long
@pytest.mark.parametrize("command", CLUSTERS, ids=lambda c: c.id)
def test_clusters_of_the_pages_compute(command: Command, tmp_path: Path) -> None:
    text = re.sub("6379|8786", str(free_port()), command.text)
    # The path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sockets:
        process = subprocess.Popen(
            ["sh", "-eu", "-c", text],
            cwd=tmp_path,
            env=_with_hotloop(tmp_path) | {"RAY_TMPDIR": sockets},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=110)
        finally:
            _end_group(process.pid)
            process.wait()
    assert process.returncode == 0, stderr
    assert re.search(r"^checksum +[0-9a-f]{16}$", stdout, re.MULTILINE), stdout


def _end_group(group: int) -> None:
    """End the processes that a block of commands has left behind, if it failed."""
    left = [process for process in psutil.process_iter() if _group_of(process) == group]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()  # Ray then ends what it has started
    for process in psutil.wait_procs(left, timeout=10)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _group_of(process: psutil.Process) -> int | None:
    with suppress(ProcessLookupError):
        return os.getpgid(process.pid)
    return None


def test_commands_try_both_engines_in_both_ways() -> None:
    addresses = [c.text.split("_ADDRESS=")[1].split()[0] for c in CLUSTERS]
    assert addresses == ["local", "local", "tcp://127.0.0.1:8786", "127.0.0.1:6379"]


@pytest.mark.parametrize("command", OTHERS, ids=lambda c: c.id)
def test_other_commands_are_targets_of_make(command: Command) -> None:
    """tests/packaging executes `make run`; these tests are `make test`."""
    for line in command.text.splitlines():
        assert line.startswith("make ")
        subprocess.run(["make", "-n", *line.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.id)
def test_programs_of_the_pages_run(program: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pages_name_no_absolute_folder() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(work|home|root|tmp)/", page.read_text()), page.name
        assert isinstance(page, Path)
