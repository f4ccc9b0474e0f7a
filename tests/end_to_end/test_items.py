"""`sources.row_file`: uploads of background tasks reach nodes that share a database but no disk."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.fixtures.plans import SMALL
from tests.fixtures.postgres_server import RunningPostgres
from tests.fixtures.server import running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ROWS = 20_000
TASKS = 2


def rows_and_checksum() -> tuple[bytes, str]:
    """Make an upload, and the checksum of one direct kernel call over its rows."""
    ids = np.arange(ROWS)
    columns = {"value": (ids % 1_000) / 8, "offset": ids * 7}
    rows = zip(ids.tolist(), *(column.tolist() for column in columns.values()), strict=True)
    content = "item_id,value,offset\n" + "".join(f"{i},{v},{o}\n" for i, v, o in rows)
    outputs = kernels.get_kernel("loops", "python").run(columns, SMALL)
    return content.encode(), checksum_text(rows_checksum(ids, outputs))


def uploads(folder: Path) -> list[str]:
    return [path.name for path in (folder / "uploads").iterdir()]


def test_concurrent_shards_compute_the_items_of_an_upload(
    postgres: RunningPostgres, tmp_path: Path
) -> None:
    content, expected = rows_and_checksum()
    accepting, executing = tmp_path / "accepting", tmp_path / "executing"
    for folder in (accepting, executing):
        folder.mkdir()
    query: dict[str, Any] = {
        "strategy": "sequential",
        "kernel": "python",
        "batch_size": 1_000,
        **SMALL,
    }
    with (
        postgres.database() as url,
        running_server(
            accepting,
            database_url=url,
            shard_items=1_000,
            sync_limit_seconds=0.1,
        ) as api,
        running_server(executing, database_url=url, background_runs=2),
    ):
        barrier = threading.Barrier(TASKS)

        def accepted(_: int) -> str:
            barrier.wait()
            answer = api.upload(content, **query)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["task_id"])

        with ThreadPoolExecutor(TASKS) as pool:
            ids = list(pool.map(accepted, range(TASKS)))
        results = [api.ended(task_id) for task_id in ids]
        assert {done["result"]["checksum"] for done in results} == {expected}
        assert all(done["shards"]["total"] > 10 for done in results)
        # Maintenance, every 30 s, empties both folders once the tasks have ended.
        wait_until(lambda: not uploads(executing), "the copies of the node are gone", 60, 0.1)
        wait_until(lambda: not uploads(accepting), "what came in is gone", 60, 0.1)
        with postgres.connect(url.rsplit("/", 1)[1]) as connection:
            assert connection.execute("select count(*) from inputs").fetchall() == [(0,)]
