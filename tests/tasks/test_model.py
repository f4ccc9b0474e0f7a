"""tasks.model, with app.names, app.records: ids, states and moves of tasks."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.names import TaskStatus, is_task_id
from hotloop.app.tasks.model import FINISHED, MOVES, UNFINISHED, Task, may_become, new_task_id


def test_every_state_is_in_the_table_of_moves() -> None:
    assert set(MOVES) == set(TaskStatus)


def test_every_state_is_finished_or_not() -> None:
    assert {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED} == FINISHED
    assert {TaskStatus.PENDING, TaskStatus.RUNNING} == UNFINISHED


def test_finished_states_lead_back_to_pending_only_and_completed_nowhere() -> None:
    assert MOVES[TaskStatus.COMPLETED] == set()
    assert MOVES[TaskStatus.FAILED] == MOVES[TaskStatus.CANCELLED] == {TaskStatus.PENDING}


@pytest.mark.parametrize(
    ("status", "sources"),
    [
        ("pending", {"failed", "cancelled"}),
        ("running", {"pending", "running"}),
        ("completed", {"running"}),
        ("failed", {"pending", "running"}),
        ("cancelled", {"pending", "running"}),
    ],
)
def test_may_become(status: str, sources: set[str]) -> None:
    assert may_become(TaskStatus(status)) == sources


def test_new_task_id_is_random_and_has_the_time() -> None:
    before = int(time.time())
    ids = [new_task_id() for _ in range(100)]
    assert len(set(ids)) == 100
    for task_id in ids:
        assert is_task_id(task_id)
        word, digits, seconds = task_id.split("_")
        assert (word, len(digits)) == ("task", 24)
        assert before <= int(seconds) <= int(time.time())
        assert int(digits[:8], 16) == int(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task_",
        "task_0123abcd_",
        "task_0123ABCD_1",
        "task_0123abc_1",
        "task_0123abcdef_1",
        "task_0123abcd_1\n",
        " task_0123abcd_1",
        "task_0123abcd_١",
        "task_0123abcd_-1",
        "task_0123abcd_1/../..",
        "../task_0123abcd_1",
        "task_0123abcd_1\0",
        "task_0123abcd_" + "1" * 300,
    ],
)
def test_other_text_is_no_task_id(text: str) -> None:
    assert not is_task_id(text)


@given(st.text())
def test_a_task_id_is_a_plain_file_name(text: str) -> None:
    if is_task_id(text):
        assert text.replace("_", "").isalnum()
        assert text.isascii()


def test_task_is_frozen_and_picklable(new_task: Callable[..., Task]) -> None:
    task = new_task()
    assert pickle.loads(pickle.dumps(task)) == task
    with pytest.raises(FrozenInstanceError):
        task.status = TaskStatus.RUNNING  # type: ignore[misc]
