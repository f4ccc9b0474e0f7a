"""Does a run let other Python threads work? Counted, not timed.

The interpreter is told to take the GIL from nobody for as long as the test lasts. Another thread
waits for the GIL in order to count. Whatever it counts between the start and the end of a run, it
could only count because the run gave the GIL away. A run that keeps it leaves the count at 0, with
certainty; one that releases it lets the counter finish, unless the run ended before the operating
system woke the counter, and then the run is repeated.
"""

import sys
from collections.abc import Callable
from threading import Lock, Thread

import pytest

from hotloop import kernels
from hotloop.kernels import Kernel
from tests.kernels.cases import mixed_columns

TICKS = 1000
ATTEMPTS = 50
FOREVER_SECONDS = 3600.0

# Few items: numpy releases the GIL of its own accord for arrays of more than 500.
COLUMNS = mixed_columns(16)
LONG = {
    "loop": {"cpu_iterations": 200_000, "outer_iterations": 0},
    "nested": {"cpu_iterations": 0, "outer_iterations": 1000, "inner_iterations": 2000},
}
SHORT = {
    "loop": {"cpu_iterations": 2000, "outer_iterations": 0},
    "nested": {"cpu_iterations": 0, "outer_iterations": 10, "inner_iterations": 100},
}

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="a free-threaded interpreter has no GIL to release",
)


def ticks_during(run: Callable[[], object]) -> int:
    """Return how far another thread counted, up to TICKS, while `run` was in progress."""
    ticks = 0
    gate = Lock()
    gate.acquire()

    def count() -> None:
        nonlocal ticks
        with gate:
            for _ in range(TICKS):
                ticks += 1

    counter = Thread(target=count)
    counter.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(FOREVER_SECONDS)
    try:
        gate.release()
        before = ticks
        run()
        return ticks - before
    finally:
        sys.setswitchinterval(interval)
        counter.join()


@pytest.mark.parametrize("term", LONG)
def test_run_lets_another_thread_tick_if_the_kernel_says_so(kernel: Kernel, term: str) -> None:
    if kernel.releases_gil:
        attempts = (ticks_during(lambda: kernel.run(COLUMNS, LONG[term])) for _ in range(ATTEMPTS))
        assert any(ticks == TICKS for ticks in attempts)
    else:
        attempts = (ticks_during(lambda: kernel.run(COLUMNS, SHORT[term])) for _ in range(5))
        assert all(ticks == 0 for ticks in attempts)


def test_counter_notices_a_single_release() -> None:
    # A lock that nobody frees, asked for with a time limit, gives the GIL away while it waits.
    taken = Lock()
    taken.acquire()
    attempts = (ticks_during(lambda: taken.acquire(timeout=0.02)) for _ in range(ATTEMPTS))
    assert any(ticks == TICKS for ticks in attempts)


def test_every_term_is_covered() -> None:
    terms = {term.name for term in kernels.get_workload("loops").terms}
    assert set(LONG) == set(SHORT) == terms
