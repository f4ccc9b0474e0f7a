"""Claims: a node gets what it can execute, a bad row fails alone, beginnings are bounded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hotloop.app.database.engine import FILE_NAME, reading, writing
from hotloop.app.names import StrategyName, TaskKind, TaskStatus
from hotloop.app.tasks import rows
from hotloop.app.tasks.claims import Claim, claim, put_back
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.rows import FAILED_BEGINNING, FREE_BEGINNINGS, MAX_BEGINNINGS
from hotloop.app.tasks.spec import SPEC_VERSION
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import shards, tasks
from tests.fixtures.executions import Execution, queued, summary
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import Queues, Work, put

ABLE = Abilities(
    frozenset(
        {"workload:loops", "kernel:loops/numba", "kernel:loops/python"}
        | {f"strategy:{name}" for name in StrategyName}
        | {f"kind:{kind}" for kind in TaskKind}
    ),
    run_bytes=1 << 30,
)


def able(**changes: Any) -> Abilities:
    """The abilities of ABLE, with nothing learnt from other tests."""
    return Abilities(**{"names": ABLE.names, "run_bytes": ABLE.run_bytes, **changes})


def change(store: TaskStore, ref: ShardRef, **values: Any) -> None:
    """Change a task's row, and have its needs worked out anew."""
    with writing(store.engine) as connection:
        connection.execute(update(tasks).where(tasks.c.task_id == ref.task_id).values(**values))
        of_task = shards.c.task_id == ref.task_id
        connection.execute(update(shards).where(of_task).values(needs=None, needs_bytes=None))


def change_shard(store: TaskStore, ref: ShardRef, **values: Any) -> None:
    with writing(store.engine) as connection:
        of_task = shards.c.task_id == ref.task_id
        connection.execute(update(shards).where(of_task).values(**values))


def taken(store: TaskStore, abilities: Abilities | None = None) -> ShardRef | None:
    claimed = claim(store.engine, "here:1", None, abilities)
    return None if claimed is None else claimed.shard.ref


@pytest.mark.parametrize(
    "strange",
    [
        {"workload": "newer"},
        {"kernel": "newer"},
        {"strategy": "newer"},
        {"kind": "newer"},
        {"spec": {"version": SPEC_VERSION + 1}},
        {"spec": {"db": "newer"}},
    ],
    ids=str,
)
def test_unknown_task_waits_and_the_next_begins(store: TaskStore, strange: dict[str, Any]) -> None:
    odd, good = put(store, 2)
    change(store, odd, **strange)
    assert taken(store, able()) == good
    assert taken(store, able()) is None
    assert store.status(odd.task_id) is TaskStatus.PENDING
    if "workload" in strange:
        return  # none of the processes here could execute it
    newer = frozenset(
        {"workload:newer", "kernel:newer/numba", "kernel:loops/newer", "strategy:newer"}
        | {"kind:newer", f"spec:{SPEC_VERSION + 1}", "db:newer"}
    )
    assert taken(store, able(names=newer | (ABLE.names or frozenset()))) == odd


@pytest.mark.parametrize(
    "strange",
    [{"workload": "gone"}, {"result_columns": "nothing"}],
    ids=str,
)
def test_task_that_cannot_begin_fails_and_the_next_begins(
    store: TaskStore, strange: dict[str, Any]
) -> None:
    odd, good = put(store, 2)
    change(store, odd, **strange)
    assert taken(store) == good
    task = store.get(odd.task_id)
    assert task.status is TaskStatus.FAILED
    assert task.error_message
    assert task.end_time is not None
    assert queued(store) == [good]


def test_rows_with_a_damaged_spec_and_an_unknown_state_keep_no_other_waiting(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    damaged, unknown, good = put(store, 3)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE tasks SET spec = '{' WHERE task_id = ?", [damaged.task_id])
        connection.execute("UPDATE tasks SET status = 'newer' WHERE task_id = ?", [unknown.task_id])
        connection.execute(
            "UPDATE shards SET status = 'newer' WHERE task_id = ?", [unknown.task_id]
        )
        connection.commit()
    assert [taken(store), taken(store), taken(store)] == [damaged, good, None]
    assert queued(store) == [damaged, good]
    assert len(store.page(limit=9).tasks) == 3
    assert store.get(damaged.task_id).spec == {}
    store.close()


def test_needs_of_an_older_store_are_worked_out_once(store: TaskStore) -> None:
    old, good = put(store, 2)
    change(store, old, kernel="cython")
    assert taken(store, able()) == good
    with reading(store.engine) as connection:
        needs = select(shards.c.needs).where(shards.c.task_id == old.task_id)
        assert "kernel:loops/cython" in str(connection.scalar(needs))


def test_node_with_little_memory_leaves_large_tasks_to_others(store: TaskStore) -> None:
    large, small = put(store, 2)
    change_shard(store, large, needs_bytes=2 << 30)
    change_shard(store, small, needs_bytes=1 << 30)
    assert taken(store, able()) == small
    assert taken(store, able()) is None
    assert taken(store, able(run_bytes=2 << 30)) == large


def test_queue_takes_what_its_node_can_do(queues: Queues, store: TaskStore) -> None:
    work = Work(store)
    odd, good = put(store, 2)
    change(store, odd, kernel="cython")
    queues.launch(work, abilities=able())
    wait_until(lambda: work.ended == [good], "the one that fits is done")
    assert work.began == [good]


# --- beginnings -----------------------------------------------------------------------------


def lost(store: TaskStore, abilities: Abilities | None = None) -> Claim | None:
    """Begin a shard, and lose the node that does."""
    claimed = claim(store.engine, "dead:1", None, abilities)
    put_back(store.engine, "dead:1")
    return claimed


def test_task_that_takes_its_node_along_ends_after_a_bounded_number_of_beginnings(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FREE_BEGINNINGS", MAX_BEGINNINGS)  # no pauses
    deadly, other = put(store, 1, shards=2)
    began = [lost(store) for _ in range(MAX_BEGINNINGS)]
    assert {one.shard.ref for one in began if one} == {deadly}
    assert lost(store) is None
    task = store.get(deadly.task_id)
    assert (task.status, task.error_code) == (TaskStatus.FAILED, "TooManyBeginningsError")
    assert f"attempt {MAX_BEGINNINGS}" in str(task.error_message)
    assert task.end_time is not None
    assert queued(store) == []
    assert deadly.task_id == other.task_id
    resumed = store.shards.resume(deadly.task_id)
    again = lost(store)
    assert again is not None
    assert again.shard.ref in resumed
    assert again.shard.beginnings == 1


def test_pauses_between_beginnings_let_other_tasks_go_first(store: TaskStore) -> None:
    deadly, other = put(store, 2)
    began = [lost(store) for _ in range(FREE_BEGINNINGS + 1)]
    assert {one.shard.ref for one in began if one} == {deadly}
    assert taken(store) == other
    assert taken(store) is None
    with reading(store.engine) as connection:
        retry_at = connection.scalar(
            select(shards.c.retry_at).where(shards.c.task_id == deadly.task_id)
        )
    assert retry_at is not None
    change_shard(store, deadly, retry_at=(retry_at or 0) + 3_600)  # as after a jump of the clock
    assert taken(store) == deadly


def test_progress_sets_the_beginnings_back(store: TaskStore, result: Any) -> None:
    put(store)
    lost(store)
    claimed = claim(store.engine, "here:1")
    assert claimed is not None
    assert claimed.shard.beginnings == 2
    execution = Execution(store, claimed.shard)
    execution.add()
    assert store.shards.of_task(claimed.task.task_id)[0].beginnings == 2
    execution.add(result(0, 1))
    assert store.shards.of_task(claimed.task.task_id)[0].beginnings == 0


def test_beginnings_of_a_process_that_stops_do_not_count(queues: Queues, store: TaskStore) -> None:
    work = Work(store)
    work.go.clear()
    (ref,) = put(store)
    for _ in range(3):
        work.began.clear()
        work.stopping.clear()
        queue = queues.launch(work)
        wait_until(lambda: work.began == [ref], "it has begun")
        queue.take_no_more()
        work.stopping.set()
        queue.close()
    (shard,) = store.shards.of_task(ref.task_id)
    assert (shard.attempt, shard.beginnings) == (3, 0)
    assert taken(store) == ref


@pytest.mark.parametrize("counts_as", [0, 1, FAILED_BEGINNING])
def test_released_execution_counts_the_given_beginnings(store: TaskStore, counts_as: int) -> None:
    (ref,) = put(store)
    for _ in range(2):
        claimed = claim(store.engine, "here:1")
        assert claimed is not None
        attempt = claimed.shard.attempt
        store.shards.give_back(ref, attempt, {}, 0, counts_as=counts_as, needs_bytes=7)
    (shard,) = store.shards.of_task(ref.task_id)
    assert (shard.beginnings, shard.needs_bytes) == (2 * counts_as, 7)


def test_task_of_an_unknown_kind_can_be_cancelled(store: TaskStore) -> None:
    (odd,) = put(store)
    change(store, odd, workload="newer", strategy="newer", kind="newer", spec={"version": 99})
    store.shards.cancel(odd.task_id, summary)
    assert store.status(odd.task_id) is TaskStatus.CANCELLED
    store.delete(odd.task_id)
