"""cli.comparing: `hotloop compare`, with a service and without one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hotloop.app.cli.body_options import option_name
from hotloop.app.schemas.comparison import CompareRequest, Comparison
from hotloop.app.wording import number
from tests.cli.test_report import held_by
from tests.fixtures.command_line import answer, hotloop, refusal, started
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

FEW = ("--strategies", "sequential,threading", "--kernels", "cython,numba")
LITTLE = ("--items", "200", "--db", "none", "--cache", "none", "--rounds", "2", "--budget", "10")
LONG = ("--items", "2000", "--db-delay-ms", "50", "--exact", "--budget", "3000", "--workers", "1")


def test_help_has_every_field_of_a_comparison() -> None:
    text = " ".join(hotloop("compare", "--help").stdout.split())
    for name, schema in CompareRequest.model_json_schema()["properties"].items():
        assert option_name(name) in text
        if "minimum" in schema:
            assert f"{number(schema['minimum'])} … {number(schema['maximum'])}" in text
            assert f"default {number(schema['default'])}" in text


def test_comparison_answers_as_the_service_does(server: Server, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    compare = ("compare", *LITTLE, *FEW, "--url", server.url)
    compared = Comparison.model_validate(answer(*compare, "--report", str(report)))
    cells = {(str(c.strategy), str(c.kernel)) for c in compared.cells if c.strategy != "background"}
    assert cells == {(s, k) for s in ("sequential", "threading") for k in ("cython", "numba")}
    assert compared.rounds == 2
    assert compared.budget_seconds == 10
    assert compared.outputs_equal
    assert held_by(report.read_text()) == compared
    stored = server.client.get(f"/api/v1/tasks/status/{compared.task_id}").json()["comparison"]
    assert Comparison.model_validate(stored) == compared


def test_comparison_by_itself_shows_a_matrix_and_leaves_nothing(tmp_path: Path) -> None:
    done = hotloop("compare", *LITTLE, *FEW, cwd=tmp_path, environment={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "│ threading" in done.stdout
    assert "Fastest first" in done.stdout
    assert "curl -s http://localhost:8001/" in done.stdout
    assert "measurements" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_items_of_a_file_are_compared(server: Server, tmp_path: Path) -> None:
    rows = [(7, 1400.0, 227), (8, 0.5, 3)]
    table, lines = tmp_path / "items.csv", tmp_path / "items.ndjson"
    table.write_text("item_id,value,offset\n" + "".join(f"{i},{v},{o}\n" for i, v, o in rows))
    lines.write_text(
        "".join(f'{{"item_id": {i}, "value": {v}, "offset": {o}}}\n' for i, v, o in rows)
    )
    few = ("--rounds", "1", "--budget", "5", *FEW, "--url", server.url)
    sums = set()
    for file in (table, lines):
        compared = answer("compare", "--file", str(file), *few)
        assert compared["items_count"] == 2
        sums |= {cell["checksum"] for cell in compared["cells"]}
    assert len(sums) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_the_comparison(how: signal.Signals, server: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(("compare", *LONG, *FEW, "--url", server.url), tmp_path, log) as process:
        wait_until(lambda: "running" in log.read_text(), "the comparison has begun")
        os.killpg(process.pid, how)
        assert process.wait(timeout=60) == 128 + how
    task_id = log.read_text().split()[0]
    view = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
    assert view["status"] == "cancelled"


def test_signal_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    log, place = tmp_path / "log", tmp_path / "place"
    place.mkdir()
    with started(("compare", *LONG, *FEW), place, log, {"TMPDIR": str(place)}) as process:
        wait_until(lambda: "running" in log.read_text(), "the comparison has begun")
        below = tree(process.pid)
        assert below
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    wait_until(lambda: all(map(is_gone, below)), "nothing is left")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rounds", "0"), "--rounds: must be at least 1 (got 0)"),
        (("--budget", "0.5"), "--budget-seconds: must be at least 1 (got 0.5)"),
        (("--strategies", "hybrd"), "hybrid"),
        (("--kernels", "numba,numba"), "--kernels: must name each only once"),
        (("--kernels", "numba", "--kernel", "cython"), "--kernel: must be one of kernels"),
        (("--report", "report.pdf"), ".html"),
        (("--report", "none/report.html"), "folder"),
        (("--file", "none.csv"), "No such file"),
        (("--file", "none.csv", "--items", "5"), "--items cannot be given together with --file"),
        (("--file", "items.txt"), "--file must end in .csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_value_names_option_bound_and_value(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal("compare", *arguments)


def test_cells_of_a_comparison_are_shown_with_the_task(server: Server) -> None:
    compared = answer("compare", *LITTLE, *FEW, "--url", server.url)
    text = hotloop("tasks", "show", compared["task_id"], "--url", server.url).stdout
    assert "comparison" in text
    assert "threading × numba" in text
    assert "comparison" in hotloop("tasks", "list", "--url", server.url).stdout
