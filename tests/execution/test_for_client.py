"""Recommendations as each client sees them, and the tasks that a client may delete."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotloop.app.errors import TaskNotFoundError
from hotloop.app.execution.for_client import ClientRecommendations, ClientTasks, Ownership
from hotloop.app.schemas.recommendation import PredictionRecord, Recommendation, RecommendationQuery
from hotloop.app.schemas.tasks import ClearedTasks
from hotloop.app.security.clients import ANYONE, Client, Scope
from tests.fixtures.recommendations import recommendation

OWNERS = {"task_0000000a_1": "key:alice", "task_0000000b_1": "key:bob", "task_0000000c_1": None}
GONE = "task_0000000d_1"
"""Removed since it was counted."""


class Everything:
    """A recommendation that rests on a run of each owner, and a store that knows them."""

    async def recommend(self, query: RecommendationQuery, base_url: str) -> Recommendation:
        found = recommendation()
        like: dict[str, Any] = {
            "strategy": "hybrid",
            "kernel": "numba",
            "predicted_seconds": 1.0,
            "measured_seconds": 1.0,
            "ratio": 1.0,
        }
        last = [
            PredictionRecord.model_validate(like | {"task_id": name}) for name in (*OWNERS, GONE)
        ]
        error = found.prediction_error.model_copy(update={"last": last, "runs": len(last)})
        return found.model_copy(update={"prediction_error": error})

    async def delete(self, task_id: str) -> ClearedTasks:
        return ClearedTasks(deleted=1)

    def client_of(self, task_id: str) -> str | None:
        if task_id == GONE:
            raise TaskNotFoundError(task_id)
        return OWNERS[task_id]


def recommend(client: Client) -> Recommendation:
    everything: Any = Everything()
    service = ClientRecommendations(everything, Ownership(everything, client))
    return asyncio.run(service.recommend(RecommendationQuery(), "http://x"))


def shown(client: Client) -> list[str]:
    return [one.task_id for one in recommend(client).prediction_error.last]


def test_runs_of_others_are_counted_and_not_named() -> None:
    alice = Client("alice", "key:alice", Scope.READ)
    assert shown(alice) == ["task_0000000a_1"]
    assert recommend(alice).prediction_error.runs == 4
    assert shown(ANYONE) == [*OWNERS, GONE]
    assert shown(Client("root", "key:root", Scope.ADMIN)) == [*OWNERS, GONE]


def test_task_of_another_client_is_not_deleted() -> None:
    everything: Any = Everything()
    own = Ownership(everything, Client("bob", "key:bob", Scope.RUN))
    for task_id in ("task_0000000a_1", "task_0000000c_1", GONE):
        with pytest.raises(TaskNotFoundError):
            asyncio.run(ClientTasks(everything, own).delete(task_id))
    deleted = asyncio.run(ClientTasks(everything, own).delete("task_0000000b_1"))
    assert deleted.deleted == 1
