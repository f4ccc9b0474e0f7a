"""The API's end of one run host: start it, give it work, cancel it, kill it, see it die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import hotloop
from hotloop.app.errors import RunHostDiedError, RunTimeoutError
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.frames import STREAM_LIMIT, read_frame, write_frame
from hotloop.app.runhost.messages import (
    Batches,
    CalibrateCommand,
    Calibrated,
    CalibrationProgress,
    CancelCommand,
    IngestCommand,
    Ingested,
    Ready,
    RunCommand,
    RunEvent,
    RunReport,
)
from hotloop.app.strategies.base import Plan

_IMPORT_ROOT: Final = str(Path(hotloop.__file__).absolute().parent.parent)

_QUIET: Final = ("-W", "ignore:resource_tracker:UserWarning")
"""A run host ends by SIGKILL; that its resource tracker then finds something to free is meant."""


class RunHostClient:
    """One run host process; made by `start`, gone for good once `exited` is done."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        leash_fd: int,
        cancel_grace_seconds: float,
    ) -> None:
        self.ready: Ready | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit code, when process, group and socket are gone."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._leash_fd = leash_fd
        self._cancel_grace_seconds = cancel_grace_seconds
        self._timed_out: float | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(
        cls, config: RunHostConfig, environment: Mapping[str, str], cancel_grace_seconds: float
    ) -> RunHostClient:
        """Start a run host and wait until it is warm. Raises RunHostDiedError."""
        ours, theirs = socket.socketpair()
        their_leash, our_leash = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                *_QUIET,
                "-m",
                "hotloop.app.runhost",
                str(theirs.fileno()),
                str(their_leash),
                config.to_json(),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), their_leash),
                env={**environment, "PYTHONPATH": _import_path(environment)},
            )
        except BaseException:
            ours.close()
            os.close(our_leash)
            raise
        finally:
            theirs.close()
            os.close(their_leash)
        reader, writer = await asyncio.open_connection(sock=ours, limit=STREAM_LIMIT)
        client = cls(process, reader, writer, our_leash, cancel_grace_seconds)
        try:
            client.ready = await client._receive()
        except BaseException:
            await client.kill()
            raise
        return client

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, plan: Plan, *, cold: bool = False) -> AsyncGenerator[RunEvent, None]:
        """Execute a plan: RunStarted, Batches and BreakerReports, and at last a RunReport. `cold`
        closes all pools first, as if the run host had just started.

        Raises RunHostDiedError, or RunTimeoutError when it had to be killed at its deadline.
        Closed early, it kills the run host; `cancel` is the gentle way.
        """
        ended = False
        if plan.timeout_seconds is not None:
            self._kill_later(plan.timeout_seconds + self._cancel_grace_seconds, plan)
        try:
            await self._send(RunCommand(plan, cold))
            while not ended:
                event = await self._receive()
                ended = isinstance(event, RunReport)
                yield event
        finally:
            while self._timers:
                self._timers.pop().cancel()
            if not ended:
                await self.kill()

    async def cancel(self) -> None:
        """Ask the run host to end its run within one batch; it is killed after the grace.

        Returns at once; `run` ends with a report, or with RunHostDiedError.
        """
        self._kill_later(self._cancel_grace_seconds, None)
        with contextlib.suppress(RunHostDiedError):
            await self._send(CancelCommand())

    def _kill_later(self, seconds: float, overdue: Plan | None) -> None:
        def kill() -> None:
            if overdue is not None:
                self._timed_out = overdue.timeout_seconds
            self._kill_now()

        self._timers.append(asyncio.get_running_loop().call_later(seconds, kill))

    async def ingest(self, command: IngestCommand) -> int:
        """Number of rows read. Raises the error of the upload, or RunHostDiedError.

        Cancelled, it kills the run host.
        """
        try:
            await self._send(command)
            outcome: Ingested = await self._receive()
        except BaseException:
            await self.kill()
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.count

    async def calibrate(
        self,
        take: Callable[[Batches], Awaitable[None]],
        tell: Callable[[float], None],
    ) -> Calibration:
        """Measure the constants of the cost model now. `take` is given the results of the runs, to
        treat them as those of any run; `tell` is given the share that is done, 0 … 1, as it goes.

        Raises WorkerCrashedError, RunHostDiedError. Cancelled, it kills the run host.
        """
        try:
            await self._send(CalibrateCommand())
            while not isinstance(outcome := await self._receive(), Calibrated):
                if isinstance(outcome, Batches):
                    await take(outcome)
                elif isinstance(outcome, CalibrationProgress):
                    tell(outcome.share)
        except BaseException:
            await self.kill()
            raise
        if outcome.calibration is None:
            assert outcome.error is not None
            raise outcome.error
        return outcome.calibration

    async def kill(self) -> None:
        """End the run host and everything below it; returns when it is gone."""
        self._kill_now()
        await asyncio.shield(self.exited)

    def _kill_now(self) -> None:
        if self.exited.done():
            return
        # Before it is ready it may not lead a group of its own yet; its keeper does the rest.
        if self.ready is not None:
            _kill_group(self.pid)
        elif self._process.returncode is None:
            # Not process.kill(): that may reap the child, and its exit code would be lost.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _watch(self) -> None:
        # The end of the socket would not do: processes below the run host may hold it open.
        code = await self._process.wait()
        if self.ready is not None:
            _kill_group(self.pid)
        os.close(self._leash_fd)
        self._writer.transport.abort()
        self.exited.set_result(code)

    async def _send(self, command: Any) -> None:
        try:
            await write_frame(self._writer, command)
        except ConnectionError:
            raise await self._death() from None

    async def _receive(self) -> Any:
        try:
            return await read_frame(self._reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> RunHostDiedError | RunTimeoutError:
        # It may have closed the socket without ending.
        await self.kill()
        if self._timed_out is not None:
            return RunTimeoutError(self._timed_out)
        return RunHostDiedError(self.exited.result())


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _import_path(environment: Mapping[str, str]) -> str:
    """Where the run host finds this very program, whatever folder the service was started in."""
    inherited = environment.get("PYTHONPATH")
    return _IMPORT_ROOT if not inherited else f"{_IMPORT_ROOT}{os.pathsep}{inherited}"
