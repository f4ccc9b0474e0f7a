"""GIL release: whether other Python threads work while a kernel runs.

It is counted and not timed, as far as that goes. The interpreter is told to take the GIL from
nobody; a thread waits for it in order to count. Whatever it counts before the call ends, it could
only count because the call gave the GIL away. A kernel that never does leaves the count at 0
however busy the machine is.

A kernel may also give it away for a moment only. So the processor time that the other thread gets
during long calls is compared with what it gets while a function runs that surely needs no GIL.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from hotloop.app.check.names import GIL, Status
from hotloop.app.check.points.base import Base
from hotloop.app.check.points.timing import bare_call
from hotloop.app.check.session import Session
from hotloop.app.system import has_gil

__all__ = ["examine_gil"]

_TICKS: Final = 200
_ATTEMPTS: Final = 60
_MISSES: Final = 10
"""Calls without a release, until none is expected any more."""

_FOREVER_SECONDS: Final = 3600.0
_CALL_SECONDS: Final = 0.03
_LEAST_SECONDS: Final = 0.015
"""A call that is quicker tells nothing: Python threads take turns every 5 ms."""

_TELLING_SECONDS: Final = 4e-3
"""A call that is quicker may end before the system wakes another thread."""

_ROUNDS: Final = 8
_FINE_SHARE: Final = 0.5
_LEAST_SHARE: Final = 0.2
"""Of the other thread's processor time beside a function without GIL."""

_MOST_VALUES: Final = 8_000_000
_HASHED: Final = bytes(1 << 20)


def examine_gil(session: Session, base: Base, seconds: float) -> None:
    """Decide the point for a kernel that is declared to release the GIL, in about `seconds`."""
    name = base.kernel.name
    if not has_gil():
        session.checked(name, GIL.name, Status.NOT_APPLICABLE, "this Python has no GIL")
        return
    if not base.kernel.releases_gil:
        words = "it is declared to keep the GIL"
        session.checked(name, GIL.name, Status.NOT_APPLICABLE, words)
        return
    end = time.monotonic() + seconds
    run, call_seconds = _prepared(session, base, _CALL_SECONDS)
    if call_seconds < _TELLING_SECONDS:
        words = f"a call for {_MOST_VALUES:,} values is too quick to tell"
        session.checked(name, GIL.name, Status.NOT_APPLICABLE, words)
        return
    hashes = _repetitions(call_seconds)
    misses = 0
    with session.doing("calls beside a counting thread", 4 * call_seconds):
        for _ in range(_ATTEMPTS):
            if ticks_during(run):
                break
            # It counts only if the system would have woken the other thread in that time.
            misses += bool(ticks_during(lambda: _hash(hashes)))
            if misses >= _MISSES:
                session.found(
                    name,
                    GIL.name,
                    f"it is declared to release the GIL; in {misses} calls of about "
                    f"{1e3 * call_seconds:.0f} ms another thread never got it",
                )
                break
    if not session.has_failed(name, GIL.name):
        _examine_share(session, name, run, call_seconds, hashes, end)
    session.ended(name, GIL.name, "another Python thread works during its calls")


def _examine_share(
    session: Session,
    name: str,
    run: Callable[[], None],
    call_seconds: float,
    hashes: int,
    end: float,
) -> None:
    """Find a kernel that releases the GIL, but for a small part of its time only."""
    if call_seconds < _LEAST_SECONDS:
        return
    best = fair = 0.0
    for number in range(_ROUNDS):
        with session.doing("calls beside a working thread", 4 * call_seconds):
            fair = max(fair, cpu_share_during(lambda: _hash(hashes)))
            best = max(best, cpu_share_during(run))
        # The best of several rounds: a machine that is busy takes from both.
        if number >= 2 and (best >= _FINE_SHARE * fair or time.monotonic() > end + 2.0):
            break
    share = best / fair if fair else 1.0
    if share < _LEAST_SHARE:
        session.found(
            name,
            GIL.name,
            f"it releases the GIL for a part of its time only: during its calls another thread "
            f"gets {100 * share:.0f} % of what it gets beside a function without GIL",
        )


def ticks_during(run: Callable[[], object]) -> int:
    """Return how far another thread counted, up to some, while `run` was in progress."""
    ticks = 0
    gate = threading.Lock()
    gate.acquire()

    def count() -> None:
        nonlocal ticks
        with gate:
            for _ in range(_TICKS):
                ticks += 1

    counter = threading.Thread(target=count, daemon=True)
    counter.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_FOREVER_SECONDS)
    try:
        gate.release()
        before = ticks
        run()
        return ticks - before
    finally:
        sys.setswitchinterval(interval)
        counter.join()


def cpu_share_during(run: Callable[[], object]) -> float:
    """Return the share of one processor that a busy Python thread gets while `run` runs. It gives
    the GIL back of its own accord, and takes it only when `run` has given it away.
    """
    is_over = False
    is_busy = threading.Event()
    used = 0.0

    def work() -> None:
        nonlocal used
        is_busy.set()
        while not is_over:
            for _ in range(_TICKS):
                pass
            used = time.thread_time()
            time.sleep(0)

    thread = threading.Thread(target=work, daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_FOREVER_SECONDS)
    try:
        thread.start()
        is_busy.wait()
        before, started = used, time.perf_counter()
        run()
        after, elapsed = used, time.perf_counter() - started
    finally:
        is_over = True
        sys.setswitchinterval(interval)
        thread.join()
    return (after - before) / elapsed


def _hash(times: int) -> None:
    # hashlib releases the GIL for long texts.
    for _ in range(times):
        hashlib.sha256(_HASHED)


def _repetitions(seconds: float) -> int:
    started = time.perf_counter()
    _hash(1)
    return max(1, round(seconds / (time.perf_counter() - started)))


def _prepared(
    session: Session, base: Base, wanted_seconds: float
) -> tuple[Callable[[], None], float]:
    """Return a call that takes about as long, and how long it takes. It is as bare as can be: numpy
    releases the GIL in larger copies.
    """
    widest = max(values[0].size for values in base.columns.values())
    size = max(16, int(wanted_seconds / max(base.item_seconds, 1e-9)))
    # A time that was wrong must not make a batch that never ends.
    most = min(_MOST_VALUES // widest, 40 * size)
    taken = 0.0
    for _ in range(6):
        size = min(size, most)
        run = bare_call(base.kernel, base.columns, base.parameters, size)
        with session.doing(f"a batch of {size}", size * base.item_seconds):
            taken = min(_timed(run) for _ in range(2))
        if taken >= 0.5 * wanted_seconds or size == most:
            break
        size = int(size * min(20.0, 1.2 * wanted_seconds / max(taken, 1e-6)))
    return run, taken


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
