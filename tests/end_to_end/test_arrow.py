"""Uploads and results as Arrow and Parquet: a real service, real pyarrow at both ends."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hotloop.app.sources.arrow_rows import ARROW, ARROW_FILE, ARROW_TYPES, PARQUET
from tests.fixtures import third_workload
from tests.fixtures.arrow_files import damaged, flights, written
from tests.fixtures.server import FAST, Server, running_server

RUN = {"strategy": "sequential", **FAST}
RESULTS = "/api/v1/tasks/results"


def as_csv(table: Any) -> bytes:
    rows = zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)
    lines = [table.column_names, *rows]
    return "".join(",".join(map(str, line)) + "\n" for line in lines).encode()


def refused(server: Server, content: bytes, media_type: str, **query: Any) -> dict[str, Any]:
    answer = server.upload(content, media_type, **query or RUN)
    assert answer.status_code == 422, answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == "urn:hotloop:problem:bad-row"
    fault: dict[str, Any] = problem["errors"][0]
    return fault


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize("count", [1, 1_000])
def test_upload_is_computed_as_the_same_items_in_csv(
    server: Server, media_type: str, count: int
) -> None:
    table = flights(count).select(["offset", "value", "item_id"])
    found = server.upload(written(media_type, table, 300), media_type, **RUN).json()
    assert found["items_processed"] == count
    assert found["checksum"] == server.upload(as_csv(table), **RUN).json()["checksum"]


def test_upload_by_curl(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    path.write_bytes(written(PARQUET, flights(10)))
    command = ["curl", "-s", f"{server.url}/api/v1/tasks/upload?strategy=sequential"]
    command += ["-H", f"Content-Type: {PARQUET}", "--data-binary", f"@{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"items_processed":10' in done.stdout


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_upload_becomes_a_background_task(server: Server, media_type: str) -> None:
    headers = {"Prefer": "respond-async", "Content-Type": media_type}
    answer = server.client.post(
        "/api/v1/tasks/upload", content=written(media_type, flights(30)), headers=headers
    )
    assert answer.status_code == 202
    assert server.ended(answer.json()["task_id"])["items_processed"] == 30


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize(
    ("table", "line", "column", "words"),
    [
        (flights(0), None, None, "the upload has no rows"),
        (flights(3, value=[0.0, -1.0, 2.0]), 2, "value", "-1.0 is out of bounds; give a number fr"),
        (flights(3, offset=[0, 1, None]), 3, "offset", "a value is null"),
        (flights(3, value=["1", "2", "3"]), None, "value", "its type string does not fit"),
        (flights(3).drop_columns("value"), None, "value", "the column is missing"),
        (flights(3, extra=[1, 2, 3]), None, None, "unknown column 'extra'"),
    ],
)
def test_bad_upload_names_row_column_and_bound(
    server: Server, media_type: str, table: Any, line: int | None, column: str | None, words: str
) -> None:
    fault = refused(server, written(media_type, table), media_type)
    assert (fault.get("line"), fault.get("column")) == (line, column)
    assert words in fault["message"]
    place = [] if line is None else [f"row {line}"]
    place += [] if column is None else [f"column {column}"]
    assert fault["field"] == (", ".join(place) or "file")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_damaged_uploads_are_answered_and_hurt_nothing(server: Server, media_type: str) -> None:
    """Bits flipped and bytes cut off at random, with 70 seeds of its own for each media type."""
    packed = written(media_type, flights(400), compression="zstd")
    good = [written(media_type, flights(40), 13), packed]
    hosts = {process.pid for process in server.run_hosts()}
    answered = Counter[int]()
    for seed in range(70):
        dice = random.Random(f"{seed} {media_type}")
        answer = server.upload(damaged(dice.choice(good), dice), media_type, **RUN)
        assert answer.status_code in (200, 422), answer.text
        answered[answer.status_code] += 1
    assert answered[422] > 30
    assert {process.pid for process in server.run_hosts()} == hosts
    assert server.upload(good[0], media_type, **RUN).json()["items_processed"] == 40
    assert "hotloop.app.sources.arrow_process" not in words_below(server)


def words_below(server: Server) -> set[str]:
    """All words of the command lines of the processes below a service."""
    words: set[str] = set()
    for process in server.look_below():
        with suppress(psutil.NoSuchProcess):
            words.update(process.cmdline())
    return words


def test_upload_that_unpacks_to_too_much_is_refused(server: Server) -> None:
    none = np.zeros(25_000_000, np.int64)
    table = flights(1, item_id=none, value=none.astype(float), offset=none)
    bomb = written(ARROW, table, compression="zstd")
    assert len(bomb) < 100_000
    fault = refused(server, bomb, ARROW)
    assert "takes more than 512 MiB of memory; write the file again" in fault["message"]
    fault = refused(server, written(PARQUET, table), PARQUET)
    assert fault["line"] == 10_000_001
    assert "is one row more than the 10,000,000 allowed" in fault["message"]


SMALL = {"db": "none", "cache": "none", "parameters": FAST}


@pytest.fixture(scope="module")
def done(server: Server) -> dict[str, Any]:
    """A run of several chunks of results."""
    result: dict[str, Any] = server.run("sequential", items_count=200_000, **SMALL).json()
    return result


@pytest.mark.parametrize("by_header", [True, False])
def test_results_as_parquet(server: Server, done: dict[str, Any], by_header: bool) -> None:
    path = f"{RESULTS}/{done['task_id']}"
    if by_header:
        answer = server.client.get(path, headers={"Accept": PARQUET})
    else:
        answer = server.client.get(f"{path}?format=parquet")
    assert answer.headers["content-type"] == PARQUET
    assert answer.headers["content-disposition"].endswith('.parquet"')
    table = pq.read_table(io.BytesIO(answer.content))
    assert (
        table.to_pydict()
        == pa.ipc.open_stream(server.client.get(f"{path}?format=arrow").content)
        .read_all()
        .to_pydict()
    )
    assert pq.ParquetFile(io.BytesIO(answer.content)).num_row_groups > 1


def test_results_are_uploaded_again(server: Server, done: dict[str, Any]) -> None:
    """What is written can be read, with other names of columns."""
    path = f"{RESULTS}/{done['task_id']}?limit=1000"
    for form, media_type in (("parquet", PARQUET), ("arrow", ARROW)):
        content = server.client.get(f"{path}&format={form}").content
        if form == "parquet":
            table = pq.read_table(io.BytesIO(content))
        else:
            table = pa.ipc.open_stream(content).read_all()
        items = flights(1_000, item_id=table.column("item_id"))
        answer = server.upload(written(media_type, items), media_type, **RUN)
        assert answer.json()["items_processed"] == 1_000


def loaded(pid: int) -> bool:
    """True if a process has pyarrow's library in its memory."""
    return "libarrow" in Path(f"/proc/{pid}/maps").read_text()


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., AbstractContextManager[Server]]:
    def start(**settings: Any) -> AbstractContextManager[Server]:
        folder = tmp_path / "data"
        folder.mkdir()
        return running_server(folder, run_hosts=1, **settings)

    return start


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system has no /proc")
def test_pyarrow_is_loaded_only_where_it_is_needed(
    fresh: Callable[..., AbstractContextManager[Server]],
) -> None:
    with fresh() as server:
        server.wait_ready()
        task_id = server.upload(written(PARQUET, flights(5)), PARQUET, **RUN).json()["task_id"]
        (host,) = server.run_hosts()
        assert not loaded(server.process.pid)
        assert not loaded(host.pid)
        assert server.client.get(f"{RESULTS}/{task_id}?format=parquet").status_code == 200
        assert loaded(server.process.pid)


def test_vectors_and_booleans_are_uploaded_and_come_back(
    fresh: Callable[..., AbstractContextManager[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_HOTLOOP_WORKLOAD_MODULES", third_workload.MODULE)
    rows = [[0.5, 1.0, -0.25]] * 50
    columns = {"item_id": range(50), "inverted": [True, False] * 25, "noise": [3, 4] * 25}
    table = pa.table(columns | {"samples": rows})
    as_text = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    with fresh() as server:
        server.wait_ready()
        query = {"workload": third_workload.NAME, "strategy": "sequential"}
        expected = server.upload(as_text, "application/x-ndjson", **query).json()["checksum"]
        for media_type in ARROW_TYPES:
            found = server.upload(written(media_type, table, 20), media_type, **query).json()
            assert found["checksum"] == expected
        path = f"{RESULTS}/{found['task_id']}"
        lines = server.client.get(path).text.splitlines()
        parquet = pq.read_table(io.BytesIO(server.client.get(f"{path}?format=parquet").content))
        assert parquet.to_pylist() == [json.loads(line) for line in lines]
        assert parquet.schema.field("positive").type == pa.bool_()
        short = table.set_column(3, "samples", pa.array([*rows[:7], rows[7][:2], *rows[8:]]))
        fault = refused(server, written(PARQUET, short), PARQUET, **query)
        assert fault["field"] == "row 8, column samples"
        assert "has 2 values; give each row a list of 3 values" in fault["message"]


def test_service_without_pyarrow_says_how_to_install_it(
    fresh: Callable[..., AbstractContextManager[Server]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with fresh() as server:
        server.wait_ready()
        for media_type in ARROW_TYPES:
            answer = server.upload(written(media_type, flights(5)), media_type, **RUN)
            assert answer.status_code == 415
            detail = answer.json()["detail"]
            assert "must be text/csv or application/x-ndjson, not application/vnd" in detail
            assert 'pip install "hotloop[arrow]"' in detail
        task_id = server.upload(as_csv(flights(5)), **RUN).json()["task_id"]
        path = f"{RESULTS}/{task_id}"
        for answer in (
            server.client.get(f"{path}?format=parquet"),
            server.client.get(path, headers={"Accept": PARQUET}),
        ):
            assert answer.status_code == 406
            assert "application/x-ndjson, text/csv or" in answer.json()["detail"]
            assert 'pip install "hotloop[arrow]"' in answer.json()["detail"]
        assert server.client.get(f"{path}?format=arrow").status_code == 200
        assert described(server) == ({"text/csv", "application/x-ndjson"}, {*TEXT, ARROW})


TEXT = ("application/x-ndjson", "text/csv")


def test_description_lists_what_is_installed(server: Server) -> None:
    assert described(server) == ({*TEXT, *ARROW_TYPES}, {*TEXT, ARROW, PARQUET})
    assert ARROW_FILE in server.upload(b"", "text/plain").json()["detail"]


def described(server: Server) -> tuple[set[str], set[str]]:
    """The media types of uploads and of results."""
    paths = server.client.get("/openapi.json").json()["paths"]
    upload = paths["/api/v1/tasks/upload"]["post"]["requestBody"]["content"]
    results = paths["/api/v1/tasks/results/{task_id}"]["get"]["responses"]["200"]["content"]
    return set(upload), set(results)
