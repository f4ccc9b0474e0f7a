"""Batch kernels that users add: C called by ctypes, and Cython, beside the derived ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from hotloop.kernels import Kernel
from hotloop.kernels.functions.declaration import WorkloadFunction
from hotloop.kernels.functions.loading import load_target, parse_target

C = """
void distance(long n, const double *x, const double *y, double scale, double *result) {
    for (long i = 0; i < n; i++)
        result[i] = (x[i] - y[i]) * scale;
}
"""
CYTHON = """
# cython: language_level=3, boundscheck=False
def distance(const double[::1] x, const double[::1] y, double scale, double[::1] result):
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            result[i] = (x[i] - y[i]) * scale

def writes_inputs(double[::1] x, const double[::1] y, double scale, double[::1] result):
    pass
"""
PYTHON = """
import ctypes
from pathlib import Path
import numpy as np
import hotloop

@hotloop.workload
def distance(x: float, y: float, scale: float = 2.0) -> float:
    return (x - y) * scale

library = ctypes.CDLL(str(Path(__file__).with_name("fast.so")))
double = np.ctypeslib.ndpointer(np.float64, flags="C")
library.distance.argtypes = [ctypes.c_long, double, double, ctypes.c_double, double]
library.distance.restype = None

@distance.kernel("c")
def in_c(x, y, scale, result):
    library.distance(len(x), x, y, scale, result)

distance.kernel("cython", "distance_cython:distance")
distance.kernel("careless", "distance_cython:writes_inputs")
"""


@pytest.fixture(scope="module")
def distance(tmp_path_factory: pytest.TempPathFactory) -> WorkloadFunction[..., Any]:
    compiler = shutil.which("cc")
    assert compiler, "these tests need a C compiler, as the installation does"
    folder = tmp_path_factory.mktemp("distance")
    (folder / "fast.c").write_text(C)
    (folder / "distance_cython.pyx").write_text(CYTHON)
    (folder / "distances.py").write_text(PYTHON)
    shared = ["-shared", "-fPIC", "-O2", "-ffp-contract=off"]
    subprocess.run([compiler, *shared, "-o", "fast.so", "fast.c"], cwd=folder, check=True)
    build = "from setuptools import setup; from Cython.Build import cythonize;"
    build += "setup(ext_modules=cythonize('distance_cython.pyx', quiet=True))"
    subprocess.run(
        [sys.executable, "-c", build, "-q", "build_ext", "--inplace"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (found,) = load_target(parse_target("distances.py", folder))
    return found


def test_all_kernels_are_equal(distance: WorkloadFunction[..., Any]) -> None:
    items = distance.declaration.simulated_columns(np.arange(1_001, dtype=np.int64))
    assert distance.kernel_names() == ("python", "numba", "c", "cython", "careless")
    results = {
        name: distance.run(items, {"scale": 0.3}, kernel=name)["result"].tobytes()
        for name in ("python", "numba", "c", "cython", "auto")
    }
    assert len(set(results.values())) == 1


def test_kernel_that_wants_to_write_into_inputs_is_refused(
    distance: WorkloadFunction[..., Any],
) -> None:
    careless = distance.load_kernel("careless")
    assert isinstance(careless, Kernel)
    with pytest.raises(ValueError, match="read-only"):
        careless.warm_up()


def test_added_kernel_is_called_once_for_its_warm_up_by_many_threads() -> None:
    calls = []

    def double(x: Any, result: Any) -> None:
        calls.append(len(x))
        result[:] = 2 * x

    function = WorkloadFunction(twice).kernel("added", double)
    kernel = function.load_kernel("added")
    threads = [threading.Thread(target=kernel.warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [0], "for no item, as a function may fail for some"
    assert function.run({"x": [1.0, 2.0]}, kernel="added")["result"].tolist() == [2.0, 4.0]


def twice(x: float) -> float:
    return 2 * x
