"""execution.small_tasks: small tasks that cannot be computed together are put back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hotloop.app.execution.small_tasks import SmallTaskService
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.small import Member, SmallClaims
from hotloop.app.tasks.store import open_store


async def at_once(call: Callable[..., Any], *args: object) -> Any:
    return call(*args)


def test_task_that_another_node_took_over_does_not_keep_the_others_from_being_put_back(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    made = [
        Task(
            task_id=new_task_id(),
            task_type="background",
            spec={},  # has no parameters, so that nothing is computed
            workload="loops",
            kernel="numba",
            strategy="sequential",
            total_items=1,
            created_at=utc_now(),
            owner="this",
        )
        for _ in range(2)
    ]
    members = [Member(task.task_id, 0, 1, None) for task in made]
    for task, member in zip(made, members, strict=True):
        store.create(task)
        store.shards.begin(member.ref, "this")
    store.shards.begin(members[0].ref, "other")

    async def execute() -> None:
        context: Any = SimpleNamespace(store=store)
        nothing: Any = None
        service = SmallTaskService(context, nothing, nothing)
        await service.execute(SmallClaims(made[0], members), at_once)

    asyncio.run(execute())
    nodes = [store.shards.of_task(task.task_id)[0].node for task in made]
    assert nodes == ["other", None]
    store.close()
