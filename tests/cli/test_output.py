"""Commands to copy, and tables that fit the line."""

from __future__ import annotations

import json
import subprocess
from shlex import quote
from typing import Any

import pytest
from rich.console import Console

from hotloop.app.cli.output import Column, Row, between, command, fitted_table

BODY: dict[str, Any] = {
    "items_count": 1_234_567,
    "kernel": "numba",
    "workers": 12,
    "batch_size": 12_345,
    "io_concurrency": 12_345,
    "redis_delay_ms": [1.0, 10.0],
    "parameters": {"cpu_iterations": 1, "outer_iterations": 22},
}
URL = "http://localhost:8001/api/v1/tasks/concurrent-futures"
CURL = f"curl -s {URL} -H 'Content-Type: application/json' -d {quote(json.dumps(BODY))}"


@pytest.mark.parametrize("width", [40, 80, 120, 1_000])
def test_command_in_lines_means_the_same_to_a_shell(width: int) -> None:
    printed = command(CURL, width).plain.replace("curl", "printf '%s\\n'", 1)
    done = subprocess.run(["sh", "-c", printed], capture_output=True, text=True, check=True)
    first, body = done.stdout.split("\n-d\n")
    assert first.splitlines() == ["-s", URL, "-H", "Content-Type: application/json"]
    assert json.loads(body) == BODY


def test_command_fits_the_line() -> None:
    lines = command(CURL, 80).plain.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80


def test_command_that_fits_stays_one_line() -> None:
    assert command("curl -s http://localhost:8001/health", 80).plain.count("\n") == 0


def test_unit_that_both_ends_have_is_written_once() -> None:
    assert between(0.5, 0.52) == "500 … 520 ms"
    assert between(0.5, 1.2) == "500 ms … 1.2 s"


COLUMNS = (
    Column("name", is_number=False),
    Column("median"),
    Column("set-up", 1),
    Column("memory", 2),
)
ROWS: list[Row] = [(("concurrent-futures × cython", "1.23 s", "200 ms", "1,234 MiB"), "")]


@pytest.mark.parametrize(
    ("width", "names"),
    [
        (80, ["name", "median", "set-up", "memory"]),
        (55, ["name", "median", "set-up"]),
        (40, ["name", "median"]),
        (10, ["name", "median"]),
    ],
)
def test_column_that_matters_least_is_left_out_first(width: int, names: list[str]) -> None:
    table = fitted_table(COLUMNS, ROWS, width)
    assert [column.header for column in table.columns] == names
    if width >= 40:
        assert Console(width=200).measure(table).maximum <= width
