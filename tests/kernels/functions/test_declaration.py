"""Declaring and running a function: `kernels/functions/{declaration,signature,columns}.py`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hotloop
from hotloop.kernels import InvalidColumnError, KernelUnavailableError, UnknownKernelError
from hotloop.kernels.functions.declaration import WorkloadFunction
from tests.kernels.functions import samples


def test_annotations_alone_are_a_declaration() -> None:
    declared = samples.ratio.declaration
    assert (declared.name, declared.description) == ("ratio", "Divide a number.")
    assert [(c.name, c.dtype) for c in declared.columns_in] == [("x", "float64")]
    (divisor,) = declared.parameters
    assert (divisor.name, divisor.default, divisor.dtype) == ("divisor", 2, "int64")
    assert (divisor.minimum, divisor.maximum) == (-(2**63), 2**63 - 1)
    assert [(c.name, c.dtype) for c in declared.columns_out] == [("result", "float64")]
    assert declared.depends_on_data, "an integer parameter may decide how long an item takes"
    mixed = samples.kinds.declaration
    assert [c.dtype for c in mixed.columns_in] == ["bool", "int64", "float64"]
    assert mixed.parameters[0].choices == ("up", "down")
    assert [(c.name, c.dtype) for c in mixed.columns_out] == [
        ("result_1", "int64"),
        ("result_2", "bool"),
    ]


def test_declaration_has_what_the_decorator_says() -> None:
    declared = samples.tree.declaration
    spot = declared.columns_in[0]
    assert (spot.minimum, spot.maximum, spot.unit) == (0.01, 1e6, "EUR")
    assert [p.dtype for p in declared.parameters] == ["int64", "float64", "choice", "bool"]
    assert [(t.name, t.operations) for t in declared.terms] == [
        ("nodes", "steps * (steps + 1) / 2"),
        ("start", "steps"),
    ]
    assert declared.operations({"steps": 10}) == {"nodes": 55, "start": 10}
    assert declared.idle_parameters == {"steps": 1, "rate": 0.2, "kind": "put", "early": True}
    assert [s.shape for s in declared.scratch] == [("steps + 2",)]
    assert samples.dot.declaration.columns_in[0].width == 5
    assert [c.examples for c in declared.columns_in] == [(618e3, 236e3), (854e3, 708e3)]
    assert samples.kinds.declaration.columns_in[0].example() is True


def test_examples_are_values_that_a_client_could_send() -> None:
    def sample(ids: Any) -> Any:
        return np.array([np.nan, np.inf, 0.123456, 7.0])[ids % 4]

    columns = {"x": hotloop.Float(0, 5, sample=sample)}
    (column,) = WorkloadFunction(plain, columns=columns).declaration.columns_in
    assert set(column.examples) <= {0.123}
    assert column.example() in (0.0, 0.123)


def test_it_is_still_the_plain_function() -> None:
    assert samples.ratio(3.0) == 1.5
    assert vars(samples.ratio)["__name__"] == "ratio"
    assert samples.ratio.__doc__ == "Divide a number."
    assert repr(samples.ratio) == "<hotloop.workload ratio: tests.kernels.functions.samples.ratio>"


def test_run_computes_a_batch_here() -> None:
    assert samples.ratio.run({"x": [1, 2]}, {"divisor": 4})["result"].tolist() == [0.25, 0.5]
    x = np.arange(5.0)
    for name in ("python", "numba", "compiled", "numpy", "auto"):
        assert samples.ratio.run({"x": x}, kernel=name)["result"].tolist() == (x / 2).tolist()
    with pytest.raises(UnknownKernelError, match="python, numba, compiled, numpy, missing"):
        samples.ratio.run({"x": x}, kernel="rust")
    with pytest.raises(KernelUnavailableError, match=r"AttributeError.*nothing"):
        samples.ratio.run({"x": x}, kernel="missing")
    with pytest.raises(InvalidColumnError, match="'n' must be int64"):
        samples.kinds.run({"flag": [True], "n": [1.5], "x": [0.1]})
    with pytest.raises(InvalidColumnError, match="column 'x' is missing"):
        samples.ratio.run({})
    with pytest.raises(InvalidColumnError, match=r"'bytes_' must have the shape \(n, 5\)"):
        samples.dot.run({"bytes_": [[1, 2]], "weights": [[0.0] * 5], "scale": [1]})


def test_kernels_know_whether_they_release_the_gil() -> None:
    declared = {each.kernel: each for each in samples.ratio.declaration.kernels}
    assert list(declared) == ["python", "numba", "compiled", "numpy", "missing"]
    assert [each.releases_gil for each in declared.values()] == [False, True, True, True, False]


def test_reason_of_an_item_comes_from_the_function() -> None:
    columns = {"x": np.array([0.75, 0.1, 0.5])}
    assert samples.fussy.explain(columns, {}, 0) is None
    too_small = samples.fussy.explain(columns, {}, 1)
    assert too_small is not None
    assert too_small.startswith("ValueError: too small at samples.py:")


def test_samples_come_from_a_function_or_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "made.npy", np.array([1.5, 2.5]))
    function = WorkloadFunction(
        samples.kinds.function,
        columns={
            "flag": hotloop.Bool(sample=lambda ids: ids % 2 == 1),
            "n": hotloop.Integer(0, 9, sample=lambda ids: ids % 10),
            "x": hotloop.Float(sample=tmp_path / "made.npy"),
        },
    )
    made = function.declaration.simulated_columns(np.arange(3, dtype=np.int64))
    assert made["flag"].tolist() == [False, True, False]
    assert made["x"].tolist() == [1.5, 2.5, 1.5]
    assert function.declaration.columns_in[2].sample == "the file made.npy"


def test_declaration_survives_as_data_without_code() -> None:
    assert pickle.loads(pickle.dumps(samples.tree.declaration)) == samples.tree.declaration
    assert hash(samples.tree.declaration)


def inner() -> Callable[[float], float]:
    def function(x: float) -> float:
        return x

    return function


def bare(x, y=1):  # type: ignore[no-untyped-def]  # the missing annotations are the point
    return x + y


def starred(*values: float) -> float:
    return sum(values)


def unknown(x: Nothing) -> float:  # type: ignore[name-defined]  # noqa: F821
    return 1.0


def plain(x: float, steps: int = 3) -> float:
    return x * steps


Float, Integer = hotloop.Float, hotloop.Integer
TYPED: dict[str, Any] = {"columns": {"x": Float()}, "outputs": {"z": Float()}}


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: x, {}, "<lambda> cannot be a workload.*`def` at the top"),
        (inner(), {}, "inner.<locals>.function cannot be a workload"),
        (dict, {}, "made of a function, not of type"),
        (starred, {}, "plain arguments, not values"),
        (bare, {}, "'x' of bare needs a declaration, or the annotation float, int or bool"),
        (unknown, {}, "argument 'x'.*NameError"),
        (plain, {"name": "Plain"}, "cannot be called 'Plain'"),
        (plain, {"columns": {"x": Float(), "z": Float()}}, "declared once.*: z"),
        (plain, {"parameters": {}}, "at least one column|declared once.*steps"),
        (plain, {"columns": {"x": Float(default=1.0)}}, "'x' cannot have a default"),
        (plain, {"columns": {"x": Float(2, 1)}}, "bounds in rising order"),
        (plain, {"columns": {"x": Float(float("nan"))}}, "cannot have the bound nan"),
        (plain, {"columns": {"x": Float(dtype="float16")}}, "cannot be 'float16'"),
        (plain, {"columns": {"x": Float(dtype="int8")}}, "declared as Float"),
        (plain, {"columns": {"x": Integer(0, 300, dtype="uint8")}}, "uint8 can hold"),
        (plain, {"columns": {"x": Float(width=0)}}, "width from 1"),
        (plain, {"columns": {"x": Float(sample="x.csv")}}, ".npy file"),
        (plain, {"columns": {"x": hotloop.Choice("a")}}, "only parameters can"),
        (plain, {"parameters": {"steps": Integer(5, 9)}}, "default from 5 to 9, not 3"),
        (plain, {"parameters": {"steps": Integer(width=2)}}, "cannot have `width`"),
        (plain, {"parameters": {"steps": hotloop.Choice()}}, "different texts or numbers"),
        (plain, {"parameters": {"steps": hotloop.Choice(3, float("inf"))}}, "different texts or"),
        (plain, {"parameters": {"steps": hotloop.Choice(3, "\ud800")}}, r"Unicode, not '\\ud800'"),
        (plain, {"description": "half \udfff"}, "descriptions, units and choices must be texts"),
        (plain, {"columns": {"x": Float(description=5)}}, "must be texts in Unicode, not 5"),  # type: ignore[arg-type]
        (plain, {"columns": {"x": Float(unit=5)}}, "must be texts in Unicode, not 5"),  # type: ignore[arg-type]
        (plain, {"outputs": {"x": Float()}}, "the name of an argument: x"),
        (plain, {"outputs": {"item_id": Float()}}, "a name that results use"),
        (plain, {"outputs": {"a b": Float()}}, "letters, digits and underscores"),
        (plain, {"outputs": {"y": Float(width=3)}}, "'y' cannot have `width`"),
        (plain, {"cost": {"turns": "steps +"}}, "not an arithmetic expression"),
        (plain, {"cost": {"turns": "size"}}, "no parameter 'size'; there are: steps"),
        (plain, {"cost": {"turns": "-steps"}}, "is -3 with the default parameters"),
        (plain, {"cost": "linear"}, '"data", or map names'),
        (plain, {"scratch": {"x": hotloop.Scratch("float32", 3)}}, "at least one column"),
        (bare, {"scratch": {"y": hotloop.Scratch("float32", 3)}, **TYPED}, "one of float64, int64"),
        (bare, {"scratch": {"y": hotloop.Scratch("float64")}, **TYPED}, r"Scratch\(dtype, shape"),
        (bare, {"scratch": {"y": hotloop.Scratch("int64", "n")}, **TYPED}, "no parameter 'n'"),
    ],
)
def test_what_cannot_be_a_workload_is_refused_in_words(
    function: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(hotloop.WorkloadError, match=words):
        WorkloadFunction(function, **options)


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("python", len, "the function itself"),
        ("C", len, "small letters"),
        ("c", "module", "module:attribute"),
        ("c", 3, "a function or a text"),
    ],
)
def test_kernel_that_cannot_be_added_is_refused(name: str, target: Any, words: str) -> None:
    with pytest.raises(hotloop.WorkloadError, match=words):
        WorkloadFunction(plain).kernel(name, target)
