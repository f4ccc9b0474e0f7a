"""The results file: written in any order, read by range."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.errors import StoreError
from app.strategies.base import BatchResult
from app.tasks.results import CHUNK_ROWS, DONE, FAILED, NOT_PROCESSED, ResultsReader, ResultsWriter

NewResult = Callable[..., BatchResult]


def test_results_file_is_a_standard_npy_file(tmp_path: Path, result: NewResult) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 10) as writer:
        writer.write(result(6, 3, failed=(7,)))
        writer.write(result(0, 2))
    rows = np.load(path)
    assert rows.dtype.descr == [
        ("item_id", "<i8"),
        ("loop", "<f8"),
        ("nested", "<i8"),
        ("state", "|u1"),
    ]
    nothing = (0, 0.0, 0, NOT_PROCESSED)
    assert rows.tolist() == [
        (0, 0.0, 0, DONE),
        (1, 0.5, -1, DONE),
        *[nothing] * 4,
        (6, 3.0, -6, DONE),
        (7, 0.0, 0, FAILED),
        (8, 4.0, -8, DONE),
        nothing,
    ]


def test_new_file_takes_no_room_for_what_is_not_processed(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 10_000_000), ResultsReader(path) as reader:
        assert reader.total_items == 10_000_000
    assert path.stat().st_size > 250_000_000
    assert path.stat().st_blocks * 512 < 1_000_000


def test_reader_sees_what_is_written_meanwhile(tmp_path: Path, result: NewResult) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 4) as writer, ResultsReader(path) as reader:
        assert reader.head(5) == []
        writer.write(result(2, 2))
        assert [row["item_id"] for row in reader.head(5)] == [2, 3]
        writer.write(result(0, 2))
        writer.write(result(0, 2))
        assert [row["item_id"] for row in reader.head(5)] == [0, 1, 2, 3]


def test_batches_from_many_threads_all_arrive(tmp_path: Path, result: NewResult) -> None:
    path = tmp_path / "r.npy"
    barrier = threading.Barrier(4)

    def write(writer: ResultsWriter, first: int) -> None:
        barrier.wait()
        for start in range(first, 20_000, 400):
            writer.write(result(start, 100))

    with ResultsWriter(path, "loops", 20_000) as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [writer] * 4, [0, 100, 200, 300]))
    rows = np.load(path)
    np.testing.assert_array_equal(rows["item_id"], np.arange(20_000))
    np.testing.assert_array_equal(rows["loop"], np.arange(20_000) / 2)
    assert set(rows["state"]) == {DONE}


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (9, 2), (10, 1), (0, 11)])
def test_batch_outside_the_file_is_refused(
    tmp_path: Path, result: NewResult, start: int, count: int
) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 10) as writer:
        before = path.read_bytes()
        with pytest.raises(ValueError, match="of 10"):
            writer.write(result(start, count))
    assert path.read_bytes() == before


def test_batch_without_a_column_is_refused(tmp_path: Path, result: NewResult) -> None:
    with ResultsWriter(tmp_path / "r.npy", "loops", 10) as writer, pytest.raises(KeyError):
        writer.write(replace(result(0, 1), columns={"loop": np.zeros(1)}))


def test_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    path.write_bytes(b"precious")
    with pytest.raises(StoreError, match="the results cannot be stored: file exists"):
        ResultsWriter(path, "loops", 10)
    assert path.read_bytes() == b"precious"


def test_missing_folder_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the results cannot be stored: it is not there"):
        ResultsWriter(tmp_path / "no" / "r.npy", "loops", 10)
    with pytest.raises(StoreError, match=r"the file r\.npy cannot be opened: it is not there"):
        ResultsReader(tmp_path / "no" / "r.npy")


FULL_DISK = """
import resource, sys
import numpy as np
from app.errors import StoreError
from app.sources.base import Batch
from app.strategies.base import BatchResult
from app.tasks.results import ResultsWriter

path, early = sys.argv[1:]
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    if early == "early":
        limit(10_000)
    writer = ResultsWriter(path, "loops", 1_000)
    limit(10_000)
    ids = np.arange(1_000)
    columns = {"loop": ids / 2, "nested": ids}
    failed = np.zeros(1_000, bool)
    writer.write(BatchResult(Batch(0, 0, 1_000), ids, columns, failed, (), 0, 0.0))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_disk_that_refuses_is_a_store_error(tmp_path: Path, moment: str) -> None:
    """At the start nothing is left; later the file keeps what was stored."""
    path = tmp_path / "r.npy"
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(path), moment]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.stderr == ""
    assert answer.stdout.startswith("the results cannot be stored: it would exceed the file size")
    assert path.exists() == (moment == "late")
    if moment == "late":
        with ResultsReader(path) as reader:
            assert len(reader.head(1_000)) < 1_000


# --- reading -------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, result: NewResult) -> Path:
    """Five chunks of items, of which the second half is processed; item 3,000 failed."""
    half = 5 * CHUNK_ROWS // 2
    with ResultsWriter(tmp_path / "r.npy", "loops", 2 * half) as writer:
        writer.write(result(half, half, failed=(3_000,)))
    return tmp_path / "r.npy"


@pytest.fixture
def reader(path: Path) -> Iterator[ResultsReader]:
    with ResultsReader(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("start", "count"), [(0, None), (0, 1), (CHUNK_ROWS - 1, 2), (7, 3 * CHUNK_ROWS), (5, 0)]
)
def test_rows_come_in_chunks_and_in_order(
    path: Path, reader: ResultsReader, start: int, count: int | None
) -> None:
    chunks = list(reader.rows(start, count))
    expected = reader.total_items - start if count is None else count
    assert sum(map(len, chunks)) == expected
    assert all(0 < len(chunk) <= CHUNK_ROWS for chunk in chunks)
    whole = np.load(path)[start : start + expected]
    if chunks:
        np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_rows_outside_the_file_are_refused(reader: ResultsReader) -> None:
    with pytest.raises(ValueError, match="of 5120"):
        list(reader.rows(5_000, 121))


def test_head_is_the_first_processed_rows_as_plain_numbers(reader: ResultsReader) -> None:
    assert reader.columns == ("loop", "nested")
    assert reader.head(2) == [
        {"item_id": 2_560, "loop": 1_280.0, "nested": -2_560},
        {"item_id": 2_561, "loop": 1_280.5, "nested": -2_561},
    ]
    for row in reader.head(2):
        assert [type(value) for value in row.values()] == [int, float, int]
    head = reader.head(441)
    assert head[-1] == {"item_id": 3_000, "loop": None, "nested": None}
    assert len(reader.head(10_000)) == 2_560
    assert reader.head(0) == []


def test_head_reads_no_further_than_it_must(path: Path, reader: ResultsReader) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert len(reader.head(100)) == 100
    with pytest.raises(StoreError, match="cut short"):
        reader.head(2_560)


@pytest.mark.parametrize("kind", ["empty", "text", "header", "cut", "longer"])
def test_damaged_file_is_a_store_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.npy"
    ResultsWriter(path, "loops", 100).close()
    good = path.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"item_id,loop,nested\n",
        "header": good[:100],
        "cut": good[:-1],
        "longer": good + b"\0",
    }[kind]
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"the file r\.npy is damaged"):
        ResultsReader(path)


def test_foreign_file_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    for foreign in (np.zeros(3, [("item_id", "<i8"), ("value", "<f8")]), np.zeros(3)):
        np.save(path, foreign)
        with pytest.raises(StoreError, match=r"r\.npy (does not hold results|is damaged)"):
            ResultsReader(path)


def test_file_that_is_cut_while_it_is_read_is_a_store_error(
    path: Path, reader: ResultsReader
) -> None:
    rows = reader.rows()
    next(rows)
    with path.open("r+b") as file:
        file.truncate(40_000)
    with pytest.raises(StoreError, match=r"the file r\.npy was cut short while it was read"):
        list(rows)


def test_file_that_is_removed_while_it_is_read_is_read_to_its_end(
    path: Path, reader: ResultsReader
) -> None:
    rows = reader.rows()
    next(rows)
    path.unlink()
    assert sum(map(len, rows)) == reader.total_items - CHUNK_ROWS
