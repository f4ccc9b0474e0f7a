"""The cache stage on a real server: layouts, defaults, counts, values that are not numbers."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from hotloop.app.names import RedisLayout
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.connections import close_connections
from tests.fixtures.real_sources import (
    BOTH,
    UNTOUCHED,
    columns_of,
    fetched,
    item_batch,
    reasons,
    redis_stage,
)
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.waiting import wait_until

LAYOUTS = sorted(RedisLayout)


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningRedis]:
    with running_redis() as server:
        yield server


@pytest.fixture
def client(shared: RunningRedis) -> Iterator[Redis]:
    with shared.client() as client:
        client.flushall()
        yield client


def put(client: Redis, layout: RedisLayout, item_id: int, **fields: Any) -> None:
    """Columns as `v` and `o`, or the only one of them for a string."""
    key = f"item:{item_id}"
    if layout is RedisLayout.STRING:
        (value,) = fields.values()
        client.set(key, value)
    elif layout is RedisLayout.JSON:
        client.set(key, json.dumps(fields))
    else:
        mapping: Any = fields
        client.hset(key, mapping=mapping)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_are_read_and_missing_keys_take_the_defaults(
    shared: RunningRedis, client: Redis, layout: RedisLayout
) -> None:
    both = {} if layout is RedisLayout.STRING else BOTH
    for item_id in (0, 2, 2**63 - 1):
        offset = {"o": item_id % 1_000}
        put(client, layout, item_id, **(offset | ({"v": 0.25} if both else {})))
    stage = redis_stage(shared.url, layout=layout, **both)
    batch = fetched(stage, [2, 1, 2**63 - 1, 0])

    default = 3 if both else 0
    value = [0.25, 0.5, 0.25, 0.25] if both else [UNTOUCHED] * 4
    assert columns_of(batch) == (value, [2, default, 807, 0])
    assert batch.failed == {}
    assert batch.complete == set()
    assert batch.counts == {"cache": StageCounts(calls=1, hits=3, misses=1)}


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.JSON])
def test_missing_field_takes_its_default(
    shared: RunningRedis, client: Redis, layout: RedisLayout
) -> None:
    put(client, layout, 1, v=8.5)
    put(client, layout, 2, o=9)
    put(client, layout, 3, other=7)
    batch = fetched(redis_stage(shared.url, layout=layout, **BOTH), [1, 2])
    assert columns_of(batch) == ([8.5, 0.5], [3, 9])
    assert batch.counts["cache"] == StageCounts(calls=1, hits=2)
    assert columns_of(fetched(redis_stage(shared.url, layout=layout, **BOTH), [3])) == ([0.5], [3])


def test_null_of_json_is_a_missing_field(shared: RunningRedis, client: Redis) -> None:
    put(client, RedisLayout.JSON, 1, v=None, o=5)
    batch = fetched(redis_stage(shared.url, layout=RedisLayout.JSON, **BOTH), [1])
    assert columns_of(batch) == ([0.5], [5])


def test_only_the_given_positions_change(shared: RunningRedis, client: Redis) -> None:
    shared.fill(10, key="item:{item_id}", value=lambda item_id: str(item_id))
    for positions in (range(1, 3), [2, 1]):
        batch = fetched(redis_stage(shared.url), range(4), positions)
        assert batch.columns["offset"].tolist() == [UNTOUCHED, 1, 2, UNTOUCHED]
        assert batch.counts["cache"].hits == 2


@pytest.mark.parametrize("key", ["{id}", "a:{id}:b", "{id}{{}}", "ключ {id}"])
def test_key_is_the_pattern_with_the_id(shared: RunningRedis, client: Redis, key: str) -> None:
    client.set(key.replace("{id}", "12"), "34")
    assert fetched(redis_stage(shared.url, key=key), [12]).columns["offset"].tolist() == [34]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ten_thousand_keys_are_one_call(
    shared: RunningRedis, client: Redis, layout: RedisLayout
) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for item_id in range(0, 10_000, 2):
            put(pipeline, layout, item_id, offset=item_id)
        pipeline.execute()
    stage = redis_stage(shared.url, layout=layout, defaults=(("offset", 1),))
    batch = fetched(stage, range(10_000))
    assert batch.columns["offset"].tolist() == [1 if n % 2 else n for n in range(10_000)]
    assert batch.counts["cache"] == StageCounts(calls=1, hits=5_000, misses=5_000)


WRONG = {
    "NaN": "nan",
    "1e400": "inf",
    "-inf": "-inf",
    "one": "'one'",
    "": "''",
    "1_0": "'1_0'",
    "\xff\xfe": "'ÿþ'",
    "12.5": "12.5",
    "-1": "-1",
    str(2**31): "2147483648",
    "1" * 5_000: "inf",
    "0x10": "'0x10'",
}


@pytest.mark.parametrize("text", sorted(WRONG))
@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.STRING])
def test_text_that_is_no_number_within_bounds_fails_its_item_alone(
    shared: RunningRedis, client: Redis, layout: RedisLayout, text: str
) -> None:
    put(client, layout, 1, offset=5)
    put(client, layout, 2, offset=text)
    batch = fetched(redis_stage(shared.url, layout=layout), [1, 2, 3])
    assert batch.columns["offset"].tolist() == [5, UNTOUCHED, 0]
    assert list(reasons(batch)) == [2]
    assert reasons(batch)[2].startswith(f"offset is {WRONG[text]}")
    assert "an integer from 0 to 2,147,483,647 is needed" in reasons(batch)[2]
    assert len(reasons(batch)[2]) < 200
    assert batch.failed[1].stage == "cache"


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("007", 7), (" 5\n", 5), ("12.0", 12), ("1e3", 1_000)]
)
def test_other_ways_to_write_a_number_are_understood(
    shared: RunningRedis, client: Redis, text: str, number: int
) -> None:
    client.set("item:1", text)
    assert fetched(redis_stage(shared.url), [1]).columns["offset"].tolist() == [number]


def test_bytes_that_are_no_text_fail_their_item(shared: RunningRedis, client: Redis) -> None:
    client.set("item:1", b"\xff\x00\x9f")
    for layout in (RedisLayout.STRING, RedisLayout.JSON):
        batch = fetched(redis_stage(shared.url, layout=layout), [1, 2])
        assert list(reasons(batch)) == [1]
        reasons(batch)[1].encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[1, 2]", "no JSON object"),
        ("12", "no JSON object"),
        ("{", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"offset": 1e400}', "offset is inf"),
        ('{"offset": NaN}', "offset is nan"),
        ('{"offset": "5"}', "offset is '5'"),
        ('{"offset": true}', "offset is True"),
        ('{"offset": [5]}', "offset is [5]"),
        ('{"offset": 5.5}', "offset is 5.5"),
        ('{"offset": ' + "1" * 5_000 + "}", "no JSON object"),
    ],
)
def test_json_that_is_no_object_of_numbers_fails_its_item_alone(
    shared: RunningRedis, client: Redis, text: str, shown: str
) -> None:
    client.mset({"item:1": '{"offset": 5.0}', "item:2": text})
    batch = fetched(redis_stage(shared.url, layout=RedisLayout.JSON), [1, 2, 3])
    assert batch.columns["offset"].tolist() == [5, UNTOUCHED, 0]
    assert list(reasons(batch)) == [2]
    assert shown in reasons(batch)[2]


def test_both_columns_of_an_item_may_be_wrong(shared: RunningRedis, client: Redis) -> None:
    put(client, RedisLayout.HASH, 1, v=math.nan, o="x")
    put(client, RedisLayout.HASH, 2, v=1.5, o="x")
    put(client, RedisLayout.HASH, 3, v=1.5, o=2)
    batch = fetched(redis_stage(shared.url, layout=RedisLayout.HASH, **BOTH), [1, 2, 3])
    assert sorted(reasons(batch)) == [1, 2]
    assert columns_of(batch)[1][2] == 2


def test_wrong_type_under_a_key_fails_its_item_and_is_not_retried(
    shared: RunningRedis, client: Redis
) -> None:
    client.set("item:1", "5")
    client.hset("item:2", "offset", "6")
    batch = fetched(redis_stage(shared.url, layout=RedisLayout.HASH), [1, 2, 3])
    assert batch.columns["offset"].tolist() == [UNTOUCHED, 6, 0]
    assert list(reasons(batch)) == [1]
    assert "WRONGTYPE" in reasons(batch)[1]
    assert batch.counts["cache"].calls == 1
    # MGET says of a key that holds no string that it is missing.
    for layout in (RedisLayout.JSON, RedisLayout.STRING):
        missing = fetched(redis_stage(shared.url, layout=layout), [2])
        assert missing.columns["offset"].tolist() == [0]
        assert missing.counts["cache"].misses == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_aside_completes_hits_and_leaves_the_rest_alone(
    shared: RunningRedis, client: Redis, layout: RedisLayout
) -> None:
    put(client, layout, 1, offset=5)
    put(client, layout, 3, offset="x")
    batch = fetched(redis_stage(shared.url, layout=layout, aside=True), [0, 1, 2, 3])
    assert batch.columns["offset"].tolist() == [UNTOUCHED, 5, UNTOUCHED, UNTOUCHED]
    assert batch.complete == {1, 3}
    assert list(reasons(batch)) == [3]
    assert batch.waiting(range(4)) == [0, 2]
    assert batch.counts["cache"] == StageCounts(calls=1, hits=2, misses=2)


@pytest.mark.parametrize("layout", [RedisLayout.HASH, RedisLayout.JSON])
def test_aside_with_a_part_of_the_columns_is_a_miss(
    shared: RunningRedis, client: Redis, layout: RedisLayout
) -> None:
    put(client, layout, 1, v=1.5)
    put(client, layout, 2, v=1.5, o=2)
    batch = fetched(redis_stage(shared.url, layout=layout, aside=True, **BOTH), [1, 2])
    assert columns_of(batch) == ([UNTOUCHED, 1.5], [UNTOUCHED, 2])
    assert batch.complete == {1}
    assert batch.counts["cache"] == StageCounts(calls=1, hits=1, misses=1)


def test_cache_aside_miss_changes_nothing(shared: RunningRedis, client: Redis) -> None:
    batch = fetched(redis_stage(shared.url, aside=True), [1, 2])
    assert batch.columns["offset"].tolist() == [UNTOUCHED] * 2
    assert (batch.complete, batch.failed) == (set(), {})
    assert batch.counts["cache"] == StageCounts(calls=1, misses=2)


def test_many_calls_open_as_many_connections_as_asked_and_close_them(
    shared: RunningRedis, client: Redis
) -> None:
    shared.fill(6_400, key="item:{item_id}", value=lambda item_id: str(item_id))
    stage = redis_stage(shared.url, connections=16)
    mine = client.client_id()

    def others() -> int:
        return sum(int(c["id"]) != mine for c in client.client_list())

    async def run() -> None:
        batch = item_batch(range(6_400))
        groups = [range(start, start + 100) for start in range(0, 6_400, 100)]
        await asyncio.gather(*(stage.fetch_async(batch, group) for group in groups))
        assert batch.columns["offset"].tolist() == list(range(6_400))
        # None was refused for want of a connection.
        assert batch.counts["cache"] == StageCounts(calls=64, hits=6_400)
        assert others() == 16
        await close_connections()

    assert others() == 0
    asyncio.run(run())
    wait_until(lambda: not others(), "the server has closed them too")
