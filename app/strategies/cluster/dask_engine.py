"""The client of a Dask cluster: a scheduler, and workers with one or more threads each.

Only a driver imports this module. A scheduler that is gone fails everything in flight with
`FutureCancelledError`, not with an error of the connection.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeVar

import dask
from distributed import Client, Future, KilledWorker, LocalCluster
from distributed.client import FutureCancelledError
from distributed.security import Security

from hotloop.app.names import LOCAL_CLUSTER
from hotloop.app.strategies.cluster import entry
from hotloop.app.strategies.cluster.engine import LostError, ParcelError, check_port
from hotloop.app.strategies.cluster.protocol import CONNECT_SECONDS, ClusterConfig, Fate

ANSWER_SECONDS: Final = 3.0
"""Time in which the scheduler answers a question."""

STUCK_SECONDS: Final = 3.0
"""Time in which a worker ends the batch of a stopped run, before it is killed."""

_LOOK_SECONDS: Final = 0.05

_LOCAL_SETTINGS: Final = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.daemon": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.work-stealing-interval": "1s",
    "distributed.scheduler.allowed-failures": 0,
}
"""A local cluster that is idle takes 10 % of a core with the defaults, and 2 % with these."""

T = TypeVar("T")


class DaskEngine:
    """A client with its own event loop's connection; `open` comes first."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._cluster: LocalCluster | None = None
        self._client: Client
        self._futures: dict[int, Future] = {}
        self._prefix = f"hotloop-{secrets.token_hex(8)}"
        """All clients of a cluster share its keys."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)

    async def open(self) -> int:
        config, security = self._config, None
        address: Any = config.address
        if config.address == LOCAL_CLUSTER:
            with dask.config.set(_LOCAL_SETTINGS):
                self._cluster = address = await LocalCluster(
                    n_workers=config.cpus,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    asynchronous=True,
                    silence_logs=logging.CRITICAL,
                )
        else:
            await check_port(config.address)
            if config.tls is not None:
                security = Security(
                    tls_ca_file=config.tls.ca,
                    tls_client_cert=config.tls.cert,
                    tls_client_key=config.tls.key,
                    require_encryption=True,
                )
        try:
            self._client = await Client(
                address,
                security=security,
                asynchronous=True,
                set_as_default=False,
                direct_to_workers=False,
                timeout=CONNECT_SECONDS,
            )
            await self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            raise LostError(f"{type(error).__name__}: {error}") from error
        return await self.ping()

    async def ping(self) -> int:
        """Return the number of threads of all workers."""
        if self._client.status != "running":  # it reconnects, but what was in flight is forgotten
            raise LostError("the connection to the scheduler is closed")
        threads = await self._asked(self._client.scheduler.ncores())
        return sum(threads.values())

    async def _asked(self, answer: Awaitable[T], seconds: float = ANSWER_SECONDS) -> T:
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError as error:
            raise LostError(f"the scheduler did not answer for {seconds:g} s") from error
        except OSError as error:
            raise LostError(f"the connection to the scheduler is closed ({error})") from error

    async def prepare(self, payload: bytes) -> Mapping[str, bytes | str]:
        found: dict[str, Any] = await self._client.run(entry.prepare, payload, on_error="return")
        return {
            worker: answer if isinstance(answer, bytes) else f"{type(answer).__name__}: {answer}"
            for worker, answer in found.items()
        }

    async def compute(self, parcel: int, payload: bytes) -> bytes:
        future = self._futures[parcel] = self._client.submit(
            entry.compute, payload, key=self._key(parcel), pure=False, retries=0
        )
        try:
            result: bytes = await future
        except FutureCancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            await self.ping()  # nobody cancelled it, so the scheduler is probably gone
            raise ParcelError(Fate.LOST, "the scheduler forgot it") from error
        except KilledWorker as error:
            raise ParcelError(Fate.LOST, "its worker died") from error
        except (OSError, TimeoutError) as error:
            raise ParcelError(Fate.LOST, f"{type(error).__name__}: {error}") from error
        except Exception as error:
            raise ParcelError(Fate.REFUSED, f"{type(error).__name__}: {error}") from error
        finally:
            del self._futures[parcel]
            future.release()
        return result

    async def stop(self, run: str, parcels: tuple[int, ...]) -> None:
        """A worker that does not say within STUCK_SECONDS that it has stopped is restarted, and
        with it the other threads of its process.
        """
        client, loop = self._client, asyncio.get_running_loop()
        keys = {self._key(parcel) for parcel in parcels}
        processing = await self._asked(client.scheduler.processing(workers=None))
        stuck = {worker for worker, found in processing.items() if keys & set(found)}
        futures = [self._futures[parcel] for parcel in parcels if parcel in self._futures]
        await self._asked(client.cancel(futures, force=True))
        give_up = loop.time() + STUCK_SECONDS
        while loop.time() < give_up:
            # All workers: the scheduler may have passed on a parcel since it was asked.
            asking = client.run(entry.stop, run, on_error="ignore")
            try:
                in_work = await asyncio.wait_for(asking, STUCK_SECONDS)
            except TimeoutError:
                break  # a worker never lets its event loop run
            except OSError as error:
                raise LostError(str(error)) from error
            stuck = {worker for worker, count in in_work.items() if count}
            if not stuck:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        await client.restart_workers(list(stuck), raise_for_error=False)

    def _key(self, parcel: int) -> str:
        return f"{self._prefix}-{parcel}"

    async def close(self) -> None:
        await self._client.close()
        if self._cluster is not None:
            await self._cluster.close()
