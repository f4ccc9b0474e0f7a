"""Runs that are too long to wait for, where they are not accepted in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.errors import EstimateTooLongError
from hotloop.app.names import StrategyName
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.wiring import Services, open_services

HOURS = RunRequest(items_count=50_000)
ROWS = b"item_id,value,offset\n" + b"".join(b"%d,0.5,7\n" % n for n in range(500))
UPLOAD = UploadQuery(strategy=StrategyName.SEQUENTIAL, db="simulated")


async def _chunks() -> AsyncIterator[bytes]:
    yield ROWS


async def refusals(services: Services) -> list[str]:
    """Return the refusals of a long run and a long upload; check that nothing of them is left."""
    texts = []
    for work in (
        services.runs.run(StrategyName.SEQUENTIAL, HOURS, "key"),
        services.runs.run_upload(UPLOAD, "text/csv", _chunks(), "key"),
    ):
        with pytest.raises(EstimateTooLongError) as raised:
            await work
        texts.append(str(raised.value))
    assert (await services.tasks.page(None, None, None, 10, 0)).total == 0
    return texts


def run(folder: Path, scenario: Any, **settings: Any) -> None:
    async def inner() -> None:
        made = Settings(data_dir=folder, run_hosts=1, **settings)
        async with open_services(made) as services:
            await scenario(services)

    asyncio.run(inner())
    assert list((folder / "uploads").iterdir()) == []


def test_service_that_refuses_long_runs_says_how_to_have_them(tmp_path: Path) -> None:
    async def scenario(services: Services) -> None:
        for text in await refusals(services):
            assert "over the limit of 300 s" in text
            assert "Ask for it in the background (Prefer: respond-async)" in text

    run(tmp_path, scenario, long_runs="refuse")


def test_long_run_is_accepted_only_where_a_process_executes_it(tmp_path: Path) -> None:
    async def scenario(services: Services) -> None:
        for text in await refusals(services):
            assert "over the limit of 300 s" in text
            assert "no process executes background tasks here" in text
            assert "HOTLOOP_BACKGROUND_RUNS" in text
        node = NodeStore(services.store.engine, "node", "node")
        node.beat()
        found = await services.runs.run(StrategyName.SEQUENTIAL, HOURS)
        assert isinstance(found, AcceptedRun)
        await services.tasks.cancel(found.task_id)

    run(tmp_path, scenario, background_runs=0)
