"""Items and parameters as findings show them: values that JSON has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

__all__ = ["example_of", "plain_value"]

_SHOWN: Final = 8
"""Values of a vector that an example shows at each end."""


def plain_value(value: Any) -> Any:
    """Return a number, text or array as JSON has it; infinities and NaN are texts, and of a long
    vector only both ends are shown.
    """
    if isinstance(value, np.ndarray | memoryview):
        flat = np.asarray(value).reshape(-1).tolist()
        if len(flat) > 2 * _SHOWN:
            return [*map(plain_value, flat[:_SHOWN]), "…", *map(plain_value, flat[-_SHOWN:])]
        return [plain_value(each) for each in flat]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def example_of(
    columns: Mapping[str, Any] | None, row: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the item at a position of a batch, and the parameters, for a finding."""
    item = {} if columns is None else {name: plain_value(v[row]) for name, v in columns.items()}
    return {"columns": item, "parameters": {k: plain_value(v) for k, v in parameters.items()}}
