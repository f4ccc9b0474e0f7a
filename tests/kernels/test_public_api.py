"""Public names: all there, all documented, none by accident."""

import inspect
from importlib import import_module
from types import ModuleType

import pytest

from hotloop import kernels

MODULES = (
    "column",
    "contract",
    "errors",
    "expressions",
    "kernel",
    "parity",
    "registry",
    "simulated",
)


def test_package_exports_exactly_its_public_names() -> None:
    public = {
        name
        for name, value in vars(kernels).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name != "TYPE_CHECKING"
    }
    assert public | {"Kernel", "parity_faults"} == set(kernels.__all__), "two need numpy"
    assert len(kernels.__all__) == len(set(kernels.__all__))


@pytest.mark.parametrize("module_name", MODULES)
def test_module_exports_exist_and_are_its_own(module_name: str) -> None:
    module = import_module(f"hotloop.kernels.{module_name}")
    assert module.__doc__
    for name in module.__all__:
        # A constant has no module.
        assert getattr(getattr(module, name), "__module__", module.__name__) == module.__name__


def test_every_public_name_is_documented() -> None:
    for name in kernels.__all__:
        public = getattr(kernels, name)
        assert inspect.getdoc(public), name
        if inspect.isclass(public):
            methods = inspect.getmembers(public, inspect.isfunction)
            undocumented = [
                method
                for method, function in methods
                if not method.startswith("_")
                and function.__module__.startswith("hotloop.kernels")
                and not inspect.getdoc(function)
            ]
            assert not undocumented


def test_every_error_is_exported() -> None:
    assert set(import_module("hotloop.kernels.errors").__all__) <= set(kernels.__all__)


def test_public_functions_keep_their_signatures() -> None:
    signatures = {
        name: list(inspect.signature(getattr(kernels, name)).parameters)
        for name in kernels.__all__
        if inspect.isfunction(getattr(kernels, name))
    }
    assert signatures == {
        "available_kernels": ["workload"],
        "declare": ["workload"],
        "declared_workloads": [],
        "force_instruction_set": ["workload", "kernel", "instruction_set"],
        "get_kernel": ["workload", "kernel", "instruction_set"],
        "get_workload": ["name"],
        "instruction_sets": ["workload", "kernel"],
        "known_kernels": ["workload"],
        "parity_faults": ["workload", "columns", "parameters", "expected", "computed"],
        "releases_gil": ["workload", "kernel"],
        "use": ["source"],
        "user_function": ["name"],
        "why_unavailable": ["workload", "kernel"],
        "withdraw": ["name"],
        "workloads": [],
    }
