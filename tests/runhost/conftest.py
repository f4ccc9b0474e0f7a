"""Run hosts for tests: one shared by those that leave it alive, or fresh ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.config import RunHostConfig

CONFIG = RunHostConfig(
    max_worker_threads=8,
    max_worker_processes=2,
    usable_cpus=2,
    pool_idle_seconds=300.0,
)


async def start_host(
    config: RunHostConfig = CONFIG, cancel_grace_seconds: float = 1.0
) -> RunHostClient:
    return await RunHostClient.start(config, dict(os.environ), cancel_grace_seconds)


@pytest.fixture(scope="package")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def host(runner: asyncio.Runner) -> Iterator[RunHostClient]:
    client = runner.run(start_host())
    yield client
    runner.run(client.kill())
