"""Runs over HTTP through a Pinot broker and a Redis server that die in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.pinot_broker import RunningBroker, running_broker
from tests.fixtures.plans import SMALL
from tests.fixtures.processes import tree
from tests.fixtures.real_sources import SQL, pinot_columns
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.server import RunRequest, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

AUTHORIZATION = "Basic czNjcmV0LWJyb2tlcg=="
PASSWORD = "s3cret-redis"
COUNT = 2_000
RUN: dict[str, Any] = {
    "items_count": COUNT,
    "db": "pinot",
    "cache": "redis",
    "kernel": "python",
    "batch_size": 100,
    "query_batch_size": 10,
    "io_concurrency": 40,
    "workers": 4,
    "parameters": SMALL,
}
"""A task that takes 200 queries, four at once."""


@dataclass
class Sourced:
    """The service and its sources. `said` keeps all that it answers."""

    server: Server
    broker: RunningBroker
    redis: RunningRedis
    said: list[str] = field(default_factory=list)

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(base_url=self.server.url, timeout=60) as client:
            response = client.get(path)
        self.said.append(response.text)
        return response

    def run(self, strategy: str, **changes: Any) -> httpx.Response:
        with httpx.Client(base_url=self.server.url, timeout=60) as client:
            response = client.post(f"/api/v1/tasks/{strategy}", json=RUN | changes)
        self.said.append(response.text)
        return response

    def breaker(self, source: str) -> str:
        """The state of a breaker at /health/ready."""
        state: str = self.get("/health/ready").json()["sources"][source]["breaker"]
        return state

    def metric(self, name: str, **labels: str) -> float:
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        lines = self.get("/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name}{{{wanted}}} ")]
        return float(line.rpartition(" ")[2])

    def request(self, strategy: str, items: int = 1) -> RunRequest:
        """Request a run; returns it once it has processed this many items."""
        request = RunRequest(self.server, strategy, **RUN)
        request.wait_progress(items)
        return request

    def response(self, request: RunRequest) -> httpx.Response:
        self.said.append(request.response().text)
        return request.response()

    def rows(self, task_id: str) -> list[dict[str, Any]]:
        text = self.get(f"/api/v1/tasks/results/{task_id}").text
        return [json.loads(line) for line in text.splitlines()]


def outputs(offsets: list[int]) -> dict[str, Any]:
    """Results of all items, with the values of the broker."""
    columns = {
        "value": np.array(pinot_columns(range(COUNT))[0]),
        "offset": np.array(offsets, dtype=np.int64),
    }
    computed: dict[str, Any] = kernels.get_kernel("loops", "python").run(columns, SMALL)
    return computed


OFFSETS = [item_id + 1_000 for item_id in range(COUNT)]
"""The offsets in Redis."""


def right_checksum() -> str:
    return checksum_text(rows_checksum(np.arange(COUNT), outputs(OFFSETS)))


def fill(redis: RunningRedis) -> None:
    redis.fill(COUNT, key="item:{item_id}", value=lambda item_id: str(OFFSETS[item_id]))


@contextmanager
def sourced_server(
    data_dir: Path, *, delay_ms: float = 20, **settings: object
) -> Iterator[Sourced]:
    """`delay_ms` is the latency of a query."""
    with (
        running_broker(authorization=AUTHORIZATION, delay_ms=delay_ms) as broker,
        running_redis(password=PASSWORD) as redis,
    ):
        fill(redis)
        settings = {
            "run_hosts": 1,
            "pinot_url": broker.url,
            "pinot_authorization": AUTHORIZATION,
            "pinot_sql": SQL,
            "redis_url": redis.url,
        } | settings
        with running_server(data_dir, **settings) as server:
            yield Sourced(server, broker, redis)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sourced]:
    with sourced_server(tmp_path_factory.mktemp("data")) as sourced:
        yield sourced


@pytest.fixture
def sourced(shared: Sourced) -> Iterator[Sourced]:
    """The shared service with its sources restored; fails if it ever revealed a secret."""
    shared.broker.control(None, reset=True)
    fill(shared.redis)
    yield shared
    said = [*shared.said, *shared.server.log]
    said += [word for process in tree(shared.server.process.pid) for word in command(process)]
    addresses = f"127.0.0.1:{shared.redis.port}", f"127.0.0.1:{shared.broker.port}"
    for hidden in (PASSWORD, AUTHORIZATION, AUTHORIZATION.split()[1], *addresses):
        assert not [text for text in said if hidden in text]


def command(process: psutil.Process) -> list[str]:
    try:
        words: list[str] = process.cmdline()
    except psutil.NoSuchProcess:
        return []
    return words


def completed(response: httpx.Response, failed: int = 0) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    assert result["status"] == "completed"
    assert result["items_processed"] == COUNT
    assert result["failed_items"] == failed, result["errors"][:3]
    return result


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_every_strategy_reads_both_sources(sourced: Sourced, strategy: StrategyName) -> None:
    size = 1_000 if strategy is StrategyName.SEQUENTIAL else 50
    sourced.broker.control(None, reset=True)
    count = 100 if strategy is StrategyName.SEQUENTIAL else COUNT
    response = sourced.run(strategy, query_batch_size=size, items_count=count)
    assert response.status_code == 200, response.text
    result = response.json()
    db, cache = result["stages"]
    calls = count if strategy is StrategyName.SEQUENTIAL else COUNT // 50
    counted = {"calls": calls, "retries": 0, "hits": count, "misses": 0, "hit_rate": 1}
    assert db == {"stage": "db", "source": "pinot"} | counted
    assert cache == {"stage": "cache", "source": "redis"} | counted
    assert sourced.broker.counts()["queries"] == calls
    assert result["failed_items"] == 0
    if count == COUNT:
        assert result["checksum"] == right_checksum()
    rows = sourced.rows(result["task_id"])
    right = outputs(OFFSETS)
    assert [row["nested"] for row in rows] == right["nested"][:count].tolist()


@pytest.mark.parametrize("strategy", ["hybrid", "multiprocessing", "threading"])
def test_run_survives_a_restart_of_the_broker(sourced: Sourced, strategy: str) -> None:
    before = sourced.get("/health/ready").json()["sources"]["pinot"]["openings"]
    request = sourced.request(strategy)
    sourced.broker.kill()
    if strategy != "multiprocessing":  # its workers report with their next result
        wait_until(lambda: sourced.breaker("pinot") != "closed", "its breaker is open")
        state = {"source": "pinot", "state": "closed"}
        assert sourced.metric("hotloop_source_breaker_state", **state) == 0
        health = sourced.get("/health/ready")
        assert health.status_code == 200
        assert "pinot" in health.json()["sources"]["pinot"]["detail"]
        assert sourced.breaker("redis") == "closed"
    sourced.broker.restart()
    result = completed(sourced.response(request))
    assert result["checksum"] == right_checksum()
    assert result["stages"][0]["retries"] > 0
    assert sourced.breaker("pinot") == "closed"
    state = {"source": "pinot", "state": "closed"}
    assert sourced.metric("hotloop_source_breaker_state", **state) == 1
    after = sourced.get("/health/ready").json()["sources"]["pinot"]["openings"]
    if strategy != "multiprocessing":  # each of its workers makes few calls
        assert after > before
    assert sourced.metric("hotloop_source_breaker_openings_total", source="pinot") == after


def test_restart_of_redis_in_a_run_counts_as_misses(sourced: Sourced) -> None:
    misses = sourced.metric("hotloop_source_misses_total", source="redis")
    request = sourced.request("concurrent-futures", 500)
    sourced.redis.restart()
    result = completed(sourced.response(request))
    cache = result["stages"][1]
    assert 0 < cache["misses"] < COUNT
    assert cache["hits"] + cache["misses"] == COUNT
    assert cache["hit_rate"] == pytest.approx(cache["hits"] / COUNT)
    now = sourced.metric("hotloop_source_misses_total", source="redis")
    assert now - misses == cache["misses"]
    hit, missed = outputs(OFFSETS)["nested"], outputs([0] * COUNT)["nested"]
    seen = [(row["nested"], row["item_id"]) for row in sourced.rows(result["task_id"])]
    assert all(nested in (hit[item_id], missed[item_id]) for nested, item_id in seen)
    surely = sum(nested != hit[item_id] for nested, item_id in seen)
    assert surely <= cache["misses"] <= surely + (hit == missed).sum()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sourced]:
    with sourced_server(
        tmp_path_factory.mktemp("data"), source_outage_seconds=1.5, source_attempts=2
    ) as sourced:
        yield sourced


def test_broker_that_stays_down_fails_the_remaining_items(
    impatient: Sourced,
) -> None:
    request = impatient.request("hybrid")
    impatient.broker.kill()
    response = impatient.response(request)
    failed = response.json()["failed_items"]
    result = completed(response, failed=failed)
    assert 0 < failed < COUNT
    assert {error["stage"] for error in result["errors"]} == {"db"}
    assert all(error["reason"].startswith("pinot") for error in result["errors"])
    rows = impatient.rows(result["task_id"])
    null = [row["item_id"] for row in rows if row["loop"] is None and row["nested"] is None]
    assert len(null) == failed
    assert {error["item_id"] for error in result["errors"]} <= set(null)

    early = impatient.run("hybrid", max_error_rate=0.1)
    assert early.status_code >= 500
    assert "max_error_rate = 0.1" in early.json()["detail"]
    impatient.broker.restart()
    assert completed(impatient.run("hybrid"))["checksum"] == right_checksum()


def test_stop_while_a_run_waits_for_a_broker_leaves_no_process(tmp_path: Path) -> None:
    with sourced_server(tmp_path, shutdown_seconds=2) as sourced:
        request = sourced.request("threading")
        sourced.broker.kill()
        wait_until(lambda: sourced.breaker("pinot") != "closed", "its breaker is open")
        sourced.server.stop()  # waits until every process below is gone
        answer = request.answer()
        assert answer is None or answer.status_code >= 400
