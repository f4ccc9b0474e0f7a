"""Servers: one that tests share and leave as it was, and those that a test starts itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.source import LOG_VARIABLE, WAIT_VARIABLE
from tests.fixtures.postgres_server import RunningPostgres, running_postgres
from tests.fixtures.server import ROOT, Server, running_server

SOURCES = '{"counted": "tests.chaos.source:make", "deadly": "tests.chaos.source:make_deadly"}'


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data")) as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="package")
def postgres() -> Iterator[RunningPostgres]:
    with running_postgres() as server:
        yield server


Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "computed"


@pytest.fixture
def start(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a service; all services of a test share a data folder."""
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    monkeypatch.setenv(WAIT_VARIABLE, "0.03")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "data"
    folder.mkdir()
    return partial(running_server, folder, run_hosts=1, sources=SOURCES)
