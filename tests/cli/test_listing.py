"""`hotloop kernels` (app/cli/listing.py, app/cli/kernel_table.py)."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hotloop.app.cli.kernel_table import column_text, kernel_tables, parameter_text
from hotloop.kernels import Column, Parameter
from tests.fixtures.command_line import answer, hotloop, refusal
from tests.fixtures.server import Server

COLUMN: dict[str, Any] = {
    "name": "spot",
    "dtype": "float64",
    "description": "spot",
    "minimum": None,
    "maximum": None,
    "unit": None,
    "width": None,
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "spot"),
        ({"unit": "EUR", "description": "price now"}, "spot: EUR, price now"),
        ({"minimum": 0.01, "maximum": 1e6}, "spot: 0.01 … 1,000,000"),
        ({"minimum": 0}, "spot: at least 0"),
        ({"maximum": 2.5, "unit": "s"}, "spot: at most 2.5 s"),
        ({"dtype": "bool"}, "spot: true or false"),
        ({"width": 64, "minimum": -1, "maximum": 1}, "spot: 64 values, each -1 … 1"),
        ({"width": 64}, "spot: 64 values, each a number"),
    ],
)
def test_column_is_one_line(changes: dict[str, Any], text: str) -> None:
    assert column_text(Column(**COLUMN | changes)) == text


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (
            Parameter("steps", 1_000, 1, 10_000, "of the tree"),
            "steps: 1 … 10,000; default 1,000, of the tree",
        ),
        (
            Parameter("exact", False, None, None, "exact", "bool"),
            "exact: true, false; default false",
        ),
        (
            Parameter("kind", "put", None, None, "kind", "choice", choices=("put", 1)),
            "kind: put, 1; default put",
        ),
        (
            Parameter("rate", 0.2, -1, 1, "of interest", "float64", unit="1/a"),
            "rate: -1 … 1; default 0.2 1/a, of interest",
        ),
    ],
)
def test_parameter_is_one_line(parameter: Parameter, text: str) -> None:
    assert parameter_text(parameter) == text


def test_kernel_that_cannot_be_used_is_shown_with_its_reason() -> None:
    kernel = {"workload": "f", "releases_gil": True, "warm_up_seconds": 0.5}
    made = [
        kernel | {"kernel": "python", "available": True, "examined": True, "ns_per_item": 1_500.0},
        kernel | {"kernel": "numba", "available": False, "examined": False, "ns_per_item": None},
        kernel | {"kernel": "rust", "available": False, "examined": True, "reason": "no such file"},
    ]
    workload = {
        "name": "f",
        "description": "Does it.",
        "columns_in": [COLUMN],
        "columns_out": [COLUMN | {"name": "price"}],
        "parameters": [],
        "product_bounds": [],
        "source": "g:f",
        "version": "3f9c2e8b01da",
    }
    console = Console(file=io.StringIO(), width=80)
    own = [
        {"target": "f.py", "workload": "f", "state": "available", "reason": None},
        {"target": "g.py", "workload": None, "state": "failed", "reason": "no module h"},
    ]
    told = {"workloads": [workload], "kernels": made, "own_workloads": own}
    console.print(*kernel_tables(told, 80), sep="\n")
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0] == "f  Does it."
    words = [" ".join(line.split()) for line in lines]
    assert "python 1.5 µs 500 ms side by side" in words
    assert "numba not measured yet – side by side" in words
    assert "rust cannot be used: no such file" in lines
    assert "function g:f, version 3f9c2e8b01da" in words
    assert lines[-1] == "g.py cannot be used: no module h"


def test_workloads_of_a_service_are_listed(server: Server) -> None:
    done = hotloop("kernels", "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert "value: 0 … 1,000,000 rad, where the floating-point loop starts" in done.stdout
    assert "cpu_iterations: 0 … 10,000,000; default 20,000, turns of" in done.stdout
    assert " numba " in done.stdout
    told = answer("kernels", "loops", "--url", server.url)
    assert {kernel["kernel"] for kernel in told["kernels"]} == {"python", "cython", "numba"}
    assert told["workloads"][0]["name"] == "loops"


def test_unknown_workload_is_refused_with_those_there_are(server: Server) -> None:
    words = "there is no workload 'lops'; there are loops"
    assert words in refusal("kernels", "lops", "--url", server.url)
