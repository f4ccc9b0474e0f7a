"""Rows of a body as columns, which need a hundredth of the objects and few copies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from hotloop.app.names import ITEM_ID
from hotloop.app.schemas.declared import ItemRow
from hotloop.kernels import get_workload


class ItemColumns(Sequence[ItemRow]):
    """n rows: `item_ids` int64[n], and `columns` with an array[n], or array[n, width], for each
    input column of the workload, in the declared order.
    """

    __slots__ = ("columns", "item_ids")

    def __init__(
        self, item_ids: npt.NDArray[np.int64], columns: dict[str, npt.NDArray[Any]]
    ) -> None:
        self.item_ids = item_ids
        self.columns = columns

    @classmethod
    def of(cls, workload: str, rows: Sequence[ItemRow]) -> Self:
        """Convert validated rows; return ItemColumns unchanged. The `item_id` of a row without one
        is its place, from 0.
        """
        if isinstance(rows, cls):
            return rows
        ids = [row.get(ITEM_ID.name, place) for place, row in enumerate(rows)]
        columns = {
            column.name: np.array([row[column.name] for row in rows], dtype=column.dtype)
            for column in get_workload(workload).columns_in
        }
        return cls(np.array(ids, dtype=ITEM_ID.dtype), columns)

    def __len__(self) -> int:
        return len(self.item_ids)

    @overload
    def __getitem__(self, index: int) -> ItemRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ItemRow]: ...
    def __getitem__(self, index: int | slice) -> ItemRow | Sequence[ItemRow]:
        columns = {name: column[index] for name, column in self.columns.items()}
        if isinstance(index, slice):
            return ItemColumns(self.item_ids[index], columns)
        row = {ITEM_ID.name: self.item_ids[index]} | columns
        return {name: value.tolist() for name, value in row.items()}

    @property
    def digest(self) -> str:
        """Digest that is equal for equal rows."""
        hashed = hashlib.sha256()
        for column in (self.item_ids, *self.columns.values()):
            hashed.update(column.tobytes())
        return hashed.hexdigest()
