"""Chunks: batches are packed by column, and damage is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import CHUNK_ROWS, Chunk, join, pack, result_columns, unpack

NewResult = Callable[..., BatchResult]

COLUMNS = (("loop", "float64"), ("nested", "int64"))


def test_columns_are_those_of_the_workload() -> None:
    assert result_columns("loops") == COLUMNS


def test_chunk_to_the_byte(result: NewResult) -> None:
    (chunk,) = pack([result(6, 3, failed=(7,))], COLUMNS)
    assert (chunk.start, chunk.count, chunk.failed) == (6, 3, 1)
    assert chunk.rows == (
        np.array([6, 7, 8], "<i8").tobytes()
        + np.array([3.0, 0.0, 4.0], "<f8").tobytes()
        + np.array([-6, 0, -8], "<i8").tobytes()
        + bytes([1, 2, 1])
    )


def places(chunks: list[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.count) for chunk in chunks]


def test_adjacent_batches_become_one_chunk_in_any_order(result: NewResult) -> None:
    batches = [result(4, 2), result(20, 1), result(0, 1), result(1, 3), result(21, 4), result(9, 1)]
    assert places(pack(batches, COLUMNS)) == [(0, 6), (9, 1), (20, 5)]
    assert pack(batches, COLUMNS) == pack(batches[::-1], COLUMNS)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_large_batch_is_cut(result: NewResult, more: int) -> None:
    chunks = pack([result(5, 2 * CHUNK_ROWS + more, failed=(5, CHUNK_ROWS + 5))], COLUMNS)
    counts = {
        -1: [CHUNK_ROWS, CHUNK_ROWS - 1],
        0: [CHUNK_ROWS, CHUNK_ROWS],
        1: [CHUNK_ROWS, CHUNK_ROWS, 1],
    }[more]
    assert [chunk.count for chunk in chunks] == counts
    assert [chunk.start for chunk in chunks] == [5 + i * CHUNK_ROWS for i in range(len(counts))]
    assert [chunk.failed for chunk in chunks] == [1, 1, 0][: len(counts)]
    rows = join([unpack(chunk, COLUMNS) for chunk in chunks])
    np.testing.assert_array_equal(rows.item_ids, np.arange(5, 5 + 2 * CHUNK_ROWS + more))


def test_many_batches_are_merged_and_cut(result: NewResult) -> None:
    batches = [result(start, 5_000) for start in range(0, 100_000, 5_000)]
    chunks = pack(batches, COLUMNS)
    assert places(chunks) == [(0, CHUNK_ROWS), (CHUNK_ROWS, 100_000 - CHUNK_ROWS)]


def test_empty_results_pack_to_no_chunk() -> None:
    assert pack([], COLUMNS) == []


def test_overlapping_batches_are_refused(result: NewResult) -> None:
    with pytest.raises(ValueError, match="overlaps another"):
        pack([result(0, 5), result(4, 2)], COLUMNS)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.zeros(3), r"float64\(3,\), not float64\(2,\)"),
        (np.zeros(1), r"float64\(1,\)"),
        (np.zeros((2, 1)), r"float64\(2, 1\)"),
        (np.zeros(2, np.float32), "float32"),
        (np.zeros(2, np.int64), "int64"),
    ],
)
def test_column_of_another_kind_is_refused(
    result: NewResult, column: np.ndarray[tuple[int, ...], np.dtype[np.float64]], words: str
) -> None:
    batch = result(0, 2)
    with pytest.raises(ValueError, match=f"column loop of batch 0 is .*{words}"):
        pack([replace(batch, columns=batch.columns | {"loop": column})], COLUMNS)


def test_batch_without_a_column_is_refused(result: NewResult) -> None:
    with pytest.raises(ValueError, match="batch 0 has no column nested"):
        pack([replace(result(0, 1), columns={"loop": np.zeros(1)})], COLUMNS)


def test_strided_and_byte_swapped_columns_are_stored_alike(result: NewResult) -> None:
    batch = result(0, 4)
    wide = np.repeat(batch.columns["loop"], 2)[::2]
    assert not wide.flags.c_contiguous
    other = replace(batch, columns=batch.columns | {"loop": wide})
    assert pack([other], COLUMNS) == pack([batch], COLUMNS)


@pytest.mark.parametrize("byte", range(0, 75, 7))
def test_flipped_byte_is_found(result: NewResult, byte: int) -> None:
    (chunk,) = pack([result(0, 3)], COLUMNS)
    assert len(chunk.rows) == 75
    flipped = bytearray(chunk.rows)
    flipped[byte] ^= 1
    with pytest.raises(ValueError, match="its checksum is wrong"):
        unpack(replace(chunk, rows=bytes(flipped)), COLUMNS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": 4}, "checksum"),
        ({"count": 2}, "length"),
        ({"count": -3}, "length"),
        ({"crc32": 0}, "checksum"),
        ({"failed": 1}, "number of failed items"),
        ({"rows": b""}, "length"),
        ({"rows": b"\0" * 76}, "length"),
    ],
)
def test_changed_field_is_found(result: NewResult, changes: dict[str, object], words: str) -> None:
    (chunk,) = pack([result(3, 3)], COLUMNS)
    with pytest.raises(ValueError, match=f"its {words} is wrong"):
        unpack(replace(chunk, **changes), COLUMNS)  # type: ignore[arg-type]
