"""The origin of work, which is handed from process to process."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from hotloop.app.logs.origin import (
    NOWHERE,
    Origin,
    bind_task,
    bound,
    current,
    origin_from_json,
    origin_to_json,
)

TRACE_PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def test_origin_is_bound_for_a_while_and_survives_pickling() -> None:
    origin = Origin("r", "t", TRACE_PARENT)
    with bound(pickle.loads(pickle.dumps(origin))):
        assert current() == origin
    assert current() is NOWHERE


def test_tasks_of_a_loop_have_their_own_origin() -> None:
    async def one(task_id: str) -> Origin:
        bind_task(task_id)
        await asyncio.sleep(0)
        return current()

    async def both() -> tuple[Origin, Origin]:
        with bound(Origin("r")):
            first, second = await asyncio.gather(one("t1"), one("t2"))
            return first, second

    assert asyncio.run(both()) == (Origin("r", "t1"), Origin("r", "t2"))


def test_stored_origin_is_read_back() -> None:
    kept = origin_to_json(Origin("r", "other", TRACE_PARENT))
    assert kept == {"request_id": "r", "traceparent": TRACE_PARENT}
    assert origin_from_json(kept, "t") == Origin("r", "t", TRACE_PARENT)
    assert origin_to_json(NOWHERE) == {}


@pytest.mark.parametrize(
    "traceparent", [1, "", "00-x", f"00-{'0' * 32}-{'b' * 16}-01", TRACE_PARENT + "\n"]
)
def test_invalid_origin_is_left_out(traceparent: object) -> None:
    assert origin_from_json({"request_id": 7, "traceparent": traceparent}, "t") == Origin(
        None, "t", None
    )
