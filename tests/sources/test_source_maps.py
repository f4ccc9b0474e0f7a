"""Workloads with columns, keys and queries of their own (app/settings/source_maps.py), read from a
real server and from the fake broker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

import hotloop
from hotloop import kernels
from hotloop.app.prediction.stages import make_stages
from hotloop.app.schemas.runs import RunRequest, read_request
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import ItemBatch
from hotloop.app.sources.connections import close_connections
from tests.fixtures.pinot_broker import running_broker
from tests.fixtures.real_sources import pinot_columns, reasons
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.server import running_server
from tests.fixtures.waiting import wait_until


@hotloop.workload(
    columns={
        "spot": hotloop.Float(0.5, 1e6),
        "turns": hotloop.Integer(0, 100),
        "is_call": hotloop.Bool(),
        "rates": hotloop.Float(-1, 1, width=2),
    },
    parameters={},
)
def option(spot: float, turns: int, is_call: bool, rates: Any) -> float:
    """Uses every kind of column."""
    return spot + turns + is_call + float(rates[0])


ITEM = {"price": 99.5, "n": 7, "call": True, "r": [0.25, -0.5]}
COLUMNS = {"spot": "price", "turns": "n", "is_call": "call", "rates": "r"}


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    kernels.declare(option.declaration)
    yield
    kernels.withdraw("option")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningRedis]:
    with running_redis() as server:
        yield server


@pytest.fixture
def client(server: RunningRedis) -> Iterator[Redis]:
    with server.client() as client:
        client.flushall()
        yield client


def fetched(ids: list[int], asked: dict[str, str], **settings: Any) -> ItemBatch:
    """Items of the workload that passed the stages of a run, from zeros on."""
    body = {"workload": "option", "db": "none", "cache": "none"} | asked
    stages = make_stages(read_request(RunRequest, json.dumps(body)), Settings(**settings))
    columns: dict[str, Any] = {
        column.name: np.zeros((len(ids), column.width or 1), column.dtype)
        for column in option.declaration.columns_in
    }
    columns = {n: c if n == "rates" else c.reshape(-1) for n, c in columns.items()}
    batch = ItemBatch(np.array(ids, dtype=np.int64), columns)

    async def fetch() -> None:
        try:
            for stage in stages:
                await stage.fetch_async(batch, range(len(ids)))
        finally:
            await close_connections()

    asyncio.run(fetch())
    return batch


def from_redis(server: RunningRedis, ids: list[int], **own: Any) -> ItemBatch:
    return fetched(
        ids,
        {"cache": "redis"},
        redis_url=server.url,
        redis_columns={"offset": "for loops alone"},
        workload_sources={"option": own},
    )


def values(batch: ItemBatch) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in batch.columns.items()}


@pytest.mark.parametrize("layout", ["json", "hash"])
def test_columns_of_every_kind_come_from_fields_with_other_names(
    server: RunningRedis, client: Redis, layout: str
) -> None:
    if layout == "json":
        client.set("option:1", json.dumps(ITEM))
    else:
        texts: Any = {"price": "99.5", "n": "7", "call": "true", "r": "0.25 -0.5"}
        client.hset("option:1", mapping=texts)
    own: dict[str, Any] = {
        "redis_key": "option:{id}",
        "redis_layout": layout,
        "redis_columns": COLUMNS,
    }
    defaults = {"spot": 1.5, "is_call": 1, "rates": -1}
    batch = from_redis(server, [1, 2], **own, redis_defaults=defaults)
    assert values(batch) == {
        "spot": [99.5, 1.5],
        "turns": [7, 0],
        "is_call": [True, True],
        "rates": [[0.25, -0.5], [-1, -1]],
    }
    assert batch.failed == {}


def test_missing_value_fails_its_item_where_0_is_out_of_bounds(
    server: RunningRedis, client: Redis
) -> None:
    client.set("item:1", "2.5")
    batch = from_redis(server, [1, 2], redis_columns={"spot": ""})
    assert batch.columns["spot"].tolist() == [2.5, 0]
    assert reasons(batch) == {
        2: "spot is missing; a number from 0.5 to 1,000,000 is needed",
    }


def test_boolean_and_vector_are_read_from_text(server: RunningRedis, client: Redis) -> None:
    client.mset({"item:1": "0.5 1", "item:2": "0.5", "item:3": "true"})
    batch = from_redis(server, [1, 2], redis_columns={"rates": ""})
    assert batch.columns["rates"].tolist() == [[0.5, 1], [0, 0]]
    assert list(reasons(batch)) == [2]
    batch = from_redis(server, [3, 1], redis_columns={"is_call": ""})
    assert batch.columns["is_call"].tolist() == [True, False]
    assert list(reasons(batch)) == [1]


PRICES = """\
import hotloop


@hotloop.workload(
    columns={"spot": hotloop.Float(0.5, 1e6), "rates": hotloop.Float(-1, 1, width=2)},
    parameters={},
)
def discounted(spot, rates) -> float:
    return spot * (1.0 + rates[0]) * (1.0 + rates[1])
"""


@pytest.mark.long
def test_service_reads_the_columns_of_a_users_function(
    server: RunningRedis, client: Redis, tmp_path: Path
) -> None:
    client.set("price:0", json.dumps({"p": 100.0, "r": [0.5, -0.5]}))
    client.set("price:2", json.dumps({"p": "much", "r": [0, 0]}))
    (tmp_path / "prices.py").write_text(PRICES)
    own = {
        "redis_key": "price:{id}",
        "redis_layout": "json",
        "redis_columns": {"spot": "p", "rates": "r"},
        "redis_defaults": {"spot": 2},
    }
    with running_server(
        tmp_path,
        workloads="prices.py",
        redis_url=server.url,
        workload_sources=json.dumps({"discounted": own}),
    ) as service:
        service.wait_ready()
        body: dict[str, Any] = {"workload": "discounted", "items_count": 3, "cache": "redis"}
        answers: list[Any] = []

        def is_answered() -> bool:
            answers[:] = [service.run("threading", **body, kernel="python")]
            return answers[0].is_success is True  # 503 as long as the function is loaded

        wait_until(is_answered, "the function is known", 60)
        result = answers[0].json()
    assert [row["result"] for row in result["results"]] == [75.0, 2.0, None]
    (error,) = result["errors"]
    assert error["reason"] == "spot is 'much'; a number from 0.5 to 1,000,000 is needed"
    assert (result["stages"][0]["hits"], result["stages"][0]["misses"]) == (2, 1)


def test_query_and_columns_of_pinot_are_the_workloads_own() -> None:
    own = {
        "pinot_sql": 'SELECT item_id, "value", "offset" FROM flights WHERE item_id IN ({ids})',
        "pinot_columns": {"spot": "value", "turns": "offset"},
    }
    ids = [4, 903]
    with running_broker() as broker:
        batch = fetched(
            ids,
            {"db": "pinot"},
            pinot_url=broker.url,
            pinot_sql="SELECT nothing FROM nowhere WHERE id IN ({ids})",
            workload_sources={"option": own},
        )
    value, offset = pinot_columns(ids)
    assert (batch.columns["spot"].tolist(), batch.columns["turns"].tolist()) == (value, offset)
    assert batch.failed == {}
