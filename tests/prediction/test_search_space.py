"""The variants of a plan that are ranked, and their order."""

from __future__ import annotations

import itertools
import random

import pytest

from hotloop.app.names import StrategyName
from hotloop.app.prediction.search_space import TIE, Candidate, Fixed, ranked, search_space
from hotloop.app.schemas.recommendation import Limit
from hotloop.app.sources.simulated import SimulatedStage
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.calibrations import usual
from tests.prediction.test_model import plan

ALL = Fixed(kernels=("python", "cython", "numba"))
PLENTY = 1 << 40
STAGES = (SimulatedStage("db", 0.01, 0.01),)


def rank(made: Plan, fixed: Fixed = ALL, memory_bytes: int = PLENTY) -> list[Candidate]:
    return ranked(search_space(made, fixed, usual()), usual(), memory_bytes)


def key(choice: Candidate) -> tuple[object, ...]:
    plan = choice.plan
    return plan.strategy, plan.kernel, plan.workers, plan.batch_size, plan.io_concurrency


def test_every_variant_is_ranked_once() -> None:
    found = [key(choice) for choice in rank(plan(stages=STAGES))]
    assert len(set(found)) == len(found)
    assert {(strategy, kernel) for strategy, kernel, *_ in found} == set(
        itertools.product(LOCAL_STRATEGIES, ALL.kernels)
    )


def test_order_is_by_seconds_except_for_ties_and_deterministic() -> None:
    made = plan(stages=STAGES)
    found = rank(made)
    seconds = [choice.prediction.seconds for choice in found]
    assert all(
        later >= earlier / (1 + TIE) * (1 - 1e-9) for earlier, later in itertools.pairwise(seconds)
    )
    shuffled = list(search_space(made, ALL, usual()))
    random.Random(1).shuffle(shuffled)
    assert [key(c) for c in ranked(shuffled, usual(), PLENTY)] == [key(c) for c in found]


def test_ties_go_to_fewer_workers() -> None:
    made = plan(stages=(SimulatedStage("db", 1.0, 1.0),), items=50)
    best = rank(made, Fixed(kernels=("cython",), strategy=StrategyName.HYBRID))[0].plan
    assert best.workers == 1
    assert best.io_concurrency == 50


@pytest.mark.parametrize(
    ("fixed", "name"),
    [
        (Fixed(("cython",), workers=3), "workers"),
        (Fixed(("cython",), batch_size=77), "batch_size"),
        (Fixed(("cython",), io_concurrency=33), "io_concurrency"),
        (Fixed(("cython",), strategy=StrategyName.THREADING), "strategy"),
    ],
    ids=["workers", "batch_size", "io_concurrency", "strategy"],
)
def test_fixed_choices_are_kept(fixed: Fixed, name: str) -> None:
    found = {getattr(choice.plan, name) for choice in rank(plan(stages=STAGES), fixed)}
    assert found == {getattr(fixed, name)}
    assert {choice.plan.kernel for choice in rank(plan(), fixed)} == {"cython"}


def test_plans_that_need_too_much_memory_come_last() -> None:
    made = plan(items=1_000_000)
    most = sorted(choice.prediction.memory_bytes for choice in rank(made))
    limit = most[len(most) // 2]
    found = rank(made, memory_bytes=limit)
    too_large = [choice.prediction.memory_bytes > limit for choice in found]
    assert too_large == sorted(too_large)
    assert 0 < sum(too_large) < len(found)
    for choice, is_too_large in zip(found, too_large, strict=True):
        assert (choice.prediction.limited_by is Limit.MEMORY) == is_too_large


def test_groups_fit_into_batches() -> None:
    fixed = Fixed(("cython",), query_batch_size=100)
    for choice in rank(plan(), fixed):
        assert choice.plan.group_size == min(100, choice.plan.batch_size)
