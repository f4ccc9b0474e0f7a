"""kernels/guarded.py: a batch in which some items fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hotloop.kernels import guarded
from hotloop.kernels.errors import InvalidParameterError
from hotloop.kernels.guarded import EXPLAINED, PARTS, run_in_parts
from hotloop.kernels.kernel import Kernel
from tests.fixtures.second_workload import WORKLOAD

ITEMS = 1_000
PARAMETERS = {"steps": 50, "rate": 0.02}


class Batch:
    """A batch function that raises for an item whose start is among some values."""

    def __init__(self, bad: Mapping[float, BaseException]) -> None:
        self.bad = bad
        self.sizes: list[int] = []

    def __call__(self, start: Any, months: Any, steps: int, rate: float, *out: Any) -> None:
        self.sizes.append(len(start))
        for column in out:
            column[:] = 7
        for value in start.tolist():
            if value in self.bad:
                raise self.bad[value]
        out[0][:] = start + months


def kernel_of(batch: Callable[..., None], name: str = "compiled") -> Kernel:
    return Kernel(name, WORKLOAD, True, None, (batch,), lambda: None)


def inputs(count: int = ITEMS) -> dict[str, NDArray[Any]]:
    return {
        "start": np.arange(1.0, count + 1),
        "months": np.full(count, 2, dtype=WORKLOAD.columns_in[1].dtype),
    }


def outputs(count: int = ITEMS) -> dict[str, NDArray[Any]]:
    return {c.name: np.zeros(count, dtype=c.dtype) for c in WORKLOAD.columns_out}


def run(
    bad: Mapping[float, BaseException], explain: guarded.Explain | None = None, **names: Any
) -> tuple[dict[int, str], dict[str, NDArray[Any]], Batch]:
    batch, out = Batch(bad), outputs()
    reasons = run_in_parts(kernel_of(batch, **names), inputs(), PARAMETERS, out, explain)
    return reasons, out, batch


def test_failed_items_are_found_and_the_others_are_computed() -> None:
    bad = {float(n): ValueError(f"not {n}") for n in (1, 500, 501, ITEMS)}
    reasons, out, batch = run(bad)
    assert reasons == {n - 1: f"ValueError: not {n}" for n in (1, 500, 501, ITEMS)}
    failed = np.zeros(ITEMS, dtype=bool)
    failed[list(reasons)] = True
    expected = np.where(failed, 0, inputs()["start"] + 2)
    assert np.array_equal(out[WORKLOAD.columns_out[0].name], expected)
    for column in out.values():
        assert not column[failed].any()
    # One failed item costs its part again and again, in parts of a sixteenth.
    assert sum(batch.sizes) < 2 * ITEMS
    assert len(batch.sizes) < 3 * 4 * PARTS


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_whatever_a_function_raises_fails_its_item_only(fault: BaseException) -> None:
    reasons, _, _ = run({7.0: fault})
    assert list(reasons) == [6]
    assert reasons[6].startswith(type(fault).__name__)


@pytest.mark.parametrize("fault", [MemoryError("10 GiB"), InvalidParameterError("steps", "no")])
def test_faults_of_which_no_item_is_the_cause_are_raised(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        run({7.0: fault})


def test_no_item_fails_if_the_parts_do_not() -> None:
    assert run({})[0] == {}
    out = outputs(0)
    assert run_in_parts(kernel_of(Batch({})), inputs(0), PARAMETERS, out, None) == {}


def test_plain_function_is_asked_for_the_reasons_of_the_first_items() -> None:
    asked: list[int] = []

    def explain(columns: Any, parameters: Any, row: int) -> str | None:
        asked.append(row)
        return None if row % 2 else f"asked about {columns['start'][row]:g}"

    reasons, _, _ = run({float(n): ValueError("compiled") for n in range(1, 51)}, explain)
    assert asked == list(range(EXPLAINED))
    assert reasons == {
        row: f"asked about {row + 1}"
        if row < EXPLAINED and row % 2 == 0
        else "ValueError: compiled"
        for row in range(50)
    }


def test_reference_needs_no_explanation() -> None:
    def explain(columns: Any, parameters: Any, row: int) -> str | None:
        raise AssertionError

    reasons, _, _ = run({7.0: ValueError("plain")}, explain, name="python")
    assert reasons[6].startswith("ValueError: plain at test_guarded.py:")


@pytest.mark.parametrize(("limit", "value"), [("SHORT_SECONDS", -1.0), ("EXPLAINING_SECONDS", 0.0)])
def test_plain_function_is_not_asked_about_items_that_take_long(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """It may take a thousand times as long as the compiled kernel."""
    monkeypatch.setattr(guarded, limit, value)
    asked: list[int] = []

    def explain(columns: Any, parameters: Any, row: int) -> str | None:
        asked.append(row)
        return "told"

    reasons, _, _ = run({7.0: ValueError("compiled")}, explain)
    assert reasons == {6: "ValueError: compiled"}
    assert asked == []


def test_error_whose_text_cannot_be_had_is_named() -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert run({7.0: SilentError()})[0] == {6: "SilentError"}
