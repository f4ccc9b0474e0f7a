"""strategies.cluster: what a parcel holds, and what a worker makes of it, without any cluster."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.errors import ClusterUnusableError
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import ItemBatch
from hotloop.app.sources.inline import InlineItems
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import iter_batches
from hotloop.app.strategies.cluster import parcels, strategy
from hotloop.app.strategies.cluster.parcels import Outcome, Parcel, cut, pack
from hotloop.app.strategies.cluster.strategy import (
    MOST_BATCHES,
    PARCEL_SECONDS,
    parcel_batches,
    sent_bytes,
)
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum

COUNT: Final = 1_000


def plan(**changes: Any) -> Plan:
    return make_plan(StrategyName.DASK, **changes)


def given_items(count: int = COUNT) -> InlineItems:
    """Items that are not generated, so that they have to travel."""
    ids = np.arange(count, dtype=np.int64)[::-1].copy()
    return InlineItems(ids, kernels.get_workload("loops").simulated_columns(ids))


def indexes(made: Plan, size: int) -> list[list[int]]:
    return [[batch.index for batch in each] for each in cut(iter_batches(made), size)]


# --- cutting -----------------------------------------------------------------------------------


def test_parcels_have_the_size_and_the_last_the_rest() -> None:
    assert indexes(plan(), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert indexes(plan(), 1) == [[n] for n in range(10)]
    assert indexes(plan(), 10) == indexes(plan(), 99) == [list(range(10))]
    assert indexes(plan(items=GeneratedItems(1)), 5) == [[0]]
    assert indexes(plan(items=GeneratedItems(0)), 5) == []


def test_parcel_ends_at_a_gap() -> None:
    """A run that is resumed leaves out what is stored already."""
    batches = list(cut(iter_batches(plan(ranges=((0, 150), (300, 100), (400, 50)))), 10))
    spans = [[(batch.start, batch.count) for batch in each] for each in batches]
    assert spans[0] == [(0, 100), (100, 50)]
    assert spans[1][0][0] == 300
    for parcel in batches:
        for one, other in pairwise(parcel):
            assert one.start + one.count == other.start
    assert sum(batch.count for each in batches for batch in each) == 300


# --- packing -----------------------------------------------------------------------------------


def test_parcel_holds_only_its_own_items_at_their_positions() -> None:
    made = plan(items=given_items(), ranges=((0, COUNT),), memory_bytes=1 << 30)
    _, second, *_ = cut(iter_batches(made), 2)
    packed: Parcel = pickle.loads(pack("run", made, second))
    assert (packed.run, packed.batches) == ("run", second)
    assert packed.plan.items.count == 200
    for batch in second:
        ours = made.items.load("loops", batch.start, batch.count)
        theirs = packed.plan.items.load("loops", batch.start, batch.count)
        assert np.array_equal(ours.item_ids, theirs.item_ids)
        assert all(np.array_equal(ours.columns[c], theirs.columns[c]) for c in ours.columns)
    assert (packed.plan.ranges, packed.plan.memory_bytes) == (None, None)


def test_generated_items_do_not_travel() -> None:
    many = plan(items=GeneratedItems(10_000_000), batch_size=1_000_000)
    assert len(pack("run", many, tuple(iter_batches(many)))) < 10_000
    assert (sent_bytes(many), sent_bytes(plan(items=given_items()))) == (0, 24)


def test_size_of_a_parcel_follows_its_items() -> None:
    made = plan(items=given_items(), batch_size=10)
    sizes = [len(pack("run", made, each)) for each in cut(iter_batches(made), 50)]
    assert len(sizes) == 2
    assert all(500 * sent_bytes(made) <= size <= 500 * sent_bytes(made) + 10_000 for size in sizes)


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "workers", "batches"),
    [
        ({"batch_seconds": 0.0}, 2, 1),
        ({"batch_seconds": -1.0}, 2, 1),
        ({"batch_seconds": 60.0}, 2, 1),
        ({"batch_seconds": 1e-9}, 1, 3),  # 10 batches: at least four parcels
        ({"batch_seconds": 1e-9}, 256, 1),
        ({"batch_seconds": PARCEL_SECONDS / 7, "items": GeneratedItems(10**6)}, 2, 7),
        ({"batch_seconds": 1e-9, "items": GeneratedItems(10**7), "batch_size": 1}, 2, MOST_BATCHES),
        ({"batch_seconds": 1e-9, "items": GeneratedItems(0)}, 2, 1),
    ],
)
def test_batches_of_a_parcel(changes: dict[str, Any], workers: int, batches: int) -> None:
    assert parcel_batches(plan(**changes), workers) == batches


def test_bytes_of_all_parcels_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(items=given_items(), batch_size=1, batch_seconds=1e-9)
    free = parcel_batches(made, 2)
    each = len(pack("run", made, tuple(iter_batches(made)))) // COUNT
    monkeypatch.setattr(strategy, "MOST_BYTES", 2 * 2 * each * 10)
    assert 1 < parcel_batches(made, 2) < free
    monkeypatch.setattr(strategy, "MOST_BYTES", 1)
    assert parcel_batches(made, 2) == 1


# --- what a worker does ------------------------------------------------------------------------


def computed(made: Plan, size: int = 3) -> list[Outcome]:
    packed = [pack("run", made, each) for each in cut(iter_batches(made), size)]
    return [pickle.loads(parcels.compute(payload)) for payload in packed]


@pytest.mark.parametrize("items", [GeneratedItems(COUNT), given_items()], ids=["made", "sent"])
def test_parcels_together_give_the_checksum_of_a_direct_call(items: Any) -> None:
    made = plan(items=items)
    outcomes = computed(made)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    results = [result for outcome in outcomes for result in outcome.results]
    assert [result.batch.index for result in results] == list(range(10))
    assert total_checksum(results) == expected_checksum(made)
    for outcome in outcomes:
        first, *rest = outcome.results
        assert first.usage is not None
        assert first.usage.peak_bytes > 1 << 20
        assert [result.usage for result in rest] == [None] * len(rest)


def test_parcel_of_other_code_is_refused_with_both_versions() -> None:
    made = plan()
    packed: Parcel = pickle.loads(pack("run", made, tuple(iter_batches(made))))
    other = replace(packed, code=replace(packed.code, hotloop="0.0.1", source="0" * 12))
    outcome: Outcome = pickle.loads(parcels.compute(pickle.dumps(other)))
    assert outcome.results == ()
    assert isinstance(outcome.error, ClusterUnusableError)
    assert "this service has hotloop 0.0.1 (code 000000000000)" in str(outcome.error)
    assert f"a worker has {packed.code}" in str(outcome.error)


def test_error_of_a_batch_ends_the_parcel_and_travels() -> None:
    made = plan(parameters={"cpu_iterations": -1})
    (outcome,) = computed(made, 10)
    assert (outcome.results, type(outcome.error)) == ((), kernels.InvalidParameterError)


class StoppingItems:
    """Items whose second batch is loaded after their run was stopped."""

    count = COUNT

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        if start:
            assert parcels.stop("stopped-in-work") == 1
        return GeneratedItems(COUNT).load(workload, start, count)


def test_stopped_run_ends_after_the_batch_in_work() -> None:
    made = plan(items=StoppingItems())
    batches = tuple(iter_batches(made))
    packed = pickle.dumps(Parcel("stopped-in-work", made, batches, parcels.code()))
    outcome: Outcome = pickle.loads(parcels.compute(packed))
    assert outcome.error is None
    assert len(outcome.results) < len(batches)
    assert parcels.stop("stopped-in-work") == 0


def test_parcel_that_comes_after_its_run_was_stopped_is_not_computed() -> None:
    assert parcels.stop("late") == 0
    made = plan()
    outcome: Outcome = pickle.loads(parcels.compute(pack("late", made, tuple(iter_batches(made)))))
    assert (outcome.results, outcome.error) == ((), None)


def test_interrupt_stops_the_parcel_and_is_raised_after_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def compute(payload: bytes) -> bytes:
        with parcels._stoppable("interrupted") as stop:
            begun.set()
            assert stop.wait(30)
            ended.set()
            return payload

    def interrupt(*_: Any, **__: Any) -> None:
        assert begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(parcels, "compute", compute)
    monkeypatch.setattr(parcels, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        parcels.compute_interruptibly(b"")
    assert ended.is_set()
    assert parcels.stop("interrupted") == 0


def test_worker_says_whether_it_can_execute_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = plan(items=GeneratedItems(0))
    assert pickle.loads(parcels.prepare(pickle.dumps(bare))) == parcels.code()
    monkeypatch.setattr(kernels, "why_unavailable", lambda *_: "it is not compiled")
    refused = pickle.loads(parcels.prepare(pickle.dumps(bare)))
    assert isinstance(refused, ClusterUnusableError)
    assert "lacks the kernel python: it is not compiled" in str(refused)
