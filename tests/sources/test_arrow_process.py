"""sources.arrow_process: hostile Arrow and Parquet end the process that reads them, no other."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from hotloop.app.errors import BadRowError, InvalidRequestError, WorkerCrashedError
from hotloop.app.sources.arrow_process import MEMORY_BYTES, Job, read_apart
from hotloop.app.sources.arrow_rows import ARROW, ARROW_FILE, ARROW_TYPES, PARQUET
from hotloop.app.sources.row_columns import row_columns
from hotloop.app.sources.rows import ingest
from tests.fixtures.arrow_files import flights, written
from tests.fixtures.server import ROOT


def zeros(count: int) -> pa.Table:
    none = np.zeros(count, np.int64)
    return flights(count, item_id=none, value=none.astype(float), offset=none)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "upload", ARROW, row_columns("loops"), 20_000_000)


def rows_of(job: Job) -> int:
    return sum(len(chunk["item_id"]) for chunk in read_apart(job))


def test_chunks_are_those_of_the_file(job: Job) -> None:
    table = flights(200_000)
    job.path.write_bytes(written(ARROW, table))
    chunks = list(read_apart(job))
    assert len(chunks) == 4
    for name in table.column_names:
        whole = np.concatenate([chunk[name] for chunk in chunks])
        assert whole.tobytes() == table.column(name).to_numpy().tobytes()


def test_error_is_that_of_the_reader(job: Job) -> None:
    job.path.write_bytes(written(ARROW, flights(3, value=[1.0, -1.0, 2.0])))
    with pytest.raises(BadRowError, match=r"row 2, column value: -1.0 is out of bounds"):
        rows_of(job)


def test_process_ends_with_the_iteration(job: Job) -> None:
    job.path.write_bytes(written(ARROW, flights(2_000_000)))
    before = set(psutil.Process().children())
    chunks = read_apart(job)
    next(chunks)
    (process,) = set(psutil.Process().children()) - before
    process.suspend()  # as one that computes, and does not notice that nobody reads
    chunks.close()
    assert set(psutil.Process().children()) == before


@pytest.mark.parametrize("killer", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_crash_is_a_refusal(job: Job, killer: signal.Signals) -> None:
    job.path.write_bytes(written(ARROW, flights(2_000_000)))
    before = set(psutil.Process().children())
    chunks = read_apart(job)
    next(chunks)
    (process,) = set(psutil.Process().children()) - before
    os.kill(process.pid, killer)
    with pytest.raises(BadRowError, match=f"ended its process by signal {killer.name}"):
        list(chunks)


def test_fault_of_the_program_is_no_refusal(job: Job) -> None:
    wrong = replace(job, columns=[replace(job.columns[0], dtype="nonsense")])
    job.path.write_bytes(written(ARROW, flights(3)))
    with pytest.raises(WorkerCrashedError, match=r"died at its start \(exit code 1\)"):
        rows_of(wrong)


def test_missing_pyarrow_is_told(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pyarrow(tmp_path, monkeypatch)
    job.path.write_bytes(written(ARROW, flights(3)))
    with pytest.raises(InvalidRequestError, match=r'pip install "hotloop\[arrow\]"'):
        rows_of(job)


def hide_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on find no pyarrow."""
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


DAMAGED = """
import random, sys
from collections import Counter
from pathlib import Path
from hotloop.app.errors import BadRowError
from hotloop.app.sources.arrow_process import MEMORY_BYTES, _limit
from hotloop.app.sources.arrow_rows import arrow_chunks
from hotloop.app.sources.row_columns import row_columns
from tests.fixtures.arrow_files import damaged, flights, pa, written
import resource
_limit(resource.RLIMIT_DATA, MEMORY_BYTES)
path, media_type = Path(sys.argv[1]), sys.argv[2]
some = flights(400, value=pa.array([1.5, 2.5] * 200).dictionary_encode())
good = [written(media_type, flights(40), 13), written(media_type, some, compression="zstd")]
ended = Counter()
for seed in range(500):
    dice = random.Random(seed)
    path.write_bytes(damaged(dice.choice(good), dice))
    try:
        for chunk in arrow_chunks(path, media_type, row_columns("loops"), 1_000):
            assert {column.shape for column in chunk.values()} == {chunk["item_id"].shape}
        ended["read"] += 1
    except BadRowError as error:
        str(error).encode()
        ended["refused"] += 1
    except MemoryError:
        ended["refused"] += 1
assert ended["read"] > 50, ended
assert ended["refused"] > 200, ended
"""


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_damaged_bytes_raise_no_other_error(tmp_path: Path, media_type: str) -> None:
    """In a process of its own, as pyarrow may crash; it does not for these."""
    command = [sys.executable, "-c", DAMAGED, str(tmp_path / "upload"), media_type]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- a few bytes that stand for many -------------------------------------------------------

SMALL_MEMORY = 160 << 20


@pytest.mark.parametrize("media_type", [ARROW, ARROW_FILE])
def test_batch_that_unpacks_to_more_than_is_allowed(job: Job, media_type: str) -> None:
    content = written(media_type, zeros(8_000_000), compression="zstd")
    assert len(content) < 100_000
    job.path.write_bytes(content)
    assert rows_of(job) == 8_000_000
    with pytest.raises(BadRowError, match="takes more than 160 MiB of memory; write the file agai"):
        rows_of(replace(job, memory_bytes=SMALL_MEMORY))


@pytest.mark.parametrize("length", [2**31, 2**40, 2**62, -2])
def test_buffer_that_claims_any_length(job: Job, length: int) -> None:
    count = 77_777
    content = written(ARROW, zeros(count), compression="zstd")
    claimed = struct.pack("<q", 8 * count)
    assert content.count(claimed) >= 3
    job.path.write_bytes(content.replace(claimed, struct.pack("<q", length)))
    with pytest.raises(BadRowError, match=r"row 1: (reading it takes|pyarrow cannot read it)"):
        rows_of(job)


def test_page_that_unpacks_to_more_than_is_allowed(job: Job) -> None:
    """Pages are as large as their column; a reader must unpack a page whole."""
    options = {"use_dictionary": False, "data_page_size": 1 << 30, "max_rows_per_page": 1 << 30}
    content = written(PARQUET, zeros(8_000_000), 8_000_000, compression="zstd", **options)
    assert len(content) < 100_000
    job.path.write_bytes(content)
    parquet = replace(job, media_type=PARQUET)
    assert rows_of(parquet) == 8_000_000
    with pytest.raises(BadRowError, match="takes more than 160 MiB of memory"):
        rows_of(replace(parquet, memory_bytes=SMALL_MEMORY))


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_rows_are_bounded_whatever_their_number(job: Job, media_type: str) -> None:
    content = written(media_type, zeros(3_000_000), compression="zstd")
    assert len(content) < 100_000
    job.path.write_bytes(content)
    with pytest.raises(BadRowError, match="row 1000001: is one row more than the 1,000,000 all"):
        rows_of(replace(job, media_type=media_type, max_rows=1_000_000))


def test_bytes_of_items_are_bounded(tmp_path: Path) -> None:
    upload, items = tmp_path / "upload", tmp_path / "items"
    upload.write_bytes(written(PARQUET, zeros(1_000)))
    arguments = (upload, PARQUET, items, "loops", 5_000, None)
    assert ingest(*arguments, 24_000) == 1_000
    with pytest.raises(BadRowError, match="one row more than the 999 allowed"):
        ingest(*arguments, 23_999)


def test_footer_that_claims_a_trillion_rows(job: Job) -> None:
    """In the file's metadata, the row group's, and each column chunk's."""
    count = 4_003
    content = written(PARQUET, zeros(count))
    claimed = b"\x16" + varint(count << 1)
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    assert footer.count(claimed) == 5
    lie = footer.replace(claimed, b"\x16" + varint(10**12 << 1))
    data = content[: -8 - length] + lie + struct.pack("<I", len(lie)) + b"PAR1"
    job.path.write_bytes(data)
    with pytest.raises(BadRowError, match="pyarrow cannot read it"):
        rows_of(replace(job, media_type=PARQUET))


def varint(number: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def test_work_without_rows_is_bounded(job: Job) -> None:
    table = flights(0)
    (batch,) = flights(1).to_batches()
    with pa.OSFile(str(job.path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for _ in range(200_000):
            writer.write_batch(batch.slice(0, 0))
        writer.write_batch(batch)
    with pytest.raises(BadRowError, match=r"row 1: reading it takes more than 0\.2 s of CPU time"):
        rows_of(replace(job, cpu_seconds=0.2))
    assert rows_of(job) == 1


def test_bounds_leave_room_for_the_largest_upload(job: Job) -> None:
    """The default of `max_upload_rows`, in one compressed batch."""
    job.path.write_bytes(written(ARROW, zeros(10_000_000), compression="lz4"))
    assert job.memory_bytes == MEMORY_BYTES
    assert rows_of(job) == 10_000_000
