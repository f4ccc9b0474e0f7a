"""Files of calibrations in the data folder, and the results of calibrating runs in the store."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from hotloop import kernels
from hotloop.app.database.threads import in_store_thread
from hotloop.app.runhost.calibrate import constants
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.messages import Batches, KernelReport
from hotloop.app.strategies.registry import CAPABILITIES, LOCAL_STRATEGIES
from hotloop.app.tasks.acceptance import begun_part
from hotloop.app.tasks.chunks import pack
from hotloop.app.tasks.store import TaskStore

logger = logging.getLogger(__name__)

NAME: Final = "calibration.json"

LOCK_NAME: Final = "calibration.lock"
"""File that a calibrating process locks: two processes at once would disturb each other."""

LOCK_SECONDS: Final = 0.2
"""Seconds between two tries to lock the file."""

FORMAT: Final = 6
"""The version of the file; raise it when constants change, or how they are measured."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration with its time and the fingerprint of its machine."""

    calibration: constants.Calibration
    calibrated_at: datetime
    fingerprint: str


def fingerprint(
    facts: Mapping[str, Any], reports: Sequence[KernelReport], config: RunHostConfig
) -> str:
    """Return 16 hexadecimal digits that change with anything that the constants depend on. `facts`
    come from host_facts.
    """
    versions = facts["versions"]
    known = {
        "format": FORMAT,
        **{name: facts[name] for name in ("cpu", "usable_cpus", "memory_bytes", "python", "gil")},
        "versions": {name: versions[name] for name in ("hotloop", "numpy", "numba")},
        "kernels": sorted(
            [r.workload, r.kernel, r.available, r.instruction_set or ""] for r in reports
        ),
        "clusters": sorted([cluster.engine, cluster.address] for cluster in config.clusters),
        "limits": [config.max_worker_threads, config.max_worker_processes, config.usable_cpus],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def save(folder: Path, calibrated: Calibrated) -> None:
    """Replace the file completely or not at all. Raises OSError."""
    text = json.dumps(
        {
            "fingerprint": calibrated.fingerprint,
            "calibrated_at": calibrated.calibrated_at.isoformat(),
            "calibration": asdict(calibrated.calibration),
        },
        indent=1,
    )
    part = folder / f"{NAME}.{secrets.token_hex(8)}.part"
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / NAME)
    finally:
        part.unlink(missing_ok=True)


Version = tuple[int, int]
"""Inode and time of change of the file, which differ between two calibrations."""


def version(folder: Path) -> Version | None:
    """Return the version of the file; None if there is no file. Blocks."""
    try:
        status = (folder / NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@asynccontextmanager
async def calibrating_alone(folder: Path) -> AsyncIterator[None]:
    """Wait until no other process calibrates for this folder, and lock it until the block ends. A
    folder that cannot be written to is not locked.
    """
    try:
        lock = await asyncio.to_thread((folder / LOCK_NAME).open, "w")
    except OSError:
        yield
        return
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_SECONDS)
            except OSError:
                break  # a file system without locks
        yield


def load(folder: Path) -> Calibrated | None:
    """Return the calibration in the file; None if it is missing or unreadable. Blocks."""
    path = folder / NAME
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Calibrated(
            _calibration(values["calibration"]),
            datetime.fromisoformat(values["calibrated_at"]),
            str(values["fingerprint"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("the calibration cannot be read and is made again: %r", error)
        return None


def _calibration(values: dict[str, Any]) -> constants.Calibration:
    costs = tuple(map(constants.KernelCosts.from_json, values.pop("kernels")))
    strategies = {
        name: constants.StrategyCosts(**each)
        for name, each in dict(values.pop("strategies")).items()
    }
    if set(strategies) != set(LOCAL_STRATEGIES):
        raise ValueError("not the strategies of this version")
    waits = constants.WaitCosts(**values.pop("waits"))
    loops = {name: _loop(each) for name, each in dict(values.pop("loops")).items()}
    if set(loops) != {name for name in LOCAL_STRATEGIES if CAPABILITIES[name].overlaps_io}:
        raise ValueError("event loops of other strategies")
    clusters = {
        name: constants.ClusterCosts(**each) for name, each in dict(values.pop("clusters")).items()
    }
    found = constants.Calibration(
        kernels=costs,
        strategies=strategies,
        waits=waits,
        loops=loops,
        clusters=clusters,
        **values,
    )
    constants.check_measured(asdict(found))
    return found


def _loop(values: dict[str, Any]) -> constants.LoopCosts:
    items, stages = (
        tuple(float(each) for each in values.pop(name))
        for name in ("item_seconds", "stage_seconds")
    )
    if not len(items) == len(stages) == len(constants.IN_FLIGHT):
        raise ValueError("costs for other numbers in flight than those measured")
    return constants.LoopCosts(items, stages, **values)


MOST_ITEMS: Final = 1 << 40
"""Items of the task that holds the results: more than all calibrating runs have together. Each
run's results follow the results of the run before."""

StoreResults = Callable[[Batches], Awaitable[None]]
StoresResults = Callable[[], AbstractAsyncContextManager[StoreResults]]


@asynccontextmanager
async def stored_results(store: TaskStore, node: str) -> AsyncIterator[StoreResults]:
    """Store results as runs do, because storing takes its share of the CPUs, and remove them when
    the block ends. `node` is this process's id in the store. Raises StoreError.
    """
    stored = 0
    async with begun_part(store, node, MOST_ITEMS, kernels.workloads()[0]) as shard:

        def add(event: Batches) -> None:
            nonlocal stored
            found = event.results[0].columns
            columns = tuple((name, column.dtype.name) for name, column in found.items())
            packed = pack(event.results, columns)
            chunks = [
                replace(chunk, start=stored + chunk.start - packed[0].start) for chunk in packed
            ]
            store.shards.add_results(shard.ref, shard.attempt, chunks, 0, 0, {})
            stored = chunks[-1].start + chunks[-1].count

        async def store_results(event: Batches) -> None:
            await in_store_thread(add, event)

        yield store_results
