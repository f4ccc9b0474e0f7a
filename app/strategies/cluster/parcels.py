"""Parcels: whole batches that travel to a worker of a cluster together, and what the worker does.

A parcel holds all that its batches need; items that are not generated travel as a slice. A worker
computes with the same functions as every other strategy, and only if its code is the same as the
run host's: equal code gives equal bits.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import resource
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from hotloop import kernels
from hotloop.app.errors import ClusterUnusableError, ServiceError
from hotloop.app.sources.base import Batch, ItemBatch
from hotloop.app.sources.inline import InlineItems
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import BatchResult, Plan, Usage
from hotloop.app.strategies.worker import RunStoppedError, run_batch
from hotloop.app.version import VERSION

_SHARED: Final = ("kernels", "app/strategies", "app/sources", "app/errors.py", "app/names.py")
"""The code that decides about results, or travels between run host and worker."""

_INTERRUPT_SECONDS: Final = 0.05
"""Time in which an interrupt is noticed."""

STOPPED_RUNS: Final = 1_000
"""Runs that a worker remembers as stopped; a parcel that comes later is not computed."""


@dataclass(frozen=True, slots=True)
class Code:
    """The versions of everything that results, or the parcels themselves, depend on."""

    hotloop: str
    source: str
    """Digest of hotloop's own files that matter, 12 digits."""
    python: str
    """Major and minor version: pickles and Numba's code depend on it."""
    numpy: str
    numba: str

    def __str__(self) -> str:
        return (
            f"hotloop {self.hotloop} (code {self.source}), Python {self.python}, "
            f"numpy {self.numpy}, numba {self.numba}"
        )


@cache
def code() -> Code:
    """Return the versions of this process."""
    root = Path(kernels.__file__).absolute().parents[1]
    digest = hashlib.sha256()
    for name in _SHARED:
        found = root / name
        for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return Code(
        VERSION,
        digest.hexdigest()[:12],
        ".".join(platform.python_version_tuple()[:2]),
        version("numpy"),
        version("numba"),
    )


@dataclass(frozen=True, slots=True)
class OffsetItems:
    """The items from position `start` on, of which a parcel needs these; an `Items`."""

    start: int
    items: InlineItems

    @property
    def count(self) -> int:
        return self.items.count

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        return self.items.load(workload, start - self.start, count)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Batches that follow one another, and their plan with no other items."""

    run: str
    """The run that the parcel belongs to, by which it is stopped."""
    plan: Plan
    batches: tuple[Batch, ...]
    code: Code
    """The versions of the run host."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a parcel's batches, or the error that ended it."""

    results: tuple[BatchResult, ...]
    error: ServiceError | kernels.KernelsError | MemoryError | None
    seconds: float
    """Seconds in the worker."""


def cut(batches: Iterator[Batch], size: int) -> Iterator[tuple[Batch, ...]]:
    """Yield the batches in parcels of at most `size` that leave no item out between them."""
    held: list[Batch] = []
    for batch in batches:
        if held and (len(held) == size or held[-1].start + held[-1].count != batch.start):
            yield tuple(held)
            held = []
        held.append(batch)
    if held:
        yield tuple(held)


def pack(run: str, plan: Plan, batches: tuple[Batch, ...]) -> bytes:
    """Return the bytes of a parcel. Blocks while items are read."""
    items = plan.items
    if not isinstance(items, GeneratedItems):
        start, count = batches[0].start, sum(batch.count for batch in batches)
        loaded = items.load(plan.workload, start, count)
        items = OffsetItems(start, InlineItems(loaded.item_ids, loaded.columns))
    # The engine bounds the memory of its workers.
    sent = replace(plan, items=items, ranges=None, memory_bytes=None)
    return pickle.dumps(Parcel(run, sent, batches, code()), protocol=5)


def prepare(payload: bytes) -> bytes:
    """Import, load and compile what a pickled plan without items needs. Return this worker's
    pickled versions, or the ServiceError for which it cannot execute the plan.
    """
    plan: Plan = pickle.loads(payload)
    try:
        _enter(plan)
    except ServiceError as error:
        return pickle.dumps(error)
    return pickle.dumps(code())


def _enter(plan: Plan) -> None:
    """Raises ClusterUnusableError for a kernel that this worker lacks, WorkloadUnusableError."""
    own_code.enter(plan)
    missing = kernels.why_unavailable(plan.workload, plan.kernel)
    if missing is not None and plan.source is None:
        raise ClusterUnusableError(f"a worker lacks the kernel {plan.kernel}: {missing}")
    own_code.warm_up(plan)


_lock: Final = threading.Lock()
_in_work: Final[dict[str, list[threading.Event]]] = {}
"""The stop events of parcels that this worker computes, by run."""
_stopped: Final[deque[str]] = deque(maxlen=STOPPED_RUNS)


def compute(payload: bytes) -> bytes:
    """Compute a pickled Parcel, and return its pickled Outcome."""
    parcel: Parcel = pickle.loads(payload)
    started, cpu_started = time.perf_counter(), time.thread_time()
    results: list[BatchResult] = []
    error: ServiceError | kernels.KernelsError | MemoryError | None = None
    try:
        if parcel.code != code():
            raise other_code(code(), parcel.code)
        with _stoppable(parcel.run) as stop:
            results += [run_batch(parcel.plan, batch, stop) for batch in parcel.batches]
    except RunStoppedError:
        pass  # nobody waits for the results
    except (ServiceError, kernels.KernelsError, MemoryError) as raised:
        error = raised
    if results:
        used = Usage(
            f"{platform.node()}:{os.getpid()}",
            time.thread_time() - cpu_started,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        )
        results[0] = replace(results[0], usage=used)
    return pickle.dumps(Outcome(tuple(results), error, time.perf_counter() - started), protocol=5)


def compute_interruptibly(payload: bytes) -> bytes:
    """Do what `compute` does, in another thread. A KeyboardInterrupt in this one stops the parcel
    after the batch in work, and is raised then.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="hotloop-parcel") as pool:
        future = pool.submit(compute, payload)
        try:
            while not wait((future,), timeout=_INTERRUPT_SECONDS).done:
                pass  # a wait without a timeout would not notice an interrupt
        except KeyboardInterrupt:
            with _lock:
                for events in _in_work.values():
                    for event in events:
                        event.set()
            raise
        return future.result()


@contextmanager
def _stoppable(run: str) -> Iterator[threading.Event]:
    stop = threading.Event()
    with _lock:
        if run in _stopped:
            stop.set()
        _in_work.setdefault(run, []).append(stop)
    try:
        yield stop
    finally:
        with _lock:
            _in_work[run].remove(stop)
            if not _in_work[run]:
                del _in_work[run]


def stop(run: str) -> int:
    """Stop the parcels of a run after the batch in work, and return how many are still in work."""
    with _lock:
        if run not in _stopped:
            _stopped.append(run)
        events = _in_work.get(run, [])
        for event in events:
            event.set()
        return len(events)


def other_code(theirs: Code, mine: Code) -> ClusterUnusableError:
    """Return the error for a worker whose code differs from the run host's."""
    return ClusterUnusableError(
        f"a worker has {theirs}; this service has {mine}. Results would not be sure to be equal to "
        "the bit: install the same versions on every worker"
    )
