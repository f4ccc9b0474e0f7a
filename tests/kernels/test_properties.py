"""Properties that hold for any accepted batch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotloop.kernels import Kernel
from tests.kernels.bits import bits
from tests.kernels.cases import Columns, columns_of
from tests.kernels.oracles import addends_magnitude

thorough = settings(max_examples=60, deadline=None, database=None, derandomize=True)

values = st.floats(0.0, 1e6) | st.integers(0, 1_000_000).map(float) | st.just(-0.0)
offsets = st.integers(0, 2**31 - 1)
batches = st.lists(st.tuples(values, offsets), max_size=40).map(
    lambda items: columns_of([value for value, _ in items], [offset for _, offset in items])
)
parameters = st.fixed_dictionaries(
    {
        "cpu_iterations": st.integers(0, 40),
        "outer_iterations": st.integers(0, 12),
        "inner_iterations": st.integers(0, 12),
    }
)


def result_bits(kernel: Kernel, columns: Columns, given: dict[str, int]) -> dict[str, list[int]]:
    return {name: bits(column) for name, column in kernel.run(columns, given).items()}


@thorough
@given(columns=batches, given_parameters=parameters)
@example(columns=columns_of([-0.0], [0]), given_parameters={"cpu_iterations": 1})
def test_compiled_kernels_agree_bit_for_bit(
    cython: Kernel, numba: Kernel, columns: Columns, given_parameters: dict[str, int]
) -> None:
    expected = result_bits(cython, columns, given_parameters)
    assert result_bits(numba, columns, given_parameters) == expected


@thorough
@given(columns=batches, given_parameters=parameters)
def test_compiled_kernel_agrees_with_python(
    compiled: Kernel, python: Kernel, columns: Columns, given_parameters: dict[str, int]
) -> None:
    expected = python.run(columns, given_parameters)
    computed = compiled.run(columns, given_parameters)
    assert bits(computed["nested"]) == bits(expected["nested"])
    iterations = given_parameters["cpu_iterations"]
    for index, value in enumerate(columns["value"].tolist()):
        bound = 4 * 2.0**-52 * addends_magnitude(value, iterations)
        assert abs(computed["loop"][index] - expected["loop"][index]) <= bound


@thorough
@given(columns=batches, given_parameters=parameters, cut=st.integers(0, 40))
def test_batch_in_two_parts_equals_the_whole(
    kernel: Kernel, columns: Columns, given_parameters: dict[str, int], cut: int
) -> None:
    whole = result_bits(kernel, columns, given_parameters)
    first = result_bits(kernel, {k: v[:cut] for k, v in columns.items()}, given_parameters)
    second = result_bits(kernel, {k: v[cut:] for k, v in columns.items()}, given_parameters)
    assert {name: first[name] + second[name] for name in whole} == whole


@thorough
@given(columns=batches, given_parameters=parameters, random=st.randoms(use_true_random=False))
def test_result_does_not_depend_on_the_order_of_items(
    kernel: Kernel, columns: Columns, given_parameters: dict[str, int], random: Any
) -> None:
    order = list(range(len(columns["value"])))
    random.shuffle(order)
    shuffled = {name: column[order] for name, column in columns.items()}
    expected = kernel.run(columns, given_parameters)
    computed = kernel.run(shuffled, given_parameters)
    for name, column in expected.items():
        assert bits(computed[name]) == bits(column[order])


@thorough
@given(item_ids=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_simulated_columns_are_always_accepted(python: Kernel, item_ids: list[int]) -> None:
    columns = python.workload.simulated_columns(np.array(item_ids, dtype=np.int64))
    assert columns["value"].tolist() == [item_id % 1_000_000 for item_id in item_ids]
    assert columns["offset"].tolist() == [item_id % 2**31 for item_id in item_ids]
    python.run(columns, dict.fromkeys(("cpu_iterations", "outer_iterations"), 0))


@pytest.mark.parametrize("name", ["cpu_iterations", "outer_iterations", "inner_iterations"])
def test_every_parameter_changes_the_result(kernel: Kernel, name: str) -> None:
    columns = columns_of([1.0, 2.0], [1, 2])
    base = {"cpu_iterations": 5, "outer_iterations": 5, "inner_iterations": 5}
    assert result_bits(kernel, columns, base) != result_bits(kernel, columns, {**base, name: 6})
