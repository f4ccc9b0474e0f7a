"""`loops._python`, `loops._cython`, `loops._numba`: how the kernels must agree with each other."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from hotloop.kernels import InvalidInputError, Kernel
from tests.kernels.bits import bits
from tests.kernels.cases import (
    BATCH_SIZES,
    SMALL,
    Case,
    Refusal,
    accepted,
    edge_columns,
    mixed_columns,
    refused,
)
from tests.kernels.oracles import addends_magnitude

each_case = pytest.mark.parametrize("case", accepted(), ids=lambda case: case.name)
each_refusal = pytest.mark.parametrize("refusal", refused(), ids=lambda refusal: refusal.name)


def parity_bound(value: float, cpu_iterations: int) -> float:
    return 4 * 2.0**-52 * addends_magnitude(value, cpu_iterations)


@each_case
def test_nested_of_compiled_kernel_equals_python(
    compiled: Kernel, python: Kernel, case: Case
) -> None:
    expected = python.run(case.columns, case.parameters)["nested"]
    assert bits(compiled.run(case.columns, case.parameters)["nested"]) == bits(expected)


@each_case
def test_loop_of_compiled_kernel_is_within_bound_of_python(
    compiled: Kernel, python: Kernel, case: Case
) -> None:
    iterations = compiled.workload.resolve_parameters(case.parameters)["cpu_iterations"]
    expected = python.run(case.columns, case.parameters)["loop"].tolist()
    computed = compiled.run(case.columns, case.parameters)["loop"].tolist()
    for value, wanted, got in zip(case.columns["value"].tolist(), expected, computed, strict=True):
        assert abs(got - wanted) <= parity_bound(value, iterations), value


@each_case
def test_cython_and_numba_agree_bit_for_bit(compiled: Kernel, numba: Kernel, case: Case) -> None:
    expected = numba.run(case.columns, case.parameters)
    computed = compiled.run(case.columns, case.parameters)
    for name in ("loop", "nested"):
        assert bits(computed[name]) == bits(expected[name])


def test_cython_and_numba_agree_bit_for_bit_over_the_default_iterations(
    compiled: Kernel, numba: Kernel
) -> None:
    columns = mixed_columns(33, seed=2)
    assert bits(compiled.run(columns)["loop"]) == bits(numba.run(columns)["loop"])


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_item_has_the_same_bits_in_any_batch_of_any_size(kernel: Kernel, size: int) -> None:
    columns = mixed_columns(257, seed=3)
    whole = {name: bits(column) for name, column in kernel.run(columns, SMALL).items()}
    pieces: dict[str, list[int]] = {name: [] for name in whole}
    for start in range(0, 257, size):
        piece = {name: column[start : start + size] for name, column in columns.items()}
        for name, column in kernel.run(piece, SMALL).items():
            pieces[name] += bits(column)
    assert pieces == whole


def test_item_has_the_same_bits_at_any_position_and_beside_any_neighbour(kernel: Kernel) -> None:
    columns = edge_columns()
    size = len(columns["value"])
    expected = {name: bits(column) for name, column in kernel.run(columns, SMALL).items()}
    for shift in range(size):
        rolled = {name: np.roll(column, shift) for name, column in columns.items()}
        for name, column in kernel.run(rolled, SMALL).items():
            assert bits(np.roll(column, -shift)) == expected[name]


def test_item_has_the_same_bits_when_threads_share_the_kernel(kernel: Kernel) -> None:
    columns = mixed_columns(64, seed=4)
    expected = bits(kernel.run(columns, SMALL)["loop"])
    barrier = Barrier(4)

    def run_together() -> list[list[int]]:
        barrier.wait()
        return [bits(kernel.run(columns, SMALL)["loop"]) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(run_together) for _ in range(4)]
        assert all(result == expected for future in futures for result in future.result())


@each_case
def test_result_has_the_declared_columns(kernel: Kernel, case: Case) -> None:
    result = kernel.run(case.columns, case.parameters)
    assert list(result) == [column.name for column in kernel.workload.columns_out]
    for column in kernel.workload.columns_out:
        array = result[column.name]
        assert type(array) is np.ndarray
        assert array.dtype == np.dtype(column.dtype)
        assert array.shape == case.columns["value"].shape
        assert array.flags.c_contiguous
        assert array.flags.writeable


@each_case
def test_input_is_not_modified(kernel: Kernel, case: Case) -> None:
    before = {name: column.tobytes() for name, column in case.columns.items()}
    flags = {name: str(column.flags) for name, column in case.columns.items()}
    parameters = dict(case.parameters)
    kernel.run(case.columns, case.parameters)
    assert {name: column.tobytes() for name, column in case.columns.items()} == before
    assert {name: str(column.flags) for name, column in case.columns.items()} == flags
    assert case.parameters == parameters


@each_case
def test_out_gets_the_same_bits_and_is_returned(kernel: Kernel, case: Case) -> None:
    size = len(case.columns["value"])
    out = {"loop": np.full(size, np.nan), "nested": np.full(size, -1, dtype=np.int64)}
    expected = kernel.run(case.columns, case.parameters)
    result = kernel.run(case.columns, case.parameters, out=out)
    for name, column in expected.items():
        assert result[name] is out[name]
        assert bits(out[name]) == bits(column)


@each_refusal
def test_refused_input_has_the_same_error_in_every_kernel(
    kernel: Kernel, python: Kernel, refusal: Refusal
) -> None:
    out = {"loop": np.full(3, 7.0), "nested": np.full(3, 7)}
    with pytest.raises(InvalidInputError) as caught:
        kernel.run(refusal.columns, refusal.parameters, out=out)
    with pytest.raises(InvalidInputError) as reference:
        python.run(refusal.columns, refusal.parameters, out=out)
    assert type(caught.value) is type(reference.value) is refusal.error
    assert str(caught.value) == str(reference.value)
    assert caught.value.field == reference.value.field == refusal.field
    assert refusal.says in str(caught.value)
    assert out["loop"].tolist() == out["nested"].tolist() == [7, 7, 7]
