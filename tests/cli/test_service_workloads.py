"""Workloads that only the service has (app/cli/service_workloads.py): the command has not even
their module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import answer, hotloop, refusal
from tests.fixtures.server import Server, running_server

GROWTH = '''\
import hotloop


@hotloop.workload(
    columns={"start": hotloop.Float(0.01, 1e6, unit="EUR"), "months": hotloop.Integer(1, 600)},
    parameters={
        "steps": hotloop.Integer(1, 10_000, default=50),
        "rate": hotloop.Float(-0.5, 0.5, default=0.02),
        "kind": hotloop.Choice("simple", "compound"),
        "exact": hotloop.Bool(default=False),
    },
    outputs={"final": hotloop.Float(unit="EUR"), "grew": hotloop.Bool()},
)
def growth(start, months, steps, rate, kind, exact):
    """Money that grows by interest, step by step."""
    final = start
    for _ in range(steps):
        base = start if kind == "simple" else final
        final += base * rate * months / 12.0 / steps
    return final, exact or final > start
'''

TOTAL = '''\
import hotloop


@hotloop.workload(
    columns={"weights": hotloop.Float(0, 1, width=3), "doubled": hotloop.Bool()}, parameters={}
)
def total(weights, doubled) -> float:
    """Sum of three weights."""
    found = weights[0] + weights[1] + weights[2]
    return 2.0 * found if doubled else found
'''

GIVEN = ("--workload", "growth", "--items", "30")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("growth")
    (folder / "money.py").write_text(GROWTH)
    (folder / "total.py").write_text(TOTAL)
    (folder / "broken.py").write_text("1 / 0\n")
    targets = ",".join(f"{folder / name}.py" for name in ("money", "total", "broken"))
    with running_server(folder, workloads=targets) as server:
        server.wait_ready()
        yield server


def test_run_has_the_results_of_the_workload(server: Server, tmp_path: Path) -> None:
    to = ("-p", "rate=0.05", "-p", "kind=compound", "-p", "exact=true", "--url", server.url)
    done = hotloop("run", "sequential", *GIVEN, "--kernel", "numba", *to)
    assert done.returncode == 0, done.stderr
    assert "final" in done.stdout
    rows = tmp_path / "rows.csv"
    rows.write_text("item_id,months,start\n7,12,100.0\n")
    ran: Any = answer("run", "--workload", "growth", "--file", str(rows), *to)
    (row,) = ran["results"]
    assert row == {"item_id": 7, "final": pytest.approx(105.12, abs=0.01), "grew": True}


def test_comparison_and_recommendation_know_its_parameters(server: Server) -> None:
    few = ("-p", "steps=20", "--url", server.url)
    compared = answer(
        *("compare", *GIVEN, "--rounds", "1", "--strategies", "sequential,threading", *few)
    )
    assert {cell["kernel"] for cell in compared["cells"]} >= {"python", "numba"}
    assert compared["outputs_equal"] is True
    predicted = answer("recommend", *GIVEN, *few)
    assert '"steps": 20' in predicted["curl"]


def test_items_of_a_file_are_read_by_the_declaration_of_the_service(
    server: Server, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("weights,doubled,item_id\n0.5 0.25 0.25,true,1\n1 1 0.5,false,2\n")
    given = ("compare", "--workload", "total", "--file", str(rows), "--url", server.url)
    few = ("--rounds", "1", "--strategies", "sequential,threading")
    compared = answer(*given, *few)
    assert (compared["items_count"], compared["outputs_equal"]) == (2, True)
    rows.write_text("weights,doubled,item_id\n0.5 0.25,true,1\n")
    assert "line 2, column weights" in refusal(*given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", *GIVEN, "-p", "rate=0.6"), "--param rate: must be at most 0.5 (got 0.6)"),
        (("run", *GIVEN, "-p", "turns=1"), "--param turns: is not a known field; there are steps"),
        (("run", *GIVEN, "-p", "kind=1"), "--param kind: must be 'simple' or 'compound'"),
        (("run", *GIVEN, "-k", "fortran"), "--kernel: must be"),
        (("compare", *GIVEN, "-p", "steps=0"), "--param steps: must be at least 1 (got 0)"),
        (("recommend", *GIVEN, "-p", "steps=0"), "--param steps: must be at least 1 (got 0)"),
        (("run", "--workload", "grwth"), "there is no workload 'grwth'; there are loops, "),
        (("run", "--workload", "broken"), "broken.py cannot be used: ZeroDivisionError: division"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refusals_are_those_of_a_known_workload(
    server: Server, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(*arguments, "--url", server.url)


def test_own_workloads_are_listed_with_reasons(server: Server) -> None:
    text = hotloop("kernels", "--url", server.url).stdout
    assert "start: 0.01 … 1,000,000 EUR\n" in text
    assert "rate: -0.5 … 0.5; default 0.02\n" in text
    assert "kind: simple, compound; default simple\n" in text
    assert "exact: true, false; default false\n" in text
    assert "grew: true or false\n" in text
    assert "broken.py cannot be used: ZeroDivisionError: division by zero at broken.py:1" in text


@pytest.mark.long
def test_command_alone_runs_a_workload_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "money.py").write_text(GROWTH)
    here = {"HOTLOOP_WORKLOADS": "money.py"}
    done = hotloop("run", *GIVEN, "-p", "kind=compound", cwd=tmp_path, environment=here)
    assert done.returncode == 0, done.stderr
    assert "30 of 30, none failed" in done.stdout
    done = hotloop("run", *GIVEN, "-p", "steps=0", cwd=tmp_path, environment=here)
    assert "--param steps: must be at least 1 (got 0)" in done.stderr


def test_unknown_workload_of_a_command_alone_is_refused() -> None:
    assert "there is no workload 'growth'; there are loops" in refusal("run", *GIVEN)
