"""Runs through a broker and a Redis server that die in the middle, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from hotloop.app.names import StrategyName
from tests.fixtures.processes import tree
from tests.fixtures.sourced_server import (
    AUTHORIZATION,
    COUNT,
    OFFSETS,
    PASSWORD,
    Asking,
    Sourced,
    fill,
    outputs,
    right_checksum,
    sourced_server,
)
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sourced]:
    with sourced_server(tmp_path_factory.mktemp("data")) as sourced:
        yield sourced


@pytest.fixture
def sourced(shared: Sourced) -> Iterator[Sourced]:
    """As it is at first, however the last test left it; no secret was ever told."""
    shared.broker.control(None, reset=True)
    fill(shared.redis)
    yield shared
    told = [*shared.said, *shared.server.log]
    told += [word for process in tree(shared.server.process.pid) for word in command(process)]
    addresses = f"127.0.0.1:{shared.redis.port}", f"127.0.0.1:{shared.broker.port}"
    for hidden in (PASSWORD, AUTHORIZATION, AUTHORIZATION.split()[1], *addresses):
        assert not [text for text in told if hidden in text]


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


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_every_strategy_gives_the_right_results(sourced: Sourced, strategy: StrategyName) -> None:
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
def test_broker_killed_in_the_middle_comes_back(sourced: Sourced, strategy: str) -> None:
    before = sourced.get("/health/ready").json()["sources"]["pinot"]["openings"]
    asking = Asking(sourced, strategy)
    sourced.broker.kill()
    if strategy != "multiprocessing":  # whose workers tell with their next result
        wait_until(lambda: sourced.breaker("pinot") != "closed", "its breaker is open")
        state = {"source": "pinot", "state": "closed"}
        assert sourced.metric("hotloop_source_breaker_state", **state) == 0
        health = sourced.get("/health/ready")
        assert health.status_code == 200
        assert "pinot" in health.json()["sources"]["pinot"]["detail"]
        assert sourced.breaker("redis") == "closed"
    sourced.broker.restart()
    result = completed(asking.answer())
    assert result["checksum"] == right_checksum()
    assert result["stages"][0]["retries"] > 0
    assert sourced.breaker("pinot") == "closed"
    state = {"source": "pinot", "state": "closed"}
    assert sourced.metric("hotloop_source_breaker_state", **state) == 1
    after = sourced.get("/health/ready").json()["sources"]["pinot"]["openings"]
    if strategy != "multiprocessing":  # in which each worker makes few calls
        assert after > before
    assert sourced.metric("hotloop_source_breaker_openings_total", source="pinot") == after


def test_redis_killed_in_the_middle_comes_back_empty(sourced: Sourced) -> None:
    misses = sourced.metric("hotloop_source_misses_total", source="redis")
    asking = Asking(sourced, "concurrent-futures")
    sourced.redis.restart()
    result = completed(asking.answer())
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


def test_broker_that_stays_away_fails_the_rest_and_is_asked_again_by_the_next_run(
    impatient: Sourced,
) -> None:
    asking = Asking(impatient, "hybrid")
    impatient.broker.kill()
    response = asking.answer()
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


def test_stopped_while_a_run_waits_for_a_broker_nothing_is_left(tmp_path: Path) -> None:
    with sourced_server(tmp_path, shutdown_seconds=2) as sourced:
        asking = Asking(sourced, "threading")
        sourced.broker.kill()
        wait_until(lambda: sourced.breaker("pinot") != "closed", "its breaker is open")
        sourced.server.stop()  # waits until everything below is gone
        assert all(answer.status_code >= 400 for answer in asking.answers())
