"""A clock that jumps makes no task old, in one process or between two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hotloop.app.tasks import nodes as nodes_module
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.upkeep import DOUBT_SECONDS, STEP_SECONDS, SteadyClock

DAY = 86_400.0


class Clock:
    """The database's clock, as the test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.set(1_700_000_000.0)

    def set(self, seconds: float) -> None:
        self.seconds = seconds
        for dialect in ("sqlite", "postgresql"):
            self._patch.setitem(nodes_module._NOW, dialect, f"{seconds!r}")

    def move(self, seconds: float) -> None:
        self.set(self.seconds + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """SQLite; the statements are the same for each database."""
    return tmp_path


def seen(steady: SteadyClock) -> float | None:
    now = steady.now()
    return None if now is None else now.timestamp()


def test_clock_that_moves_on_steadily_is_believed(store: TaskStore, clock: Clock) -> None:
    steady = SteadyClock(store.engine)
    for _ in range(3):
        assert seen(steady) == clock.seconds
        clock.move(60)
    # A restart that takes some minutes is no jump.
    clock.move(STEP_SECONDS / 2)
    assert seen(SteadyClock(store.engine)) == clock.seconds


@pytest.mark.parametrize("restarts", [False, True])
def test_clock_that_jumped_ahead_is_believed_after_a_steady_day(
    store: TaskStore, clock: Clock, restarts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    steady = SteadyClock(store.engine)
    assert seen(steady) is not None
    clock.move(10 * DAY)
    if restarts:
        steady = SteadyClock(store.engine)
    assert seen(steady) is None
    assert "old tasks are not removed for a day" in caplog.text
    for _ in range(int(DOUBT_SECONDS / 500)):
        clock.move(500)
        assert seen(steady) is None
    clock.move(500)
    assert seen(steady) == clock.seconds


def test_clock_that_was_put_right_is_believed_at_once(store: TaskStore, clock: Clock) -> None:
    steady = SteadyClock(store.engine)
    assert seen(steady) is not None
    clock.move(10 * DAY)
    assert seen(steady) is None
    clock.move(-10 * DAY + 60)
    assert seen(steady) == clock.seconds


def test_first_look_at_an_older_store_counts_from_its_newest_task(
    store: TaskStore, clock: Clock, new_task: Callable[..., Task]
) -> None:
    task = new_task()
    store.create(task)
    clock.set(task.created_at.timestamp() + 10 * DAY)
    assert seen(SteadyClock(store.engine)) is None
