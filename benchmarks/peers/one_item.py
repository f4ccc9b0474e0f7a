"""One item of `loops` with the default parameters, computed as other programs would call it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hotloop import kernels

KERNEL = "cython"


def compute(
    value: float, offset: int, parameters: Mapping[str, object] | None = None
) -> tuple[float, int]:
    """Return the two outputs of the item."""
    columns = {"value": np.array([value]), "offset": np.array([offset], dtype=np.int64)}
    found = kernels.get_kernel("loops", KERNEL).run(columns, parameters)
    return found["loop"][0].item(), found["nested"][0].item()
