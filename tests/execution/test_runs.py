"""Synchronous runs and comparisons that the store does not take."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from hotloop.app.comparison.service import ComparisonService
from hotloop.app.errors import StoreError
from hotloop.app.execution.inputs import GeneratedInput
from hotloop.app.execution.runs import RunService
from hotloop.app.names import StrategyName
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import new_task_id
from hotloop.app.tasks.store import TaskStore, open_store
from tests.fixtures.plans import make_plan


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    """On a disk that is full."""
    store = open_store(tmp_path)

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise DBAPIError.instance("", (), error, sqlite3.Error)

    event.listen(store.engine, "commit", full)
    yield store
    event.remove(store.engine, "commit", full)
    store.close()


@pytest.fixture
def context(store: TaskStore, tmp_path: Path) -> Any:
    metrics = SimpleNamespace(run_ended=lambda *_: None, comparison_ended=lambda *_: None)
    return SimpleNamespace(store=store, folder=DataFolder(tmp_path), node="this", metrics=metrics)


def test_run_that_the_store_does_not_take_ends_with_the_stores_reason(context: Any) -> None:
    missing: Any = None
    service = RunService(context, missing, missing)
    plan, request = make_plan(StrategyName.SEQUENTIAL), RunRequest(items_count=10)

    async def run() -> object:
        return await service.supervise(
            new_task_id(),
            lambda active: service._drive(
                active, plan, request, GeneratedInput(10), None, 1.0, None, None
            ),
        )

    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(run())


def test_comparison_that_the_store_does_not_take_ends_without_another_error(context: Any) -> None:
    missing: Any = None
    service = ComparisonService(context, missing, missing)
    service._end_unbegun(new_task_id(), None, StoreError("the disk is full"))
