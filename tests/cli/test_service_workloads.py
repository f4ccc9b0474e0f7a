"""Workloads that only the service has (app/cli/service_workloads.py): the command has not even
their module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import answer, hotloop, refusal
from tests.fixtures.second_workload import MODULE, NAME
from tests.fixtures.server import Server, running_server

GIVEN = ("--workload", NAME, "--items", "30", "--db", "none", "--cache", "none")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_HOTLOOP_WORKLOAD_MODULES", MODULE)
        with running_server(tmp_path_factory.mktemp("growth")) as server:
            patch.delenv("_HOTLOOP_WORKLOAD_MODULES")
            server.wait_ready()
            yield server


def test_run_has_the_results_of_the_workload(server: Server, tmp_path: Path) -> None:
    to = ("-p", "rate=0.05", "--kernel", "numba", "--url", server.url)
    done = hotloop("run", "sequential", *GIVEN, *to)
    assert done.returncode == 0, done.stderr
    assert "final" in done.stdout
    rows = tmp_path / "rows.csv"
    rows.write_text("item_id,months,start\n7,12,100.0\n")
    ran: Any = answer("run", "--workload", NAME, "--file", str(rows), *to)
    assert [row["item_id"] for row in ran["results"]] == [7]


def test_comparison_and_recommendation_know_its_parameters(server: Server) -> None:
    few = ("-p", "steps=20", "--url", server.url)
    compared = answer(
        *("compare", *GIVEN, "--rounds", "1", "--strategies", "sequential,threading", *few)
    )
    assert {cell["kernel"] for cell in compared["cells"]} >= {"python", "numba"}
    assert compared["outputs_equal"] is True
    predicted = answer("recommend", *GIVEN, *few)
    assert '"steps": 20' in predicted["curl"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", *GIVEN, "-p", "rate=0.6"), "--param rate: must be at most 0.5 (got 0.6)"),
        (("run", *GIVEN, "-p", "turns=1"), "--param turns: is not a known field; there are steps"),
        (("run", *GIVEN, "-k", "fortran"), "--kernel: must be"),
        (("compare", *GIVEN, "-p", "steps=0"), "--param steps: must be at least 1 (got 0)"),
        (("recommend", *GIVEN, "-p", "steps=0"), "--param steps: must be at least 1 (got 0)"),
        (("run", "--workload", "grwth"), "there is no workload 'grwth'; there are loops, growth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refusals_are_those_of_a_known_workload(
    server: Server, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refusal(*arguments, "--url", server.url)


def test_unknown_workload_of_a_command_alone_is_refused() -> None:
    assert "there is no workload 'growth'; there are loops" in refusal("run", *GIVEN)
