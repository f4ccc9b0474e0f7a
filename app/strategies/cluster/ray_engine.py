"""The client of a Ray cluster: a head with its control store, and nodes with worker processes.

Only a driver imports this module. A client whose head is gone hangs in compiled code, in any call;
so the run host kills the driver that does not tell any more that it is alive.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hotloop.app.names import LOCAL_CLUSTER
from hotloop.app.strategies.cluster import entry
from hotloop.app.strategies.cluster.engine import LostError, ParcelError, check_port
from hotloop.app.strategies.cluster.protocol import ClusterConfig, Fate

STUCK_SECONDS: Final = 3.0
"""Time in which a worker ends the batch of a stopped run, before it is killed."""

WARM_SECONDS: Final = 10.0
"""Time in which processes are prepared; those that are busy meanwhile prepare with a parcel."""

STORE_BYTES: Final = 100 << 20
"""Shared memory of a local cluster: parcels and results are small."""

_LOOK_SECONDS: Final = 0.2

_LOST: Final = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.RaySystemError,
    exceptions.TaskCancelledError,
    exceptions.TaskUnschedulableError,
)


class RayEngine:
    """A client; `open` comes first."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._refs: dict[int, Any] = {}
        self._compute: Any = None
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="ray-ping")
        """Threads for calls that never return when the head is gone."""

    async def open(self) -> int:
        if self._config.address != LOCAL_CLUSTER:
            await check_port(self._config.address)
        return await asyncio.to_thread(self._open)

    def _open(self) -> int:
        config = self._config
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if config.address == LOCAL_CLUSTER:
            options |= {
                "address": "local",  # never one that somebody else has started here
                "num_cpus": config.cpus,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_node_ip_address": "127.0.0.1",
            }
        else:
            options |= {"address": config.address}
            if config.address.startswith("127."):
                # Otherwise Ray takes this machine's own address instead of the loopback.
                options["_node_ip_address"] = config.address.partition(":")[0]
        try:
            ray.init(**options)
        except (exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            raise LostError(_text(error)) from error
        self._compute = ray.remote(entry.compute_interruptibly).options(num_cpus=1, max_retries=0)
        while not (cpus := _cpus()):
            time.sleep(_LOOK_SECONDS)
        return cpus

    async def ping(self) -> int:
        """Return the number of CPUs. A head whose port is closed is told at once."""
        if self._config.address != LOCAL_CLUSTER:
            await check_port(self._config.address)
        return await asyncio.get_running_loop().run_in_executor(self._asking, _cpus)

    async def prepare(self, payload: bytes) -> Mapping[str, bytes | str]:
        """A process of each node answers, even if its CPUs are busy for others. Processes for free
        CPUs are started and prepared, too.
        """
        asked, warming, prepare = {}, [], ray.remote(entry.prepare)
        for node in await asyncio.to_thread(_nodes):
            cpus = int(node["Resources"].get("CPU", 0))
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {"max_retries": 0, "scheduling_strategy": there}
            if cpus:
                on_any = prepare.options(**options, num_cpus=0)
                asked[node["NodeID"]] = _answer(on_any.remote(payload))
            on_cpu = prepare.options(**options, num_cpus=1)
            warming += [on_cpu.remote(payload) for _ in range(cpus)]
        found = await asyncio.gather(*asked.values(), return_exceptions=True)
        if warming:
            _, busy = await asyncio.to_thread(
                ray.wait, warming, num_returns=len(warming), timeout=WARM_SECONDS
            )
            for ref in busy:
                ray.cancel(ref)
        return {
            worker: answer if isinstance(answer, bytes) else _text(answer)
            for worker, answer in zip(asked, found, strict=True)
        }

    async def compute(self, parcel: int, payload: bytes) -> bytes:
        ref = self._refs[parcel] = self._compute.remote(payload)
        try:
            result: bytes = await _answer(ref)
        except _LOST as error:
            raise ParcelError(Fate.LOST, _text(error)) from error
        except exceptions.RayError as error:
            raise ParcelError(Fate.REFUSED, _text(error)) from error
        finally:
            self._refs.pop(parcel, None)
        return result

    async def stop(self, run: str, parcels: tuple[int, ...]) -> None:
        refs = [self._refs[parcel] for parcel in parcels if parcel in self._refs]
        for ref in refs:
            ray.cancel(ref)
        waiting = [asyncio.ensure_future(_answer(ref)) for ref in refs]
        if waiting:
            _, stuck = await asyncio.wait(waiting, timeout=STUCK_SECONDS)
            if stuck:
                for ref in refs:
                    ray.cancel(ref, force=True)
                await asyncio.wait(stuck)
        for each in waiting:
            each.exception()  # marks it as seen

    async def close(self) -> None:
        await asyncio.to_thread(ray.shutdown)


def _answer(ref: Any) -> asyncio.Future[Any]:
    return asyncio.wrap_future(ref.future())


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _cpus() -> int:
    return sum(int(node["Resources"].get("CPU", 0)) for node in _nodes())


def _text(error: object) -> str:
    """Return the line of an error that says most; the others are tracebacks of workers."""
    lines = str(error).strip().splitlines()
    last = lines[-1] if isinstance(error, exceptions.RayTaskError) else lines[0] if lines else ""
    return f"{type(error).__name__}: {last.rstrip('.')}"
