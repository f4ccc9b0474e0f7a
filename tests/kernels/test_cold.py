"""Compiling where nothing can be written, and without a cache on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotloop import kernels

PROGRAM = """
import numpy, kernels
kernel = kernels.get_kernel("loops", "numba")
kernel.warm_up()
out = kernel.run({"value": numpy.zeros(1), "offset": numpy.zeros(1, dtype=numpy.int64)})
print(int(out["nested"][0]))
"""


@pytest.mark.skipif(
    "numba" not in kernels.available_kernels("loops"), reason="numba kernel not built"
)
def test_numba_needs_neither_a_home_nor_a_cache(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    environment = os.environ | {"HOME": missing, "XDG_CACHE_HOME": missing, "TMPDIR": missing}
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "9388000\n", done.stderr
    assert not Path(missing).exists()
