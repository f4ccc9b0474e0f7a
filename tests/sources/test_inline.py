"""Items that travel with the plan: app/sources/inline.py."""

from __future__ import annotations

import pickle

import numpy as np

from hotloop.app.sources.inline import InlineItems

ITEMS = InlineItems(
    np.array([5, 3, 9, 1], dtype=np.int64),
    {"value": np.array([0.5, 1.5, 2.5, 3.5]), "offset": np.array([1, 2, 3, 4], dtype=np.int64)},
)


def test_part_of_the_items_is_loaded() -> None:
    batch = ITEMS.load("loops", 1, 2)
    assert ITEMS.count == 4
    assert batch.item_ids.tolist() == [3, 9]
    assert batch.columns["value"].tolist() == [1.5, 2.5]
    assert all(column.flags.c_contiguous for column in batch.columns.values())


def test_stages_write_to_a_copy() -> None:
    batch = ITEMS.load("loops", 0, 4)
    batch.columns["value"][:] = 0.0
    batch.item_ids[:] = 0
    assert ITEMS.load("loops", 0, 4).columns["value"].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert ITEMS.load("loops", 0, 4).item_ids.tolist() == [5, 3, 9, 1]


def test_items_travel_to_another_process() -> None:
    loaded = pickle.loads(pickle.dumps(ITEMS)).load("loops", 0, 4)
    assert loaded.columns["offset"].tobytes() == ITEMS.columns["offset"].tobytes()
