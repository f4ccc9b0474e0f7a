"""Instructions of the loop under callgrind: they stay the same where seconds do not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.machine import ROOT

ITEMS: Final = 512
ITERATIONS: Final = {"avx2+fma": 20_000, "baseline": 1_000}
"""Enough that what Python does beside it, which varies a little, does not show. Callgrind knows no
AVX-512."""

PROGRAM: Final = """
import sys, numpy, kernels
name, iterations = sys.argv[1], int(sys.argv[2])
kernel = kernels.get_kernel("loops", "cython", name)
columns = {"value": numpy.arange(512.0), "offset": numpy.zeros(512, dtype=numpy.int64)}
kernel.run(columns, {"cpu_iterations": iterations, "outer_iterations": 0})
"""


def measure() -> dict[str, float]:
    """Instructions for one iteration of one item by instruction set; empty without valgrind."""
    if shutil.which("valgrind") is None:
        return {}
    counts = {}
    for name, iterations in ITERATIONS.items():
        work = _count(name, iterations) - _count(name, 0)
        counts[name] = work / (ITEMS * iterations)
        print(f"  {name}: {counts[name]:.2f} instructions", flush=True)
    return counts


def _count(name: str, iterations: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *("valgrind", "--tool=callgrind", f"--callgrind-out-file={Path(folder, 'out')}"),
                *(sys.executable, "-c", PROGRAM, name, str(iterations)),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(done.stderr)
    return int(found[1])


def lines(counts: dict[str, float]) -> list[str]:
    """Markdown."""
    if not counts:
        return ["Instructions were not counted: there is no valgrind here."]
    texts = [f"{count:.2f} (`{name}`)" for name, count in counts.items()]
    return [
        f"Instructions for one iteration of `loop` of one item, {ITEMS} items a batch, `cython`,",
        f"counted by callgrind (which knows no AVX-512): {', '.join(texts)}.",
    ]
