"""cli.running, connection: `hotloop run`, with a service and without one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nanoarrow
import pytest
from pyarrow import parquet

from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import RunOptions
from hotloop.app.schemas.results import RunResult
from hotloop.app.sources.arrow_rows import ARROW, ARROW_FILE, PARQUET
from hotloop.app.tasks.store import open_store
from tests.fixtures.arrow_files import flights, written
from tests.fixtures.command_line import LITTLE, answer, hotloop, refusal
from tests.fixtures.server import SAMPLE, Server

pytestmark = pytest.mark.long

FLIGHTS = ("--file", str(SAMPLE), "--param", "cpu_iterations=10", "--param", "outer_iterations=2")


@pytest.mark.parametrize("strategy", ["auto", *StrategyName])
def test_run_answers_as_the_service_does(strategy: str, server: Server) -> None:
    result = answer("run", strategy, *LITTLE, "--workers", "1", "--url", server.url)
    assert RunResult.model_validate(result, strict=False).items_processed == 40
    assert strategy in ("auto", result["strategy"])
    body = {"items_count": 40, "batch_size": 10, "db": "none", "cache": "none", "workers": 1}
    assert server.run("sequential", **body).json()["checksum"] == result["checksum"]


def test_run_by_itself_gives_the_same_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    done = hotloop("run", *LITTLE, "--json", cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["checksum"] == answer("run", *LITTLE, "--url", server.url)["checksum"]
    assert list(tmp_path.iterdir()) == []


def test_run_by_itself_in_a_deep_folder(tmp_path: Path) -> None:
    """The path of a socket has a bound."""
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    done = hotloop("run", *LITTLE, cwd=tmp_path, environment={"TMPDIR": str(deep)})
    assert done.returncode == 0, done.stderr
    assert list(deep.iterdir()) == []


def test_run_by_itself_needs_neither_the_shared_database_nor_the_port(tmp_path: Path) -> None:
    environment = {
        "HOTLOOP_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "TMPDIR": str(tmp_path),
    }
    done = hotloop("run", *LITTLE, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr


def test_run_shows_measurements_and_first_items(server: Server) -> None:
    done = hotloop("run", "threading", *LITTLE, "--kernel", "python", "--url", server.url)
    assert done.returncode == 0
    assert "threading × python" in done.stdout
    assert "40 of 40" in done.stdout
    assert "9388000" in done.stdout
    assert "completed, 40 of 40 items" in done.stderr
    assert hotloop("run", *LITTLE, "--quiet", "--url", server.url).stderr == ""


def test_every_option_reaches_the_service(server: Server) -> None:
    task_id = answer(
        *("run", "hybrid", "--url", server.url, "--items", "6", "--batch-size", "3"),
        *("--workers", "2", "--io-concurrency", "5", "--kernel", "python", "--workload", "loops"),
        *("--db", "simulated", "--cache", "simulated", "--cache-mode", "lookup"),
        *("--query-batch-size", "2", "--no-simulate-db-delay", "--simulate-redis-delay"),
        *("--db-delay-ms", "7", "--redis-delay-ms", "1", "2.5", "--timeout-seconds", "50"),
        *("--max-error-rate", "0.5", "--param", "inner_iterations=3"),
    )["task_id"]
    store = open_store(server.data_dir)
    spec = store.get(task_id).spec
    store.close()
    asked = {
        "batch_size": 3,
        "workers": 2,
        "io_concurrency": 5,
        "kernel": "python",
        "workload": "loops",
        "db": "simulated",
        "cache": "simulated",
        "cache_mode": "lookup",
        "query_batch_size": 2,
        "simulate_db_delay": False,
        "simulate_redis_delay": True,
        "db_delay_ms": 7.0,
        "redis_delay_ms": [1.0, 2.5],
        "timeout_seconds": 50.0,
        "max_error_rate": 0.5,
    }
    assert asked.items() <= spec.items()
    assert spec["parameters"]["inner_iterations"] == 3
    assert set(asked) == set(RunOptions.model_fields)


def test_file_is_run_and_results_saved_in_each_format(server: Server, tmp_path: Path) -> None:
    saved = {}
    for suffix in ("csv", "ndjson", "arrow", "parquet"):
        output = tmp_path / f"out.{suffix}"
        run = ("run", *FLIGHTS, "--url", server.url, "--output", str(output))
        assert answer(*run)["items_processed"] == 1000
        saved[suffix] = output.read_bytes()
    rows = list(csv.DictReader(io.StringIO(saved["csv"].decode())))
    lines = [json.loads(line) for line in saved["ndjson"].splitlines()]
    stream = nanoarrow.ArrayStream.from_readable(io.BytesIO(saved["arrow"])).read_all()
    table = parquet.read_table(io.BytesIO(saved["parquet"]))
    assert len(rows) == len(lines) == len(stream) == len(table) == 1000
    assert table.column("loop").to_pylist() == [line["loop"] for line in lines]
    assert [float(row["loop"]) for row in rows] == [line["loop"] for line in lines]
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("suffix", "media_type"),
    [("parquet", PARQUET), ("arrows", ARROW), ("arrow", ARROW), ("arrow", ARROW_FILE)],
)
def test_file_of_arrow_or_parquet_is_run(
    server: Server, tmp_path: Path, suffix: str, media_type: str
) -> None:
    items, same = tmp_path / f"items.{suffix}", tmp_path / "items.csv"
    items.write_bytes(written(media_type, flights(30)))
    same.write_text("item_id,value,offset\n" + "".join(f"{i},{i / 2},{3 * i}\n" for i in range(30)))
    found = [answer("run", "--file", str(path), "--url", server.url) for path in (items, same)]
    assert found[0]["checksum"] == found[1]["checksum"]
    assert found[0]["items_processed"] == 30


def test_file_of_parquet_is_run_without_a_service(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_bytes(written(PARQUET, flights(3, offset=[0, -7, 1])))
    view = answer("run", "--file", "items.parquet", cwd=tmp_path, code=1)
    assert "row 2, column offset: -7 is out of bounds" in view["error_message"]


def test_file_is_run_by_the_strategy_that_is_named(server: Server) -> None:
    for strategy in ("threading", "sequential"):
        assert answer("run", strategy, *FLIGHTS, "--url", server.url)["strategy"] == strategy
    assert answer("run", *FLIGHTS, "--url", server.url)["strategy"] == "hybrid"


def test_file_that_is_refused_is_named(server: Server, tmp_path: Path) -> None:
    wrong = tmp_path / "items.xlsx"
    wrong.write_text("")
    assert ".csv" in refusal("run", "--file", str(wrong), "--url", server.url)
    missing = refusal("run", "--file", str(tmp_path / "none.csv"), "--url", server.url)
    assert "No such file" in missing
    both = refusal("run", "--file", str(SAMPLE), "--items", "5", "--url", server.url)
    assert "--items" in both


def test_bad_row_fails_the_task_and_is_named(server: Server, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,value,offset\n1,0.5,7\n2,abc,7\n")
    view = answer("run", "--file", str(items), "--url", server.url, code=1)
    assert view["status"] == "failed"
    assert "line 3" in view["error_message"]
    done = hotloop("run", "--file", str(items), "--url", server.url)
    assert done.returncode == 1
    assert "line 3" in done.stdout


def test_output_that_cannot_be_written_is_refused_before_the_run(
    server: Server, tmp_path: Path
) -> None:
    before = server.client.get("/api/v1/tasks/results").json()["total"]
    run = ("run", *LITTLE, "--url", server.url, "--output")
    assert ".ndjson" in refusal(*run, str(tmp_path / "out.xlsx"))
    assert "folder" in refusal(*run, str(tmp_path / "none" / "out.csv"))
    assert server.client.get("/api/v1/tasks/results").json()["total"] == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "0"), "--workers: must be at least 1 (got 0)"),
        (("--items", "10_000_001"), "--items-count: must be at most 10,000,000"),
        (("--redis-delay-ms", "5", "1"), "--redis-delay-ms: must be [low, high]"),
        (("--db-delay-ms", "nan"), "--db-delay-ms"),
        (("--param", "cpu_iterations=-1"), "--param cpu_iterations: must be at least 0"),
        (("--param", "cpu_iteration=1"), "cpu_iterations, outer_iterations, inner_iterations"),
        (("--param", "cpu_iterations"), "--param must be like"),
        (
            ("--param", "outer_iterations=100000", "--param", "inner_iterations=100000"),
            "outer_iterations: times inner_iterations must be at most 1,000,000,000",
        ),
        (("--kernel", "fortran"), "numba"),
        (("--workers", "many"), "--workers"),
        (("--background",), "--url"),
        (("--data-dir", "x", "--url", "http://127.0.0.1:1"), "--data-dir"),
        (("--url", "localhost:8001"), "--url must be like http://localhost:8001"),
        (("--url", "ftp://localhost"), "--url must be like http://localhost:8001"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_value_names_option_bound_and_value(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal("run", *arguments)


def test_refusal_of_the_service_is_shown(server: Server) -> None:
    run = ("run", "--url", server.url, "--db", "nothing")
    assert "nothing" in refusal(*run)
    done = hotloop(*run, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    problem = json.loads(done.stderr)
    assert problem["type"] == "urn:hotloop:problem:invalid-request"
    assert problem["errors"][0]["field"] == "db"


def test_wrong_setting_is_named(tmp_path: Path) -> None:
    done = hotloop("run", environment={"HOTLOOP_QUEUE_LIMIT": "-1"}, cwd=tmp_path)
    assert done.returncode == 2
    assert "HOTLOOP_QUEUE_LIMIT must be at least 0" in done.stderr


def test_task_that_fails_is_exit_status_1(server: Server) -> None:
    run = ("run", "sequential", "--items", "1000", "--timeout-seconds", "0.1", "--url", server.url)
    result = answer(*run, code=1)
    assert result["status"] == "failed"
    assert "timeout_seconds" in result["error_message"]


def test_unreachable_service_is_exit_status_3() -> None:
    text = refusal("run", "--items", "5", "--url", "http://127.0.0.1:1", code=3)
    assert "http://127.0.0.1:1" in text
    assert "hotloop serve" in text
    done = hotloop("run", "--url", "http://127.0.0.1:1", "--json")
    assert json.loads(done.stderr)["type"] == "urn:hotloop:problem:command-unreachable"


def test_wrong_path_is_explained(server: Server) -> None:
    text = refusal("run", "--items", "5", "--url", f"{server.url}/elsewhere")
    assert "404" in text or "not" in text.lower()


def test_url_may_be_in_the_environment(server: Server, tmp_path: Path) -> None:
    environment = {"HOTLOOP_URL": server.url, "HOTLOOP_API_KEY": "secret"}
    done = hotloop("run", *LITTLE, "--background", cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    task_id = done.stdout.strip()
    assert server.client.get(f"/api/v1/tasks/status/{task_id}").status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_service_of_a_command_warns_in_its_words_and_is_otherwise_quiet(tmp_path: Path) -> None:
    quiet = hotloop("run", "sequential", *LITTLE, "--quiet", "--json", cwd=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    told = hotloop(
        *("run", "multiprocessing", *LITTLE, "--workers", "2", "--quiet", "--json"),
        cwd=tmp_path,
        environment={"HOTLOOP_LOG_LEVEL": "debug", "HOTLOOP_LOG_FORMAT": "json"},
    )
    assert json.loads(told.stdout)["status"] == "completed"
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    assert {line["process"] for line in lines} == {"command", "run_host", "worker"}
    (ended,) = [line for line in lines if line["message"] == "run ended"]
    assert ended["task_id"] == json.loads(told.stdout)["task_id"]
