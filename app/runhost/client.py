"""The API process's client of a run host: its start, commands, cancellation, and death."""

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
from hotloop.app import frames
from hotloop.app.errors import RunHostDiedError, RunTimeoutError
from hotloop.app.runhost import messages
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.strategies.base import Plan

_IMPORT_ROOT: Final = str(Path(hotloop.__file__).absolute().parent.parent)

_QUIET: Final = ("-W", "ignore:resource_tracker:UserWarning")
"""A run host ends by SIGKILL, so its resource tracker is expected to find something to free."""


class RunHostClient:
    """A run host process, which `start` makes and which is gone once `exited` is done."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        leash_fd: int,
        cancel_grace_seconds: float,
    ) -> None:
        self.ready: messages.Ready | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit code, once process, group and socket are gone."""
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
                env={**environment, "PYTHONPATH": import_path(environment)},
            )
        except BaseException:
            ours.close()
            os.close(our_leash)
            raise
        finally:
            theirs.close()
            os.close(their_leash)
        reader, writer = await asyncio.open_connection(sock=ours, limit=frames.STREAM_LIMIT)
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

    async def run(
        self, plan: Plan, *, cold: bool = False
    ) -> AsyncGenerator[messages.RunEvent, None]:
        """Execute a plan; yield RunStarted, Batches, Progress and BreakerReports, and a RunReport
        as the last event. `cold` closes all pools first, as in a run host that has just started.

        Raises RunHostDiedError, or RunTimeoutError if the run host was killed at the deadline.
        Closing this generator early kills the run host; `cancel` is the gentle way.
        """
        ended = False
        if plan.timeout_seconds is not None:
            self._kill_later(plan.timeout_seconds + self._cancel_grace_seconds, plan)
        try:
            await self._send(messages.RunCommand(plan, cold))
            while not ended:
                event = await self._receive()
                ended = isinstance(event, messages.RunReport)
                yield event
        finally:
            while self._timers:
                self._timers.pop().cancel()
            if not ended:
                await self.kill()

    async def cancel(self) -> None:
        """Ask the run host to end its run within one batch, and kill it after the grace period.

        Returns at once; `run` ends with a report, or with RunHostDiedError.
        """
        self._kill_later(self._cancel_grace_seconds, None)
        with contextlib.suppress(RunHostDiedError):
            await self._send(messages.CancelCommand())

    def _kill_later(self, seconds: float, overdue: Plan | None) -> None:
        def kill() -> None:
            if overdue is not None:
                self._timed_out = overdue.timeout_seconds
            self._kill_now()

        self._timers.append(asyncio.get_running_loop().call_later(seconds, kill))

    async def ingest(self, command: messages.IngestCommand) -> int:
        """Read an upload into an item file; return its number of rows. Raises the error of the
        upload, or RunHostDiedError. Cancelling this call kills the run host.
        """
        outcome: messages.Ingested = await self._ask(command)
        if outcome.error is not None:
            raise outcome.error
        return outcome.count

    async def call(self, command: messages.CallCommand) -> messages.Called:
        """Compute the items of small calls. Raises RunHostDiedError. Cancelling this call kills the
        run host.
        """
        called: messages.Called = await self._ask(command)
        return called

    async def _ask(self, command: messages.Command) -> Any:
        """Send a command, and return its only answer; kill the run host if that fails."""
        try:
            await self._send(command)
            return await self._receive()
        except BaseException:
            await self.kill()
            raise

    async def calibrate(
        self,
        take: Callable[[messages.Batches], Awaitable[None]],
        tell: Callable[[float], None],
    ) -> Calibration:
        """Measure the constants of the cost model. Call `take` with the results of the measured
        runs, `tell` with the share that is done, 0 … 1.

        Raises WorkerCrashedError, RunHostDiedError. Cancelling this call kills the run host.
        """
        try:
            await self._send(messages.CalibrateCommand())
            while not isinstance(outcome := await self._receive(), messages.Calibrated):
                if isinstance(outcome, messages.Batches):
                    await take(outcome)
                elif isinstance(outcome, messages.CalibrationProgress):
                    tell(outcome.share)
        except BaseException:
            await self.kill()
            raise
        if outcome.calibration is None:
            assert outcome.error is not None
            raise outcome.error
        return outcome.calibration

    def end(self) -> None:
        """Kill the run host and all its child processes, and return at once."""
        self._kill_now()

    async def kill(self) -> None:
        """Kill the run host and all its child processes; return when it is gone."""
        self._kill_now()
        await asyncio.shield(self.exited)

    def _kill_now(self) -> None:
        if self.exited.done():
            return
        # Until the run host is ready it may not lead its own group; its keeper does the rest.
        if self.ready is not None:
            _kill_group(self.pid)
        elif self._process.returncode is None:
            # Not process.kill(), which may reap the child and so lose its exit code.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def _watch(self) -> None:
        # Do not wait for the end of the socket: child processes may hold it open.
        code = await self._process.wait()
        if self.ready is not None:
            _kill_group(self.pid)
        os.close(self._leash_fd)
        self._writer.transport.abort()
        self.exited.set_result(code)

    async def _send(self, command: Any) -> None:
        try:
            await frames.write_frame(self._writer, command)
        except ConnectionError:
            raise await self._death() from None

    async def _receive(self) -> Any:
        try:
            return await frames.read_frame(self._reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> RunHostDiedError | RunTimeoutError:
        # The run host may have closed the socket without ending.
        await self.kill()
        if self._timed_out is not None:
            return RunTimeoutError(self._timed_out)
        return RunHostDiedError(self.exited.result())


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def import_path(environment: Mapping[str, str]) -> str:
    """Return the PYTHONPATH with which a run host imports this program, from any folder."""
    inherited = environment.get("PYTHONPATH")
    return _IMPORT_ROOT if not inherited else f"{_IMPORT_ROOT}{os.pathsep}{inherited}"
