"""tasks.work_queue: the queue among processes, with limits, deaths, and processes that return."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import NodeProcesses
from tests.tasks.queue_fixtures import put as accept_tasks

pytestmark = pytest.mark.long

Put = Callable[[int], list[ShardRef]]


@pytest.fixture
def put(store: TaskStore) -> Put:
    """Has so many tasks accepted by this process, which executes none."""
    return partial(accept_tasks, store)


def most_at_once(events: list[list[str]], name: str | None = None) -> int:
    running = most = 0
    for who, what, *_ in events:
        if name in (None, who):
            # What ends is no more counted before others can know.
            running += {"began": 1, "ending": -1, "handed-over": -1}.get(what, 0)
            most = max(most, running)
    return most


def names(some: list[ShardRef]) -> list[str]:
    return sorted(str(ref) for ref in some)


def test_limits_hold_for_each_node_and_for_all(processes: NodeProcesses, put: Put) -> None:
    processes.hold.touch()
    for name in ("a", "b"):
        processes.start(name, concurrency=2, total_concurrency=3)
    work = put(12)
    wait_until(lambda: len(processes.said(None, "began")) == 3, "three have begun")
    processes.hold.unlink()
    wait_until(lambda: len(processes.said(None, "ended")) == 12, "all is done")
    events = processes.events()
    assert most_at_once(events) == 3
    assert most_at_once(events, "a") <= 2
    assert most_at_once(events, "b") <= 2
    assert sorted(processes.said(None, "ended")) == names(work)


def test_work_of_a_killed_process_is_adopted(processes: NodeProcesses, put: Put) -> None:
    processes.hold.touch()
    processes.start("a")
    work = put(6)
    wait_until(lambda: len(processes.said("a", "began")) == 2, "two have begun")
    processes.start("b")
    wait_until(lambda: len(processes.said("b", "began")) == 2, "two more have begun")
    processes.processes["a"].kill()
    wait_until(lambda: len(processes.said("b", "adopted")) == 2, "they are adopted")
    assert sorted(processes.said("b", "adopted")) == sorted(processes.said("a", "began"))
    processes.hold.unlink()
    wait_until(lambda: len(processes.said("b", "ended")) == 6, "all is done")
    assert sorted(processes.said(None, "ended")) == names(work)
    begun = Counter(processes.said(None, "began"))
    assert sorted(begun.values()) == [1, 1, 1, 1, 2, 2]


def test_work_is_done_after_all_processes_were_killed(processes: NodeProcesses, put: Put) -> None:
    processes.hold.touch()
    for name in ("a", "b"):
        processes.start(name)
    work = put(5)
    wait_until(lambda: len(processes.said(None, "began")) == 4, "four have begun")
    processes.kill()
    processes.hold.unlink()
    processes.start("c")
    wait_until(lambda: len(processes.said("c", "ended")) == 5, "all is done")
    assert sorted(processes.said("c", "ended")) == names(work)
    assert set(processes.said(None, "began")) >= set(processes.said("c", "adopted"))


def test_process_that_stops_hands_its_work_to_another_one_at_once(
    processes: NodeProcesses, put: Put
) -> None:
    processes.hold.touch()
    processes.start("a")
    (work,) = put(1)
    wait_until(lambda: processes.said("a", "began"), "it has begun")
    processes.start("b")
    processes.stop("a")
    wait_until(lambda: processes.said("b", "began"), "the other one has begun it")
    processes.hold.unlink()
    wait_until(lambda: processes.said("b", "ended") == [str(work)], "it is done")
    assert processes.said("a", "handed-over") == [str(work)]
    assert processes.said("a", "ended") == []


def freeze(processes: NodeProcesses, name: str, engine: Engine) -> None:
    """SIGSTOP, but not in a transaction, which would keep others waiting."""
    process = processes.processes[name]

    def is_frozen() -> bool:
        process.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "it has stopped"
        )
        if nobody_writes(engine):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    wait_until(is_frozen, "it is frozen outside of a transaction")


def nobody_writes(engine: Engine) -> bool:
    with closing(sqlite3.connect(engine.url.database or "", timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


# Nodes over PostgreSQL are frozen by tests/chaos.
ON_SQLITE = pytest.mark.parametrize("location", ["sqlite"], indirect=True)


@ON_SQLITE
def test_frozen_process_that_comes_back_learns_that_it_was_declared_dead(
    processes: NodeProcesses, put: Put, engine: Engine
) -> None:
    processes.hold.touch()
    processes.start("a", concurrency=1)
    (work,) = put(1)
    wait_until(lambda: processes.said("a", "began"), "it has begun")
    processes.start("b", concurrency=1, dead_seconds=3)
    freeze(processes, "a", engine)
    wait_until(lambda: processes.said("b", "began"), "the other one has begun it")
    processes.processes["a"].send_signal(signal.SIGCONT)
    wait_until(lambda: processes.said("a", "closed"), "the first is down")
    assert processes.said("a", "dead") == [""]
    processes.hold.unlink()
    wait_until(lambda: processes.said("b", "ended") == [str(work)], "it is done")
    wait_until(lambda: not processes.processes["a"].is_alive, "the first has ended")
    assert processes.said("a", "ended") == []


@ON_SQLITE
def test_frozen_process_that_ends_its_work_too_late_does_not_wait_for_the_other(
    processes: NodeProcesses, put: Put, engine: Engine, tmp_path: Path
) -> None:
    """The late end is refused, and the process can stop."""
    processes.hold.touch()
    processes.start("a", concurrency=1)
    put(1)
    wait_until(lambda: processes.said("a", "began"), "it has begun")
    freeze(processes, "a", engine)
    processes.start("b", concurrency=1, dead_seconds=3)
    wait_until(lambda: processes.said("b", "began"), "the other one has begun it")
    freeze(processes, "b", engine)
    processes.hold.unlink()
    processes.processes["a"].send_signal(signal.SIGCONT)
    wait_until(lambda: not processes.processes["a"].is_alive, "the first has ended")
    assert processes.said("a", "closed") == [""]
    processes.processes["b"].send_signal(signal.SIGCONT)
    wait_until(lambda: processes.said("b", "closed") or processes.said("b", "ended"), "it goes on")
