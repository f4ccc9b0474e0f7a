"""Results of calibrating runs are stored like any others, and nothing of them is left."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hotloop.app.errors import RunHostDiedError
from hotloop.app.prediction.calibration_results import stored_results
from hotloop.app.runhost.messages import Batches
from hotloop.app.tasks.engine import reading
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import results, tasks
from tests.execution.test_run_body import batch


def counted(store: TaskStore) -> tuple[int, int]:
    """Tasks, and items with a stored result."""
    with reading(store.engine) as connection:
        rows = connection.scalar(select(func.coalesce(func.sum(results.c["count"]), 0)))
        return connection.scalar(select(func.count()).select_from(tasks)) or 0, rows or 0


@pytest.mark.parametrize("error", [None, RunHostDiedError(None)])
def test_each_run_is_stored_and_all_are_forgotten(tmp_path: Path, error: Exception | None) -> None:
    store = open_store(tmp_path)

    async def calibrate() -> None:
        async with stored_results(store, "node") as add:
            event = Batches((batch(0), batch(20), batch(10)))
            items = sum(result.batch.count for result in event.results)
            for runs in (1, 2):  # the second has the same positions
                await add(event)
                assert counted(store) == (1, runs * items)
            if error is not None:
                raise error

    with nullcontext() if error is None else pytest.raises(type(error)):
        asyncio.run(calibrate())
    assert counted(store) == (0, 0)
    store.close()
