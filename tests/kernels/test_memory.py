"""Runs leave no memory behind, accepted or refused."""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from hotloop.kernels import InvalidInputError, Kernel
from tests.kernels.cases import Refusal, every_third, mixed_columns, refused

pytestmark = pytest.mark.long

RUNS = 200
ROUNDS = 12
# Less than any object that a run could leave behind each time.
ALLOWED_BYTES = RUNS * 16
FEW = {"cpu_iterations": 2, "outer_iterations": 2, "inner_iterations": 2}


@contextmanager
def tracing() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # collections then look at what came after, not at all that was ever imported
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def growth(run: Callable[[], object]) -> int:
    """Return by how many bytes the memory of Python and numpy grew over RUNS runs.

    A leak grows in every round. What is kept once, or fills a free list up to its limit, does not,
    so the first round of no growth settles the matter.
    """
    least = sys.maxsize
    with tracing():
        for _ in range(ROUNDS):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(RUNS):
                run()
            gc.collect()
            least = min(least, tracemalloc.get_traced_memory()[0] - before)
            if least < ALLOWED_BYTES:
                break
    return least


def test_run_leaks_no_memory(kernel: Kernel) -> None:
    columns = mixed_columns(32)
    assert growth(lambda: kernel.run(columns, FEW)) < ALLOWED_BYTES


def test_run_with_copied_input_and_out_leaks_no_memory(kernel: Kernel) -> None:
    columns = {name: every_third(column) for name, column in mixed_columns(32).items()}
    out = {"loop": np.zeros(32), "nested": np.zeros(32, dtype=np.int64)}
    assert growth(lambda: kernel.run(columns, FEW, out=out)) < ALLOWED_BYTES


@pytest.mark.parametrize("refusal", refused()[::17], ids=lambda refusal: refusal.name)
def test_refused_run_leaks_no_memory(kernel: Kernel, refusal: Refusal) -> None:
    def run() -> None:
        with suppress(InvalidInputError):
            kernel.run(refusal.columns, refusal.parameters)

    assert growth(run) < ALLOWED_BYTES


def test_run_keeps_no_reference_to_its_arrays(kernel: Kernel) -> None:
    columns = mixed_columns(8)
    out = {"loop": np.zeros(8), "nested": np.zeros(8, dtype=np.int64)}
    arrays = [*columns.values(), *out.values()]
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(10):
        kernel.run(columns, FEW, out=out)
    assert [sys.getrefcount(array) for array in arrays] == before


def test_leaked_allocation_is_detected() -> None:
    kept: list[bytes] = []
    assert growth(lambda: kept.append(bytes(32))) > ALLOWED_BYTES
