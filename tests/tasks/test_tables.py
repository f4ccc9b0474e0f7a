"""Stores that earlier versions have written are converted when this one opens them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select, update

from hotloop.app.comparison.specs import compare_request_of
from hotloop.app.database.engine import make_engine, reading, writing
from hotloop.app.execution.specs import request_of
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.results import ndjson_lines
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import OLDEST_VERSION, SCHEMA_VERSION, metadata, schema, shards, tasks
from tests.fixtures.executions import queued
from tests.fixtures.guarded import GuardedProcess
from tests.fixtures.refusals import refused
from tests.fixtures.waiting import wait_until
from tests.tasks.stores.opening import has_all, restore, said, shown

Location = Path | str

SAID = said(OLDEST_VERSION)

_INDEXES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
    "postgresql": "SELECT indexname FROM pg_indexes WHERE schemaname = 'public'",
}

_STORAGE = """
SELECT attstorage::text FROM pg_attribute
WHERE attrelid = 'results'::regclass AND attname = 'rows'
"""

_CONVERTS_FOR_EVER = """
import sys, threading
from pathlib import Path
from types import MappingProxyType
from hotloop.app.tasks import tables
from hotloop.app.tasks.store import open_store

def convert(connection, step=tables._STEPS[5]):
    step(connection)
    Path(sys.argv[2]).touch()
    threading.Event().wait()

tables._STEPS = MappingProxyType({**tables._STEPS, 5: convert})
location = sys.argv[1]
open_store(location if "://" in location else Path(location))
"""


@pytest.fixture
def earlier(location: Location, tmp_path: Path) -> Location:
    """The place of a store of the oldest schema that can be converted."""
    restore(OLDEST_VERSION, tmp_path, location if isinstance(location, str) else None)
    return location


def schema_of(location: Location) -> dict[str, Any]:
    """The schema's number, the indexes, by table its columns, and how PostgreSQL keeps results."""
    engine = make_engine(location, 1.0)
    with reading(engine) as connection:
        found = inspect(connection)
        shapes: dict[str, Any] = {"version": connection.scalar(select(schema.c.version))}
        for table in found.get_table_names():
            shapes[table] = {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            }
        names = connection.exec_driver_sql(_INDEXES[connection.dialect.name]).scalars()
        shapes["indexes"] = sorted(names)
        if connection.dialect.name == "postgresql":
            shapes["storage"] = connection.exec_driver_sql(_STORAGE).scalar()
    engine.dispose()
    return shapes


def set_version(location: Location, version: int) -> None:
    engine = make_engine(location, 1.0)
    with writing(engine) as connection:
        connection.execute(update(schema).values(version=version))
    engine.dispose()


def check_as_before(store: TaskStore) -> None:
    """Check that clients get the same answers about ended tasks as before."""
    for name, before in SAID.ended.items():
        task_id = SAID.tasks[name]
        assert has_all(shown(store, task_id), before["view"]), name
        reader = store.results(task_id)
        if before["results"] is None:
            assert reader is None or not reader.end()
        else:
            assert reader is not None
            lines = b"".join(ndjson_lines(reader.columns, reader.blocks())).decode()
            assert lines == before["results"], name
    assert {task.task_id for task in store.page(limit=100).tasks} == set(SAID.tasks.values())


def test_earlier_store_is_shown_as_its_own_version_showed_it(earlier: Location) -> None:
    for _ in range(2):  # the second time nothing is left to convert
        store = open_store(earlier)
        check_as_before(store)
        waiting = [ref.task_id for ref in queued(store)]
        store.close()
    names = ("interrupted run", "waiting run", "waiting upload", "waiting comparison")
    assert waiting == [SAID.tasks[name] for name in names]


def test_converted_schema_is_that_of_a_new_store(earlier: Location) -> None:
    store = open_store(earlier)
    NodeStore(store.engine, "here", "test").beat()
    converted = schema_of(earlier)
    with writing(store.engine) as connection:
        connection.exec_driver_sql("DROP TABLE nodes")
        metadata.drop_all(connection)
    store.close()
    store = open_store(earlier)
    NodeStore(store.engine, "here", "test")
    store.close()
    assert converted == schema_of(earlier)
    assert converted["version"] == SCHEMA_VERSION
    assert converted.get("storage") in (None, "e")  # kept apart from the row, and not compressed


def test_store_without_nodes_is_converted(earlier: Location) -> None:
    engine = make_engine(earlier, 1.0)
    with writing(engine) as connection:
        connection.exec_driver_sql("DROP TABLE nodes")
    engine.dispose()
    store = open_store(earlier)
    check_as_before(store)
    store.close()


def test_processes_that_open_an_earlier_store_at_once_convert_it_once(earlier: Location) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(open_store, [earlier] * 8))
    check_as_before(stores[0])
    for store in stores:
        store.close()


def test_killed_migration_leaves_the_store_unchanged(earlier: Location, tmp_path: Path) -> None:
    before, inside = schema_of(earlier), tmp_path / "inside"
    command = [sys.executable, "-c", _CONVERTS_FOR_EVER, str(earlier), str(inside)]
    killed = GuardedProcess(command)
    try:
        wait_until(inside.exists, "the other process is in the middle of it")
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(open_store, earlier)  # waits for the other process
            if isinstance(earlier, Path):  # PostgreSQL tells nothing of a table that is changed
                assert schema_of(earlier) == before
            assert not opening.done()
            killed.kill()
            store = opening.result(timeout=60)  # and converts it all
    finally:
        killed.kill()
    check_as_before(store)
    store.close()
    assert schema_of(earlier)["version"] == SCHEMA_VERSION


def test_step_that_fails_leaves_the_store_as_it_was(
    earlier: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema_of(earlier)
    with monkeypatch.context() as broken:
        broken.setattr("hotloop.app.tasks.tables.sa.update", None)  # after the last step
        with pytest.raises(TypeError):
            open_store(earlier)
    assert schema_of(earlier) == before
    store = open_store(earlier)
    check_as_before(store)
    store.close()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            SCHEMA_VERSION + 1,
            "the task store was made by a newer version of the service (its schema is "
            f"{SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}); start that version, or use "
            "another data folder",
        ),
        (
            4,
            "the task store was made before version 0.1.0 (its schema is 4; the oldest that can "
            "be converted is 5). No version converts it: let the version that made it finish its "
            "tasks, and use another data folder with this one",
        ),
    ],
)
def test_schema_that_cannot_be_used_is_refused_and_kept(
    location: Location, tmp_path: Path, new_task: Callable[..., Task], version: int, words: str
) -> None:
    store, task = open_store(location), new_task()
    store.create(task)
    store.close()
    set_version(location, version)
    before = schema_of(location)
    assert refused(lambda: open_store(location), tmp_path) == words
    assert schema_of(location) == before
    set_version(location, SCHEMA_VERSION)
    store = open_store(location)
    assert store.get(task.task_id) == task
    store.close()


KEYS_ARE_DATA = ("checksums", "instruction_sets", "rows", "versions")
"""Objects whose names are not fields."""


def with_more(stored: Any) -> Any:
    """Return the JSON with one more field in each object, as newer versions may store."""
    if isinstance(stored, list):
        return [with_more(entry) for entry in stored]
    if not isinstance(stored, dict):
        return stored
    more = {k: v if k in KEYS_ARE_DATA else with_more(v) for k, v in stored.items()}
    return more | {"later": {"unknown": 1}}


def test_unknown_stored_fields_are_ignored(tmp_path: Path) -> None:
    restore(OLDEST_VERSION, tmp_path)
    store = open_store(tmp_path)
    with writing(store.engine) as connection:
        for row in connection.execute(select(tasks)).all():
            failed = {"item_id": 1, "stage": "db", "reason": "gone"}
            measured = row.measurements and {**row.measurements, "errors": [failed]}
            values = {"spec": with_more(row.spec), "measurements": with_more(measured)}
            mine = tasks.c.task_id == row.task_id
            connection.execute(update(tasks).where(mine).values(**values))
        for shard in connection.execute(select(shards)).all():
            mine = shards.c.task_id == shard.task_id
            values = {"details": with_more(shard.details)}
            connection.execute(update(shards).where(mine).values(**values))
    for name, task_id in SAID.tasks.items():
        view = shown(store, task_id)
        if name in SAID.ended:
            before = SAID.ended[name]["view"]
            assert has_all(view | {"result": None}, before | {"result": None})
        task = store.get(task_id)
        is_run = task.kind != "comparison"
        read = request_of(task.spec, RunRequest) if is_run else compare_request_of(task.spec)
        assert read.workers == task.spec["workers"]
    running = SAID.tasks["interrupted run"]
    assert store.progress([running])[running] == (TaskStatus.RUNNING, 10)
    store.close()
