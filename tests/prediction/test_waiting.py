"""The event loop in the cost model: seconds of made-up machines, worked out by hand."""

from __future__ import annotations

import pytest

from hotloop.app.prediction.waiting import EventLoop, waits_at_once
from hotloop.app.runhost.calibrate.constants import LoopCosts
from hotloop.app.sources.simulated import SimulatedStage

ITEM, STAGE = (10e-6, 20e-6, 30e-6), (1e-6, 2e-6, 9e-6)


def loop(*seconds: float, task: float = 0.0) -> EventLoop:
    """A loop whose stages wait evenly for `seconds`; a batch costs nothing."""
    stages = tuple(SimulatedStage("db", each, each) for each in seconds)
    waits = waits_at_once(stages, 1, 0.0)
    return EventLoop(LoopCosts(ITEM, STAGE, task, 0.0), stages, waits, 1_000.0)


@pytest.mark.parametrize(
    ("in_flight", "item"), [(1, 10), (500, 10), (2_000, 16.667), (4_000, 20), (10_000, 30)]
)
def test_items_cost_more_with_more_in_flight(in_flight: int, item: float) -> None:
    assert loop(1.0).group_seconds(in_flight) == pytest.approx(item * 1e-6, rel=1e-4)


def test_costs_go_on_rising_beyond_the_measured_numbers() -> None:
    assert loop(1.0).group_seconds(25_000) == pytest.approx(40e-6)


def test_one_wave_ends_when_its_last_item_has_gone_on() -> None:
    assert loop(1.0, task=5e-6).fetch_seconds(500, 500) == pytest.approx(1 + 500 * 15e-6)


def test_last_wave_has_only_its_own_items_to_go_on() -> None:
    waiting = loop(1.0, task=5e-6)
    assert waiting.fetch_seconds(1_400, 500) == pytest.approx(3 + 500 * 5e-6 + 400 * 10e-6)


def test_wave_before_a_short_last_one_may_end_later() -> None:
    """500 items take 5 ms, and wait for 4 ms: the loop has no time to rest."""
    assert loop(4e-3).fetch_seconds(501, 500) == pytest.approx(4e-3 + 501 * 10e-6)


def test_busy_loop_is_idle_until_the_first_item_goes_on() -> None:
    assert loop(1e-3).fetch_seconds(5_000, 500) == pytest.approx(1e-3 + 5_000 * 10e-6)


def test_short_stage_has_few_in_flight() -> None:
    """10,000 items take 0.4 s and wait for 1 s, one twentieth of it in the second stage."""
    assert loop(0.95, 0.05).group_seconds(10_000) == pytest.approx(
        30e-6 + 1e-6 + 1e-6 * 1 / 3,
        rel=1e-3,  # as with 1,000 there: a third of the way to 4,000
    )


def test_second_stage_of_a_busy_loop_has_half_of_them() -> None:
    assert loop(1e-3, 1e-6).group_seconds(10_000) == pytest.approx(39e-6, rel=0.01)


def test_further_stage_costs_little_in_the_first_wave() -> None:
    assert loop(1e-3, 1e-3).fetch_seconds(10_000, 10_000) == pytest.approx(2e-3 + 0.31)
    assert loop(1e-3, 1e-3).fetch_seconds(20_000, 10_000) == pytest.approx(2e-3 + 0.31 + 0.39)
