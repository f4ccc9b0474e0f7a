"""plan: the batch size of a run whose request says `auto`."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.model import predict
from hotloop.app.prediction.plan import BATCHES_A_WORKER, make_plan, with_batch_size, with_parcels
from hotloop.app.runhost.calibrate.constants import TYPICAL_CLUSTER
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count, window_size
from hotloop.app.strategies.pools import pool_workers
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes
from tests.fixtures.calibrations import REPORTS, usual

SETTINGS = Settings(
    pinot_url="http://broker",
    redis_url=SecretStr("redis://cache"),
    ray_address="local",
    dask_address="local",
)
MACHINE = replace(usual(), clusters=dict.fromkeys(CLUSTERS, TYPICAL_CLUSTER))
CPU_ONLY = {"db": "none", "cache": "none"}
BLOCKING = ["threading", "multiprocessing", "concurrent-futures"]
WORKS = [
    {"items_count": 1_000},
    {"items_count": 50_000, "workers": 8},
    {"items_count": 50_000, "workers": 8, "kernel": "cython", **CPU_ONLY},
    {"items_count": 500_000, "kernel": "numba", **CPU_ONLY},
    {"items_count": 60, "workers": 2, "kernel": "python", **CPU_ONLY},
    {"items_count": 5_000, "io_concurrency": 5_000, "workers": 2},
    {"items_count": 20_000, "db_delay_ms": 5, "kernel": "python"},
    {"items_count": 1},
    {"items_count": 3, "workers": 4},
    {"items_count": 10_000, "db": "pinot", "cache": "redis", "query_batch_size": 500},
]


def plan(strategy: str, **body: Any) -> Plan:
    request = RunRequest.model_validate_json(json.dumps(body))
    items = GeneratedItems(request.total_items)
    return make_plan(StrategyName(strategy), request, items, REPORTS, MACHINE, SETTINGS)


@pytest.mark.parametrize("strategy", BLOCKING)
def test_items_that_wait_for_a_second_get_batches_of_one(strategy: str) -> None:
    made = plan(strategy, items_count=1_000, workers=4)
    assert made.batch_size == 1
    whole = predict(plan("sequential", items_count=1_000), usual()).seconds
    assert predict(made, usual()).seconds / whole == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("body", WORKS, ids=str)
@pytest.mark.parametrize("strategy", StrategyName)
def test_no_other_size_is_predicted_to_be_much_faster(
    strategy: StrategyName, body: dict[str, Any]
) -> None:
    made, machine = plan(strategy, **body), MACHINE
    sizes = {size for n in range(20) for size in (2**n, ceil(made.item_count / 2**n))}
    predicted = [
        predict(
            with_parcels(replace(made, batch_size=b, group_size=group), machine), machine
        ).seconds
        for b in sizes
        for group in (min(made.group_size, b),)
        if b <= 1_000_000 // window_size(made.workers)
    ]
    # Few batches on a cluster are parcels of their own, which cost more than batches do.
    allowed = 1.25 if strategy in CLUSTERS else 1.1
    assert predict(made, machine).seconds <= allowed * min(predicted)


@pytest.mark.parametrize("body", WORKS, ids=str)
@pytest.mark.parametrize("strategy", StrategyName)
def test_every_worker_gets_a_batch(strategy: StrategyName, body: dict[str, Any]) -> None:
    made = plan(strategy, **body)
    if CAPABILITIES[strategy].parallel:
        processes = uses_processes(strategy, releases_gil=made.kernel != "python")
        workers = pool_workers(made, MACHINE.limits, in_processes=processes)
        assert batch_count(made) >= min(workers, made.item_count)


@pytest.mark.parametrize("strategy", BLOCKING)
def test_long_runs_end_a_batch_a_second_in_each_worker(strategy: str) -> None:
    made = plan(strategy, items_count=500_000, workers=4, kernel="cython", **CPU_ONLY)
    # Processes that never wait are no more than the two CPUs.
    workers = 4 if strategy == "threading" else 2
    assert batch_count(made) >= BATCHES_A_WORKER * workers
    of_worker = predict(made, usual()).seconds / (batch_count(made) / workers)
    assert of_worker <= 1.1
    # Batches cost their 2 %: half as many spare no more than that.
    larger = replace(made, batch_size=2 * made.batch_size)
    assert predict(made, usual()).seconds <= 1.02 * predict(larger, usual()).seconds


def test_async_batch_takes_whole_waves_of_items_in_flight() -> None:
    assert plan("async-batch", items_count=10_000, io_concurrency=1_000).batch_size == 1_000
    quick = plan("async-batch", items_count=100_000, io_concurrency=100, db_delay_ms=10)
    assert quick.batch_size > 100
    assert quick.batch_size % 100 == 0


def test_batches_hold_whole_groups() -> None:
    body = {"db": "pinot", "cache": "none", "query_batch_size": 200}
    made = plan("threading", items_count=10_000, workers=4, **body)
    assert (made.group_size, made.batch_size % 200) == (200, 0)
    few = plan("threading", items_count=400, workers=4, **body)
    assert (few.group_size, few.batch_size) == (100, 100)


def test_batches_in_flight_are_bounded_together() -> None:
    made = plan(
        "threading",
        items_count=10_000_000,
        kernel="cython",
        parameters={"cpu_iterations": 0, "outer_iterations": 0},
        **CPU_ONLY,
    )
    assert made.batch_size * window_size(4) <= 1_000_000


def test_given_size_is_kept() -> None:
    assert plan("threading", items_count=1_000, workers=4, batch_size=5_000).batch_size == 5_000


def test_size_is_chosen_anew_when_items_arrive() -> None:
    query = UploadQuery(workers=4)
    empty = make_plan(StrategyName.THREADING, query, GeneratedItems(0), REPORTS, MACHINE, SETTINGS)
    assert empty.batch_size == 1
    come = with_batch_size(replace(empty, items=GeneratedItems(500_000)), query, usual())
    assert come.batch_size > 1_000


@pytest.mark.parametrize("given", ['"5"', "5.0", "true", "0", "1000001", "null", '"many"', "[]"])
def test_invalid_size_is_refused_with_its_bounds(given: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunRequest.model_validate_json(f'{{"batch_size": {given}}}')
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("batch_size",)
    assert fault["msg"].startswith("must be auto, or an integer from 1 to 1,000,000 (got ")


@pytest.mark.parametrize(("given", "size"), [("auto", "auto"), ("250", 250)])
def test_query_takes_auto_and_numbers(given: str, size: object) -> None:
    assert UploadQuery.model_validate({"batch_size": given}).batch_size == size
