"""The driver of a cluster, as its run host sees it: started when first needed, watched, killed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import socket
import sys
import time
from typing import Any, Final, TypeVar

from hotloop.app.errors import ClusterLostError, ClusterUnusableError, ServiceError, describe_exit
from hotloop.app.frames import STREAM_LIMIT, read_frame, write_frame
from hotloop.app.strategies.cluster.parcels import Outcome, code, other_code
from hotloop.app.strategies.cluster.protocol import (
    CONNECT_SECONDS,
    Alive,
    ClusterConfig,
    Compute,
    Computed,
    Fate,
    Lost,
    Prepare,
    Prepared,
    Stop,
    Stopped,
)

logger = logging.getLogger(__name__)

START_SECONDS: Final = CONNECT_SECONDS + 15.0
"""Time in which a driver starts and connects: a local Ray takes about 10 s."""

SILENT_SECONDS: Final = 3.0
"""Time without a sign of life after which a driver, or its cluster, hangs."""

STOP_SECONDS: Final = 10.0
"""Time in which the parcels of a run are stopped; then the driver is killed, and they with it."""

_WATCH_SECONDS: Final = 0.25
_LOG_BYTES: Final = 8_192


T = TypeVar("T")


class WorkerLostError(Exception):
    """The worker of a parcel is gone, or the driver; another worker may compute the parcel."""


class DriverProcess:
    """A driver, and another one after its end. One event loop calls all methods."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.workers = 0
        """Workers of the cluster."""
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter
        self._watching: asyncio.Task[None] | None = None
        self._heard = self._staffed = 0.0
        """When the driver gave its last sign of life, and when its cluster had a worker."""
        self._numbers = itertools.count()
        self._parcels: dict[int, asyncio.Future[Computed]] = {}
        self._answer: asyncio.Future[Any] | None = None
        """The answer that is awaited; at most one."""
        self._expected: type = Alive
        self._end: ClusterLostError | WorkerLostError | None = None
        """Why the driver ended: its cluster is lost, or it died alone. None while it lives."""
        self._starting = asyncio.Lock()

    @property
    def pids(self) -> list[int]:
        """The pid of the driver, if there is one."""
        return [] if self._process is None or self._end else [self._process.pid]

    async def ensure(self) -> None:
        """Start the driver unless one is alive. Raises ClusterLostError."""
        async with self._starting:
            if self._process is None or self._end is not None:
                await self.close()
                try:
                    await self._start()
                except BaseException:
                    await self.close()
                    raise

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "hotloop.app.strategies.cluster.driver",
                str(theirs.fileno()),
                self.config.to_json(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=STREAM_LIMIT)
        self._end, self._heard = None, time.monotonic() + START_SECONDS - SILENT_SECONDS
        self._staffed = time.monotonic() + START_SECONDS
        self._watching = asyncio.create_task(self._watch(self._process, reader))
        self.workers = (await self._asked(None, Alive, START_SECONDS)).workers
        self._staffed = time.monotonic()

    async def _watch(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader
    ) -> None:
        """Read all messages until the driver ends or is silent; then kill it, and fail everything
        in flight.
        """
        reading = asyncio.create_task(self._read(reader))
        logging_errors = asyncio.create_task(_log(process.stderr))
        text: str | None = f"it did not answer for {SILENT_SECONDS:g} s"
        try:
            while (began := time.monotonic()) - self._heard < SILENT_SECONDS:
                if began - self._staffed > CONNECT_SECONDS:
                    text = f"it has had no worker for {CONNECT_SECONDS:g} s"
                    break
                done, _ = await asyncio.wait((reading,), timeout=_WATCH_SECONDS)
                if done:
                    reading.result()
                # While this process was late itself, it could not hear the driver.
                self._heard += max(0.0, time.monotonic() - began - _WATCH_SECONDS)
        except _LostByDriverError as lost:
            text = str(lost)
        except (asyncio.IncompleteReadError, ConnectionError):
            text = None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _WATCH_SECONDS)
        finally:
            reading.cancel()
            self._writer.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            # Processes of a local cluster have the same stream, and may end later.
            await asyncio.wait((logging_errors,), timeout=_WATCH_SECONDS)
            logging_errors.cancel()
        if text is None:
            self._fail(WorkerLostError(f"the driver died ({describe_exit(process.returncode)})"))
        else:
            self._fail(ClusterLostError(self.config.engine, text))

    def _fail(self, error: ClusterLostError | WorkerLostError) -> None:
        self._end = error
        for future in (self._answer, *self._parcels.values()):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # marks it as seen: the caller may be gone

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            message = await read_frame(reader)
            self._heard = max(self._heard, time.monotonic())
            if isinstance(message, Computed):
                future = self._parcels.get(message.parcel)
                if future is not None and not future.done():
                    future.set_result(message)
            elif isinstance(message, Lost):
                raise _LostByDriverError(message.text)
            elif isinstance(message, Alive) and self.workers:
                if message.workers:
                    self.workers, self._staffed = message.workers, time.monotonic()
            elif self._answer is not None and isinstance(message, self._expected):
                self._heard = time.monotonic()
                if not self._answer.done():
                    self._answer.set_result(message)

    async def _asked(self, question: Prepare | Stop | None, expected: type[T], seconds: float) -> T:
        """Send a question, and return the answer. Kill the driver if it comes too late, or if this
        is cancelled. Raises ClusterLostError.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._answer, self._expected = answer, expected
        try:
            if question is not None:
                await self._send(question)
            return await asyncio.wait_for(answer, seconds)
        except WorkerLostError as died:
            raise ClusterLostError(self.config.engine, str(died)) from died
        except TimeoutError:
            await self.close()
            raise ClusterLostError(
                self.config.engine, f"it did not answer for {seconds:g} s"
            ) from None
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            self._answer = None

    async def _send(self, message: object) -> None:
        if self._end is not None:
            raise self._end
        # If the driver is gone, the watch fails what waits for an answer.
        with contextlib.suppress(ConnectionError):
            await write_frame(self._writer, message)

    async def prepare(self, payload: bytes) -> None:
        """Prepare all workers for a plan, and compare their code with this process's.

        Raises ClusterLostError, ClusterUnusableError, WorkloadUnusableError.
        """
        prepared = await self._asked(Prepare(payload), Prepared, START_SECONDS)
        for answer in prepared.answers.values():
            if isinstance(answer, str):
                raise ClusterUnusableError(f"a worker cannot be prepared: {answer}")
            theirs = pickle.loads(answer)
            if isinstance(theirs, ServiceError):
                raise theirs
            if theirs != code():
                raise other_code(theirs, code())

    async def compute(self, payload: bytes) -> Outcome:
        """Compute a parcel; start another driver if this one has died. Raises WorkerLostError,
        ClusterLostError, ClusterUnusableError.
        """
        await self.ensure()
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._parcels[number] = future
        try:
            await self._send(Compute(number, payload))
            computed: Computed = await future
        finally:
            if not future.cancelled():  # else `stop` must still end it
                del self._parcels[number]
        if computed.payload is not None:
            outcome: Outcome = pickle.loads(computed.payload)
            return outcome
        if computed.fate is Fate.REFUSED:
            raise ClusterUnusableError(f"no worker computes it: {computed.text}")
        raise WorkerLostError(computed.text)

    async def stop(self, run: str) -> None:
        """Stop all parcels that are in flight, which belong to the run. Returns once nothing of
        them is executing any more, or the driver is dead and its cluster has to find out.
        """
        if not self._parcels or self._end is not None:
            self._parcels.clear()
            return
        with contextlib.suppress(ClusterLostError):
            await self._asked(Stop(run, tuple(self._parcels)), Stopped, STOP_SECONDS)
        self._parcels.clear()

    async def close(self) -> None:
        """End the driver; a local cluster ends with it."""
        process, watching = self._process, self._watching
        self._process = self._watching = None
        self.workers = 0
        if process is None or watching is None:
            return
        if not watching.done():
            self._writer.close()  # the driver ends by itself
            self._heard = time.monotonic() + SILENT_SECONDS
        await asyncio.wait((watching,))


async def _log(errors: asyncio.StreamReader | None) -> None:
    """Log what a driver and its engine write; what matters comes as a message."""
    while errors is not None and (text := await errors.read(_LOG_BYTES)):
        logger.debug("driver: %s", text.decode(errors="replace").rstrip())


class _LostByDriverError(Exception):
    """The driver says that its cluster is lost."""
