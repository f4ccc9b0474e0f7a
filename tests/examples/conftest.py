"""Services that have the distribution examples/workloads installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.examples.workloads import FOLDER
from tests.fixtures.server import READY_SECONDS, Server, running_server
from tests.fixtures.waiting import wait_until

Start = Callable[[], AbstractContextManager[Server]]


def wait_loaded(server: Server) -> None:
    """Wait until the service is ready and has its own workloads."""
    server.wait_ready()

    def is_loaded() -> bool:
        own = server.client.get("/api/v1/tasks/kernels").json()["own_workloads"]
        return {each["state"] for each in own} == {"available"}

    wait_until(is_loaded, "own workloads are loaded", READY_SECONDS)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which `pip install` puts the distribution, without a registry."""
    copy, site = tmp_path_factory.mktemp("copy") / "workloads", tmp_path_factory.mktemp("site")
    # A build writes beside its sources.
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    pip = (sys.executable, "-m", "pip", "install", *offline)
    subprocess.run([*pip, "--target", str(site), str(copy)], check=True)
    return site


@pytest.fixture(scope="module")
def installed(site: Path) -> Iterator[None]:
    """Have processes that start now find the distribution."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(site))
        yield


@pytest.fixture(scope="module")
def server(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), run_hosts=1) as server:
        wait_loaded(server)
        yield server


@pytest.fixture
def start(installed: None, tmp_path: Path) -> Start:
    """Start a service; all services of a test share a data folder."""
    return partial(running_server, tmp_path, run_hosts=1)
