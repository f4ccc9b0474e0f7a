"""kernels.kernel: what the one validation copies, refuses and leaves alone."""

from typing import Any

import numpy as np
import pytest

from hotloop.kernels import InvalidColumnError, Kernel
from hotloop.kernels.kernel import checked_inputs
from hotloop.kernels.loops import LOOPS
from tests.kernels.cases import LAYOUTS, Columns, columns_of, misaligned, mixed_columns, read_only

COPIED = {"misaligned", "every_third", "backwards", "broadcast", "record_field"}
GOOD = columns_of([1.0, 2.0, 3.0], [1, 2, 3])


def outputs(**changes: Any) -> dict[str, Any]:
    return {"loop": np.zeros(3), "nested": np.zeros(3, dtype=np.int64), **changes}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_input_is_copied_only_when_its_memory_is_not_contiguous_and_aligned(layout: Any) -> None:
    given = {name: layout(column) for name, column in mixed_columns(9).items()}
    checked = checked_inputs(LOOPS.columns_in, given)
    for name, column in checked.items():
        assert np.shares_memory(column, given[name]) is (layout.__name__ not in COPIED)


def test_checked_input_is_read_only_contiguous_and_aligned() -> None:
    for layout in LAYOUTS:
        given = {name: layout(column) for name, column in mixed_columns(9).items()}
        for declared, column in zip(
            LOOPS.columns_in, checked_inputs(LOOPS.columns_in, given).values(), strict=True
        ):
            assert type(column) is np.ndarray
            assert column.dtype.char == np.dtype(declared.dtype).char
            assert column.dtype.metadata is None
            assert column.flags.c_contiguous
            assert column.flags.aligned
            assert not column.flags.writeable


def test_memory_mapped_input_and_output_are_accepted(kernel: Kernel, tmp_path: Any) -> None:
    def mapped(name: str, array: np.ndarray) -> np.ndarray:
        memory = np.memmap(tmp_path / name, dtype=array.dtype, mode="w+", shape=array.shape)
        memory[:] = array
        return memory

    columns = {name: mapped(name, array) for name, array in GOOD.items()}
    out = {name: mapped(name, array) for name, array in outputs().items()}
    expected = kernel.run(GOOD, {"cpu_iterations": 3})
    result = kernel.run(columns, {"cpu_iterations": 3}, out=out)
    assert all(result[name] is out[name] for name in out)
    assert out["loop"].tolist() == expected["loop"].tolist()


def test_first_refused_value_is_named_with_its_position() -> None:
    columns = columns_of([0.0, 2e6, -1.0], [0, 0, 0])
    with pytest.raises(InvalidColumnError) as caught:
        checked_inputs(LOOPS.columns_in, columns)
    assert (
        str(caught.value)
        == "column 'value' must be from 0.0 to 1000000.0, not 2000000.0 at index 1"
    )


def overlapping() -> list[tuple[str, Columns, dict[str, Any], str]]:
    floats = np.zeros(8)
    integers = np.zeros(8, dtype=np.int64)
    shared = np.zeros(3)
    return [
        (
            "input reused",
            {**GOOD, "value": shared},
            outputs(loop=shared),
            "overlaps column 'value'",
        ),
        (
            "shifted by one",
            {**GOOD, "value": floats[:3]},
            outputs(loop=floats[2:5]),
            "overlaps column 'value'",
        ),
        (
            "strided input, which is copied",
            {**GOOD, "offset": integers[::3]},
            outputs(nested=integers[3:6]),
            "overlaps column 'offset'",
        ),
        (
            "other type, same memory",
            {**GOOD, "offset": shared.view(np.int64)},
            outputs(loop=shared),
            "overlaps column 'offset'",
        ),
        (
            "outputs on each other",
            GOOD,
            outputs(loop=shared, nested=shared.view(np.int64)),
            "overlaps column 'loop'",
        ),
    ]


@pytest.mark.parametrize(
    ("columns", "out", "says"),
    [pytest.param(*case[1:], id=case[0]) for case in overlapping()],
)
def test_overlapping_out_is_refused(
    kernel: Kernel, columns: Columns, out: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidColumnError, match="give each output an array of its own") as caught:
        kernel.run(columns, out=out)
    assert says in str(caught.value)


def test_out_between_the_values_of_a_strided_input_is_accepted(kernel: Kernel) -> None:
    memory = np.zeros((2, 4))
    columns = columns_of([0.0, 0.0], [0, 0]) | {"value": memory[:, 0]}
    out = {"loop": memory[0, 1:3], "nested": np.zeros(2, dtype=np.int64)}
    kernel.run(columns, {"cpu_iterations": 2}, out=out)
    assert memory[:, 0].tolist() == [0.0, 0.0]
    assert memory[0, 1] != 0.0


@pytest.mark.parametrize(
    ("out", "field", "says"),
    [
        pytest.param(
            {"loop": np.zeros(3)}, "nested", "output column 'nested' is missing", id="missing"
        ),
        pytest.param(
            outputs(more=np.zeros(3)), "more", "unknown output column 'more'", id="unknown"
        ),
        pytest.param([np.zeros(3)], "output_columns", "must be a mapping", id="no mapping"),
        pytest.param(outputs(loop=[0.0] * 3), "loop", "numpy array, not list", id="list"),
        pytest.param(outputs(loop=np.ma.zeros(3)), "loop", "not MaskedArray", id="masked"),
        pytest.param(outputs(loop=np.zeros(3, "f4")), "loop", "must be float64", id="float32"),
        pytest.param(outputs(loop=np.zeros(3, ">f8")), "loop", "byte order", id="byte-swapped"),
        pytest.param(outputs(nested=np.zeros(3, "u8")), "nested", "must be int64", id="uint64"),
        pytest.param(outputs(loop=np.zeros(2)), "loop", "has 2 values", id="short"),
        pytest.param(outputs(loop=np.zeros(4)), "loop", "shape (3,)", id="long"),
        pytest.param(outputs(loop=np.zeros((3, 1))), "loop", "1 dimension", id="2-D"),
        pytest.param(outputs(loop=np.zeros(6)[::2]), "loop", "C-contiguous", id="strided"),
        pytest.param(outputs(loop=np.zeros(3)[::-1]), "loop", "C-contiguous", id="backwards"),
        pytest.param(outputs(loop=misaligned(np.zeros(3))), "loop", "aligned", id="misaligned"),
        pytest.param(outputs(loop=read_only(np.zeros(3))), "loop", "writable", id="read-only"),
    ],
)
def test_unusable_out_is_refused(kernel: Kernel, out: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidColumnError) as caught:
        kernel.run(GOOD, {"cpu_iterations": 1}, out=out)
    assert caught.value.field == field
    assert says in str(caught.value)
