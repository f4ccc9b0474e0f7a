"""Files of calibrations, whole or not at all, and results of their runs, stored and removed."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from hotloop.app.database.engine import reading
from hotloop.app.errors import RunHostDiedError
from hotloop.app.prediction.calibration_file import (
    NAME,
    Calibrated,
    fingerprint,
    load,
    save,
    stored_results,
)
from hotloop.app.prediction.machine import host_facts
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.messages import Batches
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import results, tasks
from tests.execution.test_run_body import batch
from tests.fixtures.calibrations import REPORTS, report, usual

MADE = Calibrated(usual(), datetime(2026, 1, 1, tzinfo=UTC), "0123456789abcdef")
CONFIG = RunHostConfig(8, 2, 2, 60.0)


def test_saved_calibration_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, MADE)
    assert load(tmp_path) == MADE
    save(tmp_path, replace(MADE, fingerprint="f" * 16))
    found = load(tmp_path)
    assert found is not None
    assert found.fingerprint == "f" * 16
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_missing_file_loads_as_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, MADE)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hotloop.app.prediction.calibration_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, replace(MADE, fingerprint="f" * 16))
    assert load(tmp_path) == MADE
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def changed(text: str, *path: Any, value: Any) -> str:
    values = json.loads(text)
    inner = values
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "7",
        lambda text: "{}",
        lambda text: text.replace("usable_cpus", "unusable_cpus"),
        lambda text: changed(text, "calibrated_at", value="yesterday"),
        lambda text: changed(text, "calibration", "kernels", value=7),
        lambda text: changed(text, "calibration", "kernels", 0, "sizes", value=[]),
        lambda text: changed(text, "calibration", "kernels", 0, "sizes", value=[1, 2]),
        lambda text: changed(text, "calibration", "waits", "async_item_seconds", value=-1.0),
        lambda text: changed(text, "calibration", "base_bytes", value=float("inf")),
        lambda text: changed(text, "calibration", "base_bytes", value="much"),
        lambda text: changed(text, "calibration", "strategies", value={}),
        lambda text: changed(text, "calibration", "loops", "hybrid", "item_seconds", value=[1.0]),
        lambda text: changed(text, "calibration", "loops", "hybrid", "stage_seconds", value=[]),
    ],
    ids=range(16),
)
def test_damaged_file_loads_as_none(tmp_path: Path, damage: Any) -> None:
    save(tmp_path, MADE)
    path = tmp_path / NAME
    path.write_text(damage(path.read_text()))
    assert load(tmp_path) is None


def test_binary_file_loads_as_none(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")
    assert load(tmp_path) is None


FACTS = host_facts(REPORTS, None)


@pytest.mark.parametrize("name", ["cpu", "gil", "memory_bytes", "python", "usable_cpus"])
def test_another_machine_has_another_fingerprint(name: str) -> None:
    assert fingerprint(FACTS | {name: "other"}, REPORTS, CONFIG) != fingerprint(
        FACTS, REPORTS, CONFIG
    )


@pytest.mark.parametrize("name", ["hotloop", "numba", "numpy"])
def test_another_version_has_another_fingerprint(name: str) -> None:
    other = FACTS | {"versions": FACTS["versions"] | {name: "0.0"}}
    assert fingerprint(other, REPORTS, CONFIG) != fingerprint(FACTS, REPORTS, CONFIG)


def test_fingerprint_depends_on_kernels_and_limits_but_not_on_measurements() -> None:
    mark = fingerprint(FACTS, REPORTS, CONFIG)
    assert len(mark) == 16
    slower = [report(r.kernel, 7.0) for r in REPORTS]
    busy = FACTS | {"load_before": 9.0}
    assert fingerprint(busy, slower, CONFIG) == mark
    fewer = [*REPORTS[:2], report("numba", available=False)]
    assert fingerprint(FACTS, fewer, CONFIG) != mark
    other_set = [replace(r, instruction_set="avx2") for r in REPORTS]
    assert fingerprint(FACTS, other_set, CONFIG) != mark
    assert fingerprint(FACTS, REPORTS, replace(CONFIG, max_worker_threads=9)) != mark
    assert fingerprint(FACTS, REPORTS, replace(CONFIG, max_worker_processes=9)) != mark


def counted(store: TaskStore) -> tuple[int, int]:
    """Tasks, and items with a stored result."""
    with reading(store.engine) as connection:
        rows = connection.scalar(select(func.coalesce(func.sum(results.c["count"]), 0)))
        return connection.scalar(select(func.count()).select_from(tasks)) or 0, rows or 0


@pytest.mark.parametrize("error", [None, RunHostDiedError(None)])
def test_results_of_calibrating_runs_are_stored_and_removed(
    tmp_path: Path, error: Exception | None
) -> None:
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
