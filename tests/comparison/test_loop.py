"""comparison.loop, record: the way through a comparison, on a machine that is made up."""

from __future__ import annotations

from collections import Counter

import pytest

from hotloop.app.comparison.loop import LEAST_SECONDS, MAX_DEATHS, NO_TIME, shuffled
from hotloop.app.comparison.record import CellId, ComparisonRecord, Size
from hotloop.app.errors import (
    ErrorRateExceededError,
    RunCancelledError,
    RunHostDiedError,
    RunTimeoutError,
    ServiceError,
    StoreUnavailableError,
)
from tests.fixtures.made_up import ITEMS, MadeUpMachine, record_of

A, B, C = (CellId(name, "cython") for name in ("sequential", "threading", "hybrid"))
COSTS = {A: 3.0, B: 2.0, C: 1.0}


def rounds_of(record: ComparisonRecord) -> dict[CellId, list[int]]:
    return {cell.cell: [s.round for s in cell.samples] for cell in record.cells}


def each_of(*rounds: int) -> dict[CellId, list[int]]:
    return {cell: list(rounds) for cell in COSTS}


def test_every_cell_is_warmed_up_cold_and_then_measured_in_every_round() -> None:
    machine = MadeUpMachine(COSTS)
    record = machine.compare(record_of(COSTS, rounds=4))
    assert rounds_of(record) == each_of(0, 1, 2, 3, 4)
    assert [call[1] for call in machine.calls] == sorted(call[1] for call in machine.calls)
    assert all(cold == (number == 0) for _, number, _, cold in machine.calls)
    assert record.done == record.planned == 15
    assert record.used_seconds == pytest.approx(machine.now) == 30.0


def test_rounds_have_orders_of_their_own_which_the_task_decides() -> None:
    costs = {CellId("sequential", f"k{n}"): 1.0 for n in range(8)}

    def orders(seed: str) -> list[list[CellId]]:
        machine = MadeUpMachine(costs)
        machine.compare(record_of(costs, rounds=6), seed)
        return [[c[0] for c in machine.calls if c[1] == n] for n in range(1, 7)]

    mine = orders("one")
    assert mine == orders("one") != orders("other")
    assert len({tuple(order) for order in mine}) == 6
    assert all(set(order) == set(costs) for order in mine)


def test_slow_set_ups_are_warmed_up_last() -> None:
    record = record_of(COSTS)
    record.cells[0].setup_estimate = 9.0
    machine = MadeUpMachine(COSTS)
    machine.compare(record)
    assert [call[0] for call in machine.calls[:3]] == [B, C, A]


def test_rounds_that_the_budget_has_no_room_for_are_left_out() -> None:
    record = MadeUpMachine(COSTS).compare(record_of(COSTS, budget_seconds=15.0))
    assert record.used_seconds <= 15.0
    assert all(1 <= len(cell.timed) < 5 for cell in record.cells)
    assert not any(cell.is_skipped for cell in record.cells)


def test_cell_that_the_budget_never_had_room_for_says_so() -> None:
    record = MadeUpMachine(COSTS).compare(record_of(COSTS, budget_seconds=5.0))
    reasons = {cell.cell: cell.reason for cell in record.cells}
    assert reasons[A] == NO_TIME
    assert reasons[C] is None
    assert record.used_seconds <= 5.0


def test_execution_that_sets_up_may_take_what_is_left_for_that_beside() -> None:
    machine = MadeUpMachine(COSTS)
    record = record_of(COSTS, budget_seconds=20.0, setup_budget_seconds=5.0)
    for cell in record.cells:
        cell.setup_estimate = 1.0
    machine.compare(record)
    assert machine.timeouts[0] == pytest.approx(25.0)


def test_setting_up_takes_nothing_from_the_budget() -> None:
    machine = MadeUpMachine(COSTS, setup=dict.fromkeys(COSTS, 20.0))
    record = machine.compare(record_of(COSTS, rounds=2, budget_seconds=18.0))
    assert rounds_of(record) == each_of(0, 1, 2)
    assert (record.used_seconds, record.setup_seconds) == pytest.approx((18.0, 60.0))
    assert record.duration_seconds == pytest.approx(machine.now)


def test_cell_without_time_for_its_set_up_gives_that_reason() -> None:
    machine = MadeUpMachine(COSTS, setup=dict.fromkeys(COSTS, 20.0))
    record = record_of(COSTS, rounds=2, setup_budget_seconds=45.0)
    for cell in record.cells:
        cell.setup_estimate = 20.0
    machine.compare(record)
    (skipped,) = (cell for cell in record.cells if cell.is_skipped)
    assert skipped.cell == C
    assert skipped.reason is not None
    assert skipped.reason == (
        "Set-up takes about 20.0 s, but only 5.0 s of setup_budget_seconds = 45 are left. Raise "
        "setup_budget_seconds."
    )
    assert all(len(cell.timed) == 2 for cell in record.cells if cell is not skipped)


def test_exact_comparison_ignores_the_budget_for_one_round() -> None:
    machine = MadeUpMachine(COSTS)
    record = machine.compare(record_of(COSTS, budget_seconds=1.0, exact=True))
    assert rounds_of(record) == each_of(0, 1)
    assert set(machine.timeouts) == {None}


def test_execution_may_take_what_is_left_of_the_budget() -> None:
    machine = MadeUpMachine(COSTS)
    machine.compare(record_of(COSTS, budget_seconds=20.0, setup_budget_seconds=5.0))
    assert machine.timeouts[0] == pytest.approx(20.0)
    assert all(LEAST_SECONDS <= (timeout or 0) <= 20 for timeout in machine.timeouts)
    assert machine.timeouts == sorted(machine.timeouts, reverse=True)  # type: ignore[type-var]


def test_several_sizes_take_turns() -> None:
    record = record_of({A: 3.0}, rounds=4)
    record.cells[0].sizes = (Size(100, 5_000, 0.3), Size(50, 5_000, 0.15))
    machine = MadeUpMachine({A: 3.0})
    machine.compare(record)
    assert [items for _, _, items, _ in machine.calls] == [50, 100, 50, 100, 50]
    assert [s.full_seconds for s in record.cells[0].samples] == pytest.approx([3.0] * 5)
    assert record.cells[0].samples[0].items < ITEMS


def test_cell_whose_run_host_died_is_tried_again_after_another_warm_up() -> None:
    def die_once(cell: CellId, call: int) -> ServiceError | None:
        return RunHostDiedError(-9) if (cell, call) == (B, 3) else None

    machine = MadeUpMachine(COSTS, failing=die_once)
    record = machine.compare(record_of(COSTS, rounds=3))
    assert rounds_of(record) == each_of(0, 1, 2, 3)
    died = next(n for n, c in enumerate(machine.calls) if c[0] == B and c[1] == 2)
    after = machine.calls[died + 1 :]
    # The new run host knows no cell: each is warmed up before it is timed, and not cold any more.
    assert after[0] == (B, 0, ITEMS, False)
    for cell in COSTS:
        assert next(c for c in after if c[0] == cell)[1] == 0
    assert [cell.deaths for cell in record.cells] == [0, 1, 0]


def test_cell_that_always_kills_its_process_is_skipped() -> None:
    def die(cell: CellId, call: int) -> ServiceError | None:
        return RunHostDiedError(-9) if cell == B else None

    machine = MadeUpMachine(COSTS, failing=die)
    record = machine.compare(record_of(COSTS, rounds=2))
    assert Counter(call[0] for call in machine.calls)[B] == MAX_DEATHS
    assert "died" in (record.cells[1].reason or "")
    assert len(record.cells[0].timed) == len(record.cells[2].timed) == 2
    assert record.done == record.planned


@pytest.mark.parametrize(
    "error",
    [ErrorRateExceededError(9, 10, 0.1), RunTimeoutError(3.0)],
    ids=lambda e: type(e).__name__,
)
def test_cell_that_fails_by_itself_is_skipped_with_the_reason(error: ServiceError) -> None:
    machine = MadeUpMachine(COSTS, failing=lambda cell, call: error if cell == A else None)
    record = machine.compare(record_of(COSTS, rounds=2))
    assert record.cells[0].reason == str(error)
    assert Counter(call[0] for call in machine.calls)[A] == 1
    assert len(record.cells[1].timed) == 2


def test_round_that_does_not_end_in_time_is_left_out() -> None:
    def late(cell: CellId, call: int) -> ServiceError | None:
        return RunTimeoutError(3.0) if cell == A and call > 2 else None

    record = MadeUpMachine(COSTS, failing=late).compare(record_of(COSTS, rounds=3))
    assert rounds_of(record)[A] == [0, 1]
    assert not record.cells[0].is_skipped


@pytest.mark.parametrize("error", [RunCancelledError(), StoreUnavailableError("gone")], ids=str)
def test_ended_comparison_keeps_its_measurements(error: ServiceError) -> None:
    calls = 0

    def end(cell: CellId, call: int) -> ServiceError | None:
        nonlocal calls
        calls += 1
        return error if calls == 5 else None

    record = record_of(COSTS)
    with pytest.raises(type(error)):
        MadeUpMachine(COSTS, failing=end).compare(record)
    assert record.done == 4


def test_resumed_comparison_measures_only_missing_rounds() -> None:
    calls = 0

    def end(cell: CellId, call: int) -> ServiceError | None:
        nonlocal calls
        calls += 1
        return RunCancelledError() if calls == 6 else None

    record = record_of(COSTS, rounds=3)
    with pytest.raises(RunCancelledError):
        MadeUpMachine(COSTS, failing=end).compare(record)
    stored = ComparisonRecord.from_json(record.to_json())
    assert stored == record
    assert stored is not None
    before = [list(cell.samples) for cell in stored.cells]
    machine = MadeUpMachine(COSTS)
    machine.compare(stored)
    assert rounds_of(stored) == each_of(0, 1, 2, 3)
    assert [cell.samples[: len(b)] for cell, b in zip(stored.cells, before, strict=True)] == before
    # Its run host is new to every cell: one more warm-up each, which is not noted.
    assert Counter(number for _, number, _, _ in machine.calls)[0] == 3
    assert len(machine.calls) == 3 + 12 - sum(map(len, before))


def test_every_sample_is_saved_before_the_next_begins() -> None:
    record = record_of(COSTS, rounds=2)
    machine = MadeUpMachine(COSTS)
    seen: list[int] = []

    async def save() -> None:
        seen.append(record.done)

    machine.save = save  # type: ignore[method-assign]
    machine.compare(record)
    assert seen == [*range(1, 10), 9]


def test_cells_that_cannot_run_are_not_measured() -> None:
    record = record_of(COSTS, rounds=1)
    record.cells[1].reason = "numba: not installed"
    machine = MadeUpMachine(COSTS)
    machine.compare(record)
    assert B not in {call[0] for call in machine.calls}
    assert record.planned == 4


def test_each_round_has_all_cells_in_another_order() -> None:
    assert sorted(shuffled(range(20), "seed", 3)) == list(range(20))
    assert shuffled(range(20), "seed", 3) != shuffled(range(20), "seed", 4)
