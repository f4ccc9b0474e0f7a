"""The declaration of the workload, and that the twin files follow it."""

import ast
import dataclasses
import inspect
import pickle
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hotloop import kernels
from hotloop.kernels import Column, InvalidColumnError, InvalidParameterError, Kernel
from hotloop.kernels import loops as loops_package
from hotloop.kernels.loops import LOOPS, _python

FOLDER = Path(loops_package.__file__).parent
CALLS = {call.function: call for call in LOOPS.calls}
TERMS = [term.name for term in LOOPS.terms]


@pytest.fixture
def twin(kernel: Kernel) -> ModuleType:
    return import_module(f"hotloop.kernels.loops._{kernel.name}")


def stub_functions(name: str) -> dict[str, str]:
    """Return arguments and return type of each function in a source or stub file, as text."""
    tree = ast.parse((FOLDER / name).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert all(node.returns for node in functions)
    return {node.name: f"{ast.dump(node.args)} {ast.dump(node.returns)}" for node in functions}  # type: ignore[arg-type]


@pytest.mark.parametrize("function", CALLS)
def test_twin_takes_the_declared_arguments(twin: ModuleType, function: str) -> None:
    declared = [*CALLS[function].columns, *CALLS[function].parameters, "out"]
    assert list(inspect.signature(getattr(twin, function)).parameters) == declared


@pytest.mark.parametrize("function", CALLS)
def test_twin_has_a_docstring(twin: ModuleType, function: str) -> None:
    assert getattr(twin, function).__doc__
    assert twin.__doc__ is not None
    assert twin is _python or "same contract as `_python`" in twin.__doc__


@pytest.mark.parametrize("function", CALLS)
def test_numba_twin_is_compiled_once_without_fastmath_or_threads(
    numba: Kernel, function: str
) -> None:
    compiled: Any = getattr(import_module("hotloop.kernels.loops._numba"), function)
    options = compiled.targetoptions
    assert options["nogil"] is True
    assert options["error_model"] == "python"
    assert not options.get("fastmath")
    assert not options.get("parallel")
    assert len(compiled.signatures) == 1
    assert type(compiled._cache).__name__ == "NullCache"


def test_cython_stub_has_the_signatures_of_python() -> None:
    reference = stub_functions("_python.py")
    assert set(reference) == {*CALLS, "warm_up"}
    assert stub_functions("_cython.pyi") == reference


def test_cython_stub_matches_the_extension(cython: Kernel) -> None:
    module = import_module("hotloop.kernels.loops._cython")
    tree = ast.parse((FOLDER / "_cython.pyi").read_text(encoding="utf-8"))
    annotated = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = set(stub_functions("_cython.pyi"))
    public = {name for name in vars(module) if not name.startswith("_")}
    assert annotated | classes | functions == public


def test_every_output_column_is_filled_by_a_call() -> None:
    filled = [name for call in LOOPS.calls for name in call.outputs]
    assert filled == [column.name for column in LOOPS.columns_out]
    columns = {column.name for column in LOOPS.columns_in}
    parameters = {parameter.name for parameter in LOOPS.parameters}
    for call in LOOPS.calls:
        assert columns.issuperset(call.columns)
        assert parameters.issuperset(call.parameters)
    for term in LOOPS.terms:
        assert parameters.issuperset(term.factors)


def test_workload_is_frozen_hashable_and_picklable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LOOPS.name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(LOOPS)) == LOOPS
    assert hash(LOOPS) == hash(kernels.get_workload("loops"))


def test_parameters_left_out_take_their_defaults() -> None:
    defaults = {"cpu_iterations": 20_000, "outer_iterations": 100, "inner_iterations": 200}
    assert LOOPS.resolve_parameters() == LOOPS.resolve_parameters({}) == defaults
    given = {"inner_iterations": np.int32(7)}
    resolved = LOOPS.resolve_parameters(given)
    assert resolved == {**defaults, "inner_iterations": 7}
    assert all(type(value) is int for value in resolved.values())


def test_parameters_at_their_bounds_are_accepted() -> None:
    for parameter in LOOPS.parameters:
        for bound in (parameter.minimum, parameter.maximum):
            others = {"outer_iterations": 0, "inner_iterations": 0}
            given = {**others, parameter.name: bound}
            assert LOOPS.resolve_parameters(given)[parameter.name] == bound
    largest = {"outer_iterations": 100_000, "inner_iterations": 10_000}
    assert LOOPS.resolve_parameters(largest)["inner_iterations"] == 10_000


def test_operations_are_counted_by_term() -> None:
    assert LOOPS.operations() == {"loop": 20_000, "nested": 20_000}
    assert LOOPS.operations({"cpu_iterations": 3, "outer_iterations": 0}) == {
        "loop": 3,
        "nested": 0,
    }
    with pytest.raises(InvalidParameterError):
        LOOPS.operations({"cpu_iterations": -1})


@pytest.mark.parametrize("term", TERMS)
def test_probe_runs_one_term_alone(term: str) -> None:
    operations = LOOPS.operations(LOOPS.probes[term])
    assert operations[term] > 0
    assert [name for name, count in operations.items() if count] == [term]


def test_simulated_columns_follow_the_item_ids() -> None:
    columns = LOOPS.simulated_columns(np.array([0, 1_000_001, 2**31 + 5, -1], dtype=np.int64))
    assert columns["value"].tolist() == [0.0, 1.0, 483_653.0, 999_999.0]
    assert columns["offset"].tolist() == [0, 1_000_001, 5, 2**31 - 1]
    assert [column.dtype.name for column in columns.values()] == ["float64", "int64"]


@pytest.mark.parametrize("ids", [[1, 2], np.zeros(2), np.zeros((2, 1), "i8"), np.zeros(2, ">i8")])
def test_simulated_columns_refuse_other_item_ids(ids: Any) -> None:
    with pytest.raises(InvalidColumnError, match="item_ids must be a 1-D numpy array of int64"):
        LOOPS.simulated_columns(ids)


def test_values_without_bounds_are_made_up_near_zero() -> None:
    ids = np.arange(1_000, dtype=np.int64)
    columns = (Column("x", "float64", ""), Column("n", "int16", ""), Column("up", "float64", "", 5))
    made = dataclasses.replace(LOOPS, columns_in=columns).simulated_columns(ids)
    assert 0 <= made["x"].min() < 0.1 < 0.9 < made["x"].max() <= 1
    assert set(made["n"].tolist()) == set(range(101))
    assert 5 <= made["up"].min() < made["up"].max() <= 6


def test_sampler_that_fails_is_named() -> None:
    ids = np.arange(3, dtype=np.int64)
    for sampler, reason in ((lambda ids: ids[:2], "of shape"), (lambda ids: 1 / 0, "ZeroDivision")):
        column = Column("x", "float64", "", sample="a function", sampler=sampler)
        with pytest.raises(InvalidColumnError, match=f"column 'x'.*{reason}"):
            dataclasses.replace(LOOPS, columns_in=(column,)).simulated_columns(ids)
