"""Items in memory, which travel with the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hotloop.app.sources.base import Columns, ItemBatch

MOST_BYTES = 65_536
"""Bytes of items that travel with a plan, or are stored in a row of the database; more items are
written to a file.
"""


@dataclass(frozen=True, slots=True, eq=False)
class InlineItems:
    """n items: their ids, int64[n], and n values for each input column; an `Items`."""

    item_ids: npt.NDArray[np.int64]
    columns: Columns

    @property
    def count(self) -> int:
        return len(self.item_ids)

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        """Copy items `start … start + count - 1`, because stages write to them."""
        part = slice(start, start + count)
        columns = {name: column[part].copy() for name, column in self.columns.items()}
        return ItemBatch(self.item_ids[part].copy(), columns)
