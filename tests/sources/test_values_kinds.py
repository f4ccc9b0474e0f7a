"""sources.values, redis, pinot, prediction.stages: booleans and vectors from a dependency."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import RedisLayout
from hotloop.app.prediction.stages import make_stages
from hotloop.app.schemas.runs import RunRequest, read_request
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import ItemBatch
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.pinot import PinotTable
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.row_columns import row_columns
from hotloop.app.sources.values import assign
from hotloop.kernels import Workload
from tests.fixtures.real_sources import pinot_stage, reasons, redis_stage
from tests.fixtures.redis_server import RunningRedis, running_redis

FIELDS = (("inverted", "i"), ("noise", "n"), ("samples", "s"))
DEFAULTS = (("inverted", False), ("noise", 3), ("samples", [0.5] * 3))


def batch_of(count: int) -> ItemBatch:
    columns = {
        "inverted": np.zeros(count, np.bool_),
        "noise": np.full(count, 99, np.int8),
        "samples": np.full((count, 3), 99.0),
    }
    return ItemBatch(np.arange(count, dtype=np.int64), columns)


def assigned(name: str, values: list[Any]) -> ItemBatch:
    batch = batch_of(len(values))
    (column,) = (each for each in row_columns("signals") if each.name == name)
    assign(batch, range(len(values)), column, values, "db")
    return batch


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("inverted", [True, False, 1, 0, "true", "0"], [True, False, True, False, True, False]),
        ("inverted", ["FALSE"], [False]),
        ("noise", [-100, 7], [-100, 7]),
        ("samples", [[1, 2.5, -3], "1 2.5 -3"], [[1, 2.5, -3]] * 2),
        ("samples", [], []),
    ],
)
def test_values_are_assigned(
    signals: Workload, name: str, values: list[Any], expected: list[Any]
) -> None:
    batch = assigned(name, values)
    assert batch.failed == {}
    assert batch.columns[name].tolist() == expected


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        ("inverted", None, "inverted is missing; true or false is needed"),
        ("inverted", 2, "inverted is 2; true or false is needed"),
        ("inverted", 1.0, "inverted is 1.0; true or false is needed"),
        ("inverted", "yes", "inverted is 'yes'; true or false is needed"),
        ("inverted", [True], "inverted is [True]; true or false is needed"),
        ("noise", 300, "noise is 300; an integer from -100 to 100 is needed"),
        ("noise", True, "noise is True; an integer from -100 to 100 is needed"),
        ("samples", None, "samples is missing; 3 values are needed"),
        ("samples", 0.5, "samples is 0.5; 3 values are needed"),
        ("samples", "1 2", "samples is '1 2'; 3 values are needed"),
        ("samples", "1 2 x", "samples is '1 2 x'; 3 values are needed"),
        ("samples", [1, 2], "samples has 2 values; 3 are needed"),
        ("samples", [1] * 100_000, "samples has 100,000 values; 3 are needed"),
        ("samples", [1, 2, 11], "value 3 of samples is 11; a number from -10 to 10 is needed"),
        ("samples", [1, "NaN", 3], "value 2 of samples is 'NaN'; a number from -10 to 10 is"),
        ("samples", [None, 2, 3], "value 1 of samples is missing; a number from -10 to 10 is"),
        ("samples", [1, [2], 3], "value 2 of samples is [2]; a number from -10 to 10 is needed"),
        ("samples", [1, 2, float("nan")], "value 3 of samples is nan; a number from -10"),
        ("samples", [1, 2, 10**5_000], "value 3 of samples is an integer of 16,610 bits"),
    ],
)
def test_bad_value_fails_its_item_alone(
    signals: Workload, name: str, bad: Any, reason: str
) -> None:
    good: Any = {"inverted": True, "noise": 5, "samples": [1, 2, 3]}[name]
    batch = assigned(name, [good, bad, good])
    assert list(batch.failed) == [1]
    assert reasons(batch)[1].startswith(reason)
    assert len(reasons(batch)[1]) < 150
    assert batch.columns[name][[0, 2]].tolist() == [good, good]
    alone = assigned(name, [bad])
    assert (list(alone.failed), alone.columns[name].tolist()) == (
        [0],
        batch_of(1).columns[name].tolist(),
    )


@pytest.fixture(scope="module")
def redis() -> Iterator[RunningRedis]:
    with running_redis() as server:
        yield server


def fetched(stage: Any, count: int) -> ItemBatch:
    async def fetch() -> ItemBatch:
        batch = batch_of(count)
        try:
            await stage.fetch_async(batch, range(count))
        finally:
            await close_connections()
        return batch

    return asyncio.run(fetch())


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.JSON])
def test_redis_has_the_text_of_a_csv_or_a_list(
    signals: Workload, redis: RunningRedis, layout: RedisLayout
) -> None:
    with redis.client() as client:
        client.flushall()
        rows: list[Any] = [
            {"i": "true", "n": 4, "s": "1 2 3"},
            {"i": "1", "n": 5},
            {"i": "maybe", "n": 6, "s": "1 2"},
        ]
        for item_id, row in enumerate(rows):
            if layout is RedisLayout.HASH:
                client.hset(f"item:{item_id}", mapping=row)
            else:
                lists = {"s": [1, 2, 3], "i": True} if item_id == 0 else {}
                client.set(f"item:{item_id}", json.dumps(row | lists))
    stage = redis_stage(
        redis.url, layout=layout, workload="signals", fields=FIELDS, defaults=DEFAULTS
    )
    batch = fetched(stage, 4)
    assert batch.columns["inverted"].tolist() == [True, True, False, False]
    assert batch.columns["noise"].tolist() == [4, 5, 6, 3]
    assert batch.columns["samples"].tolist()[:2] == [[1, 2, 3], [0.5] * 3]
    assert batch.columns["samples"].tolist()[3] == [0.5] * 3
    assert list(reasons(batch)) == [2]


def test_redis_string_holds_one_vector_or_boolean(signals: Workload, redis: RunningRedis) -> None:
    with redis.client() as client:
        client.flushall()
        client.set("item:0", "1 2 3")
        client.set("item:1", "1,2,3")
        client.set("flag:0", "true")
        client.set("flag:1", b"\xff")
    vectors = fetched(
        redis_stage(
            redis.url, workload="signals", fields=FIELDS[2:], defaults=(("samples", [0.0] * 3),)
        ),
        3,
    )
    assert vectors.columns["samples"].tolist() == [[1, 2, 3], [99.0] * 3, [0.0] * 3]
    assert list(vectors.failed) == [1]
    flags = fetched(
        redis_stage(
            redis.url,
            key="flag:{id}",
            workload="signals",
            fields=FIELDS[:1],
            defaults=(("inverted", True),),
        ),
        3,
    )
    assert flags.columns["inverted"].tolist() == [True, False, True]
    assert list(flags.failed) == [1]


def test_pinot_has_multi_value_columns_booleans_and_texts(signals: Workload) -> None:
    stage = pinot_stage("http://nowhere", workload="signals", fields=FIELDS)
    rows = [
        [0, True, 4, [1, 2, 3]],
        [1, "false", 5, "1.5 2 3"],
        [2, 1, 6, [1.0, 2.0, "NaN"]],
        [3, False, 7, [1, 2, 3]],
        [3, False, 7, [1, 2, 4]],
    ]
    table = PinotTable({"item_id": 0, "i": 1, "n": 2, "s": 3}, rows)
    batch = batch_of(4)
    stage._place(batch, range(4), [0, 1, 2, 3], table, is_full=False)
    assert batch.columns["inverted"].tolist()[:3] == [True, False, True]
    assert batch.columns["samples"].tolist()[:2] == [[1, 2, 3], [1.5, 2, 3]]
    assert reasons(batch) == {
        2: "value 3 of samples is 'NaN'; a number from -10 to 10 is needed",
        3: "pinot has different rows for it",
    }


def redis_of(**settings: Any) -> RedisStage:
    asked = read_request(
        RunRequest, json.dumps({"workload": "signals", "db": "none", "cache": "redis"})
    )
    made = Settings(
        redis_url="redis://here",  # type: ignore[arg-type]
        redis_layout=RedisLayout.HASH,
        redis_columns=dict(FIELDS),
        **settings,
    )
    (stage,) = make_stages(asked, made)
    assert isinstance(stage, RedisStage)
    return stage


def test_defaults_are_values_of_the_columns(signals: Workload) -> None:
    zero = (("inverted", False), ("noise", 0), ("samples", [0.0] * 3))
    assert repr(redis_of().defaults) == repr(zero)
    given = {"inverted": 1, "noise": 3, "samples": 0.5}
    expected = (("inverted", True), ("noise", 3), ("samples", [0.5] * 3))
    assert repr(redis_of(redis_defaults=given).defaults) == repr(expected)
    for bad in ({"inverted": 0.5}, {"inverted": 2}, {"samples": 11}):
        with pytest.raises(InvalidRequestError, match="out of bounds"):
            redis_of(redis_defaults=bad)
