"""A server shared by the tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), background_runs=2) as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        yield server
