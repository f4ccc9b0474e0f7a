"""The item file: written once without knowing its length, read by range."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hotloop.app.errors import DamagedFileError, StoreError
from hotloop.app.sources.base import Items
from hotloop.app.sources.item_file import FileItems, add_checksums, item_dtype, new_item_file
from hotloop.app.sources.row_file import BLOCK_BYTES
from hotloop.kernels import UnknownWorkloadError


def write_items(path: Path, *counts: int) -> None:
    """Items 0, 1, 2, … with value id/2 and offset 3·id, appended in pieces of these counts."""
    start = 0
    with new_item_file(path, "loops") as writer:
        for count in counts:
            item_ids = np.arange(start, start + count)
            writer.append(item_ids, {"value": item_ids / 2, "offset": item_ids * 3})
            start += count
        assert writer.count == start


@pytest.fixture
def items(tmp_path: Path) -> FileItems:
    path = tmp_path / "t.items.npy"
    write_items(path, 700, 0, 1, 299)
    return FileItems(str(path), 1000)


def test_item_file_is_a_standard_npy_file(items: FileItems) -> None:
    rows = np.load(items.path, mmap_mode="r")
    assert rows.dtype == np.dtype([("item_id", "<i8"), ("value", "<f8"), ("offset", "<i8")])
    assert rows.shape == (1000,)
    assert rows[999].item() == (999, 499.5, 2997)


@pytest.mark.parametrize(("start", "count"), [(0, 1000), (0, 1), (999, 1), (350, 400), (5, 0)])
def test_load_gives_just_that_range(items: FileItems, start: int, count: int) -> None:
    batch = items.load("loops", start, count)
    expected = np.arange(start, start + count)
    np.testing.assert_array_equal(batch.item_ids, expected)
    np.testing.assert_array_equal(batch.columns["value"], expected / 2)
    np.testing.assert_array_equal(batch.columns["offset"], expected * 3)
    assert list(batch.columns) == ["value", "offset"]


def test_load_gives_arrays_that_kernels_take_without_a_copy(items: FileItems) -> None:
    batch = items.load("loops", 3, 10)
    for array, dtype in [
        (batch.item_ids, np.int64),
        (batch.columns["value"], np.float64),
        (batch.columns["offset"], np.int64),
    ]:
        assert array.dtype == np.dtype(dtype)
        assert array.dtype.isnative
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.flags.writeable
        assert array.flags.owndata


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 1001), (1000, 1), (5, -1)])
def test_load_outside_the_file_is_refused(items: FileItems, start: int, count: int) -> None:
    with pytest.raises(ValueError, match="of 1000"):
        items.load("loops", start, count)


def test_load_of_an_unknown_workload_is_refused(items: FileItems) -> None:
    with pytest.raises(UnknownWorkloadError):
        items.load("nonsense", 0, 1)


def test_file_items_are_items_and_survive_pickling(items: FileItems) -> None:
    as_items: Items = items
    assert pickle.loads(pickle.dumps(as_items)) == items
    assert as_items.count == 1000


def test_load_from_many_threads_gives_each_its_own_range(items: FileItems) -> None:
    barrier = threading.Barrier(4)

    def load(start: int) -> bool:
        barrier.wait()
        loads = [items.load("loops", start, 100).item_ids for _ in range(50)]
        return all(np.array_equal(ids, np.arange(start, start + 100)) for ids in loads)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load, [0, 250, 500, 900])) == [True] * 4


def test_load_leaves_no_file_open(items: FileItems) -> None:
    items.load("loops", 0, 10)
    descriptors = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        items.load("loops", 0, 10)
        with pytest.raises(ValueError, match="rows"):
            items.load("loops", 0, 10_000)
        with pytest.raises(StoreError):
            FileItems(items.path, 3).load("loops", 0, 1)
        with pytest.raises(StoreError):
            FileItems(__file__, 3).load("loops", 0, 1)
    assert len(list(Path("/dev/fd").iterdir())) == descriptors


def test_missing_file_is_a_store_error_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        FileItems(str(tmp_path / "gone.npy"), 1).load("loops", 0, 1)
    assert "gone.npy cannot be opened: it does not exist" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def damaged_files(good: bytes) -> dict[str, bytes]:
    plain = b"\x93NUMPY\x01\x00"
    return {
        "empty": b"",
        "text": b"item_id,value,offset\n1,2,3\n",
        "cut header": good[:50],
        "cut rows": good[:-1],
        "longer": good + b"\0",
        "version 2": plain[:6] + b"\x02" + good[7:],
        "huge header": plain + b"\xff\xff" + b" " * 70_000,
        "no dictionary": plain + b"\x10\x00" + b"os.abort()     \n",
        "deep": plain + b"\xff\x1f" + b"(" * 8191,
        "nul": plain + b"\x10\x00" + b"\0" * 16,
        "negative count": good.replace(b"(1000,)", b"(-100,)"),
        "true count": good.replace(b"(1000,)", b"(True,)"),
        "two dimensions": good.replace(b"(1000,)", b"(10, 9)"),
        "no structure": good.replace(
            b"[('item_id', '<i8'), ('value', '<f8'), ", b"'<f8'" + b" " * 34
        ),
        "objects": good.replace(b"'<f8'", b"'|O' "),
    }


@pytest.mark.parametrize("kind", list(damaged_files(b"")))
def test_damaged_file_is_a_store_error(items: FileItems, kind: str) -> None:
    path = Path(items.path)
    path.write_bytes(damaged_files(path.read_bytes())[kind])
    with pytest.raises(StoreError, match=r"the file t\.items\.npy is damaged"):
        items.load("loops", 0, 1)


@pytest.mark.parametrize("row", [0, 499, 999])
def test_flipped_bit_is_found_by_every_read_of_its_row(items: FileItems, row: int) -> None:
    path = Path(items.path)
    content = bytearray(path.read_bytes())
    content[len(content) - 2 * 4 - (1000 - row) * 24] ^= 4
    path.write_bytes(content)
    for call in (items.load, items.check):
        with pytest.raises(DamagedFileError, match="do not match their checksums"):
            call("loops", row, 1)
        with pytest.raises(DamagedFileError, match="do not match their checksums"):
            call("loops", 0, 1000)


def test_blocks_that_changed_places_are_found(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    write_items(path, 4_096)
    content = path.read_bytes()
    header, sums = len(content) - 6 * BLOCK_BYTES - 6 * 4, content[-6 * 4 :]
    first, second = (content[header + n * BLOCK_BYTES :][:BLOCK_BYTES] for n in (0, 1))
    rest = content[header + 2 * BLOCK_BYTES : -6 * 4]
    path.write_bytes(content[:header] + second + first + rest + sums[4:8] + sums[:4] + sums[8:])
    with pytest.raises(DamagedFileError):
        FileItems(str(path), 4_096).load("loops", 0, 1)


def test_damage_elsewhere_leaves_the_other_rows_readable(items: FileItems) -> None:
    path = Path(items.path)
    content = bytearray(path.read_bytes())
    content[-2 * 4 - 1] ^= 1  # of the last row
    path.write_bytes(content)
    assert items.load("loops", 0, 10).item_ids[9] == 9


def test_file_of_the_first_versions_is_read_once_it_has_checksums(items: FileItems) -> None:
    path = Path(items.path)
    with_checksums = path.read_bytes()
    path.write_bytes(with_checksums[: -2 * 4])
    with pytest.raises(DamagedFileError, match="has no checksums"):
        items.load("loops", 0, 1)
    add_checksums(path)
    assert path.read_bytes() == with_checksums
    assert list(path.parent.iterdir()) == [path]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    barrier = threading.Barrier(8)

    def write() -> None:
        barrier.wait()
        for _ in range(10):
            write_items(path, 3_000, 3_000)
            rows = FileItems(str(path), 6_000).load("loops", 0, 6_000)
            np.testing.assert_array_equal(rows.columns["offset"], rows.item_ids * 3)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(write) for _ in range(8)]:
            future.result()
    assert list(tmp_path.iterdir()) == [path]


def test_folder_in_place_of_the_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: is a directory"):
        FileItems(str(tmp_path), 1).load("loops", 0, 1)


def test_file_of_other_columns_is_a_store_error(items: FileItems) -> None:
    np.save(items.path, np.zeros(1000, [("item_id", "<i8"), ("other", "<f8")]))
    with pytest.raises(StoreError, match="rows of item_id, other"):
        items.load("loops", 0, 1)


def test_file_of_another_count_is_a_store_error(items: FileItems) -> None:
    with pytest.raises(StoreError, match=r"does not hold 999 items .* but 1,000 rows"):
        FileItems(items.path, 999).load("loops", 0, 1)


def test_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    with pytest.raises(KeyError), new_item_file(path, "loops") as writer:
        writer.append(np.arange(3), {"value": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    write_items(path, 1)
    with new_item_file(path, "loops") as writer:
        writer.append(np.arange(3), {"value": np.zeros(3), "offset": np.zeros(3)})
        assert len(np.load(path)) == 1
    assert len(np.load(path)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="the items cannot be stored: it does not exist"),
        new_item_file(tmp_path / "no" / "t.npy", "loops"),
    ):
        pass


def test_header_has_room_for_any_count(tmp_path: Path) -> None:
    """The count is written over the header of an empty file."""
    path = tmp_path / "t.npy"
    write_items(path)
    empty = path.stat().st_size
    write_items(path, 123_456)
    rows = 123_456 * item_dtype("loops").itemsize
    checksums = 4 * -(-rows // BLOCK_BYTES)
    assert path.stat().st_size == empty + rows + checksums


FULL_DISK = """
import resource, signal, sys
import numpy as np
from hotloop.app.errors import StoreError
from hotloop.app.sources.item_file import new_item_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
column = np.zeros(int(sys.argv[2]))
try:
    with new_item_file(sys.argv[1], "loops") as writer:
        writer.append(column, {"value": column, "offset": column})
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("count", [4_200, 50_000])
def test_disk_that_refuses_is_a_store_error_and_leaves_nothing(tmp_path: Path, count: int) -> None:
    """With 4,200 items the disk refuses the bytes that are flushed at the end."""
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path / "t.npy"), str(count)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.stderr == ""
    assert answer.stdout.startswith("the items cannot be stored: it would exceed the file size")
    assert list(tmp_path.iterdir()) == []
