"""The checksum: independent of order and batches, dependent on every bit."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.strategies.checksum import MODULUS, checksum_text, rows_checksum

MASK = MODULUS - 1


def slow_checksum(rows: list[tuple[int, float, int]]) -> int:
    """Compute the checksum in Python integers, row by row."""
    total = 0
    for item_id, loop, nested in rows:
        hashed = mix(item_id & MASK)
        value = np.float64(math.nan if math.isnan(loop) else loop)
        for bits in (int(value.view(np.uint64)), nested & MASK):
            hashed = mix(hashed ^ bits)
        total += hashed
    return total & MASK


def mix(bits: int) -> int:
    bits = (bits + 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def checksum(rows: list[tuple[int, float, int]]) -> int:
    return rows_checksum(
        np.array([r[0] for r in rows], dtype=np.int64),
        {
            "nested": np.array([r[2] for r in rows], dtype=np.int64),
            "loop": np.array([r[1] for r in rows], dtype=np.float64),
        },
    )


INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(st.tuples(INT64, st.floats(), INT64), max_size=20)


@given(ROWS)
def test_vectors_and_python_integers_agree(rows: list[tuple[int, float, int]]) -> None:
    assert checksum(rows) == slow_checksum(rows)


@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 20))
def test_checksum_ignores_order_and_batches(
    rows: list[tuple[int, float, int]], random: object, cut: int
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert (checksum(shuffled[:cut]) + checksum(shuffled[cut:])) % MODULUS == checksum(rows)


def test_checksum_depends_on_every_bit_and_its_position() -> None:
    rows = [(0, 1.0, 5), (1, 2.0, 6)]
    others = [
        [(0, np.nextafter(1.0, 2.0), 5), (1, 2.0, 6)],
        [(0, 1.0, 6), (1, 2.0, 5)],
        [(0, 2.0, 6), (1, 1.0, 5)],
        [(0, 1.0, 5)],
        [(0, 1.0, 5), (1, 2.0, 6), (1, 2.0, 6)],
    ]
    assert len({checksum(rows), *map(checksum, others)}) == len(others) + 1
    assert checksum([(0, 0.0, 0)]) != checksum([(0, -0.0, 0)])


def test_nan_counts_as_one_value_whatever_its_bits() -> None:
    bits = [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001, 0x7FF0000000000001]
    ids = np.arange(2)
    sums = {
        rows_checksum(ids, {"level": np.array([1 << 52, each], np.uint64).view(np.float64)})
        for each in bits
    }
    assert len(sums) == 1
    infinite = rows_checksum(ids, {"level": np.array([1 << 52, 0x7FF << 52]).view(np.float64)})
    assert infinite not in sums
    singles = np.array([0x7FC00000, 0xFFC00000], np.uint32).view(np.float32)
    same = np.zeros(1, np.int64)
    assert len({rows_checksum(same, {"level": each}) for each in singles.reshape(2, 1)}) == 1


def test_booleans_count() -> None:
    ids = np.arange(3)
    patterns = [[True, False, False], [False, True, False], [False] * 3, [True] * 3]
    assert len({rows_checksum(ids, {"positive": np.array(each)}) for each in patterns}) == 4


def test_text_is_sixteen_digits() -> None:
    assert checksum_text(255) == "00000000000000ff"
    assert checksum_text(MODULUS + 1) == "0000000000000001"
