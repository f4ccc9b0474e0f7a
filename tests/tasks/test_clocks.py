"""tasks.nodes: when the clock jumps, nodes may adopt each other, but nothing is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest
from sqlalchemy import Engine, text

from hotloop.app.database.engine import writing
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import NodeProcesses, put

pytestmark = pytest.mark.long

HOUR: Final = 3_600.0
OPTIONS: Final[dict[str, Any]] = {"dead_seconds": 5.0, "shifted_clock": True}


def execute(engine: Engine, statement: str, **values: object) -> None:
    with writing(engine) as connection:
        connection.execute(text(statement), values)


@pytest.fixture
def busy(processes: NodeProcesses, store: TaskStore, engine: Engine) -> list[ShardRef]:
    """The nodes `a` and `b`, which execute two shards each of six that are accepted, and have been
    up for long enough to take a silent one for dead.
    """
    execute(engine, "CREATE TABLE clock_shift (seconds DOUBLE PRECISION)")
    execute(engine, "INSERT INTO clock_shift VALUES (0)")
    processes.hold.touch()
    processes.start("a", **OPTIONS)
    processes.start("b", **OPTIONS)
    work = put(store, 6)
    wait_until(lambda: len(processes.said(None, "began")) == 4, "both are at work")
    execute(
        engine,
        "INSERT INTO nodes SELECT 'silent:1', host, 'elsewhere', pid, owner, role, joined_at,"
        " beat_at, NULL FROM nodes WHERE node_id LIKE 'a:%'",
    )
    wait_until(lambda: "silent:1" not in beats(engine), "a silent node is taken for dead")
    assert processes.said(None, "dead") == []
    return work


def beats(engine: Engine) -> dict[str, float]:
    """The last heartbeat of each node that is listed, by the clock that jumps."""
    return {node.node_id: node.beat_at for node in NodeStore(engine, "test:1", "test").list()}


def jump(engine: Engine, seconds: float) -> None:
    """And see that every node that is listed has noticed."""
    before = beats(engine)
    execute(engine, "UPDATE clock_shift SET seconds = :seconds", seconds=seconds)
    wait_until(
        lambda: all(abs(at - before[node]) > HOUR / 2 for node, at in beats(engine).items()),
        "all that are listed have said that they live",
    )


def assert_done_once(processes: NodeProcesses, store: TaskStore, work: list[ShardRef]) -> None:
    processes.hold.unlink()
    wait_until(lambda: len(processes.said(None, "ended")) >= len(work), "all is done")
    assert sorted(processes.said(None, "ended")) == sorted(map(str, work))
    assert {store.status(ref.task_id) for ref in work} == {TaskStatus.COMPLETED}


def test_clock_jump_forward_costs_one_node_its_work(
    processes: NodeProcesses, store: TaskStore, engine: Engine, busy: list[ShardRef]
) -> None:
    jump(engine, HOUR)
    assert_done_once(processes, store, busy)
    adopted = processes.said(None, "adopted")
    assert len(adopted) <= 2
    if adopted:
        wait_until(lambda: processes.said(None, "dead"), "one learns that it was taken for dead")
    assert len(processes.said(None, "dead")) == bool(adopted)
    # Begun again is at most what the dead one had: it may have claimed more before it learned.
    dead = next((who for who, said, *_ in processes.events() if said == "dead"), None)
    begun = Counter(processes.said(None, "began"))
    again = {ref for ref, times in begun.items() if times > 1}
    assert again <= (set(processes.said(dead, "began")) if dead else set())


def test_clock_jump_back_declares_only_dead_nodes_dead(
    processes: NodeProcesses, store: TaskStore, engine: Engine, busy: list[ShardRef]
) -> None:
    jump(engine, -HOUR)
    assert len(beats(engine)) == 2
    assert processes.said(None, "dead") == []
    processes.processes["a"].kill()
    wait_until(lambda: len(processes.said("b", "adopted")) == 2, "its work is adopted")
    assert_done_once(processes, store, busy)
