"""Starting worker processes from a fork server in which their kernel is compiled already.

A spawned worker imports and compiles by itself, which takes seconds, and many seconds with more
workers than CPUs. Where forking is not safe, workers are spawned nevertheless. The code of each
user's workload has a fork server of its own, so that it can do no harm to other workloads.
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.connection import wait
from multiprocessing.context import (
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
    set_spawning_popen,
)
from multiprocessing.process import BaseProcess
from typing import Any, Final

from hotloop.app.system import INNER_THREAD_VARIABLES, thread_count
from hotloop.kernels.contract import WorkloadSource

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0
"""Time that a fork server without workers has to end before it is killed."""

START_SECONDS: Final = 120.0
"""Time that a fork server has to import and compile before it is killed."""

MOST_SERVERS: Final = 3
"""Fork servers that are kept; each holds the memory of a compiler."""

Kernel = tuple[str, str]
"""A workload and one of its kernels."""


class Nursery:
    """Starts fork servers and replaces them. Methods block, and may be called from any thread."""

    def __init__(self, instruction_set: str | None = None) -> None:
        self._instruction_set = instruction_set
        self._servers: dict[WorkloadSource | None, ForkServer] = {}
        """The servers by the user's code that they import, the one that was used last at the end.
        None is the server of built-in workloads."""
        self._spawned: set[WorkloadSource | None] = set()
        """The code whose workers are spawned, as it is not safe to fork."""
        if thread_count() is None:
            self._spawned.add(None)
        self._retired: list[ForkServer] = []
        self._lock = threading.Lock()

    def server_for(
        self,
        kernel: Kernel,
        source: WorkloadSource | None = None,
        memory_bytes: int | None = None,
    ) -> ForkServer | None:
        """The server that has this kernel compiled, or None where workers must be spawned. A user's
        workload has a `source`, and its process may take `memory_bytes`.

        The server stays the same as long as it has the kernel. Once another server is returned, the
        former one's pools must be ended: it may start no more workers.
        """
        with self._lock:
            self._retired = [server for server in self._retired if server.is_alive]
            if self._spawned & {None, source}:
                return None
            server = self._servers.pop(source, None)
            if server is None or not server.serves(kernel):
                known = frozenset() if server is None else server.kernels
                if server is not None:
                    self._retire(server)
                server = self._start(known | {kernel}, source, memory_bytes)
            if server is not None:
                self._servers[source] = server
            while len(self._servers) > MOST_SERVERS:
                self._retire(self._servers.pop(next(iter(self._servers))))
            return server

    def _start(
        self, kernels: frozenset[Kernel], source: WorkloadSource | None, memory_bytes: int | None
    ) -> ForkServer | None:
        try:
            server = ForkServer(kernels, self._instruction_set, source, memory_bytes)
        except (OSError, ValueError) as error:
            logger.warning("the fork server did not start, so workers are spawned: %s", error)
            if source is not None:  # it would do the same again
                self._spawned.add(source)
            return None
        if server.threads == 1:
            return server
        logger.warning(
            "the fork server has %d threads, so workers are spawned; a library starts threads when "
            "it is imported",
            server.threads,
        )
        self._spawned.add(source)
        server.close()
        return None

    def _retire(self, server: ForkServer) -> None:
        server.hang_up()
        self._retired.append(server)

    @property
    def pid(self) -> int | None:
        """The pid of the process that forked workers last; None while there is none."""
        return next((server.pid for server in reversed(self._servers.values())), None)

    def close(self) -> None:
        """End the fork servers; their pools must have ended before."""
        with self._lock:
            while self._servers:
                self._retire(self._servers.popitem()[1])
            while self._retired:
                self._retired.pop().close()


class ForkServer:
    """A process of `hotloop.app.strategies.fork_server`, and the requests to it.

    Raises OSError or ValueError if it does not start.
    """

    def __init__(
        self,
        kernels: frozenset[Kernel],
        instruction_set: str | None,
        source: WorkloadSource | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self.kernels = kernels
        config = {
            "kernels": sorted(kernels),
            "instruction_set": instruction_set,
            "source": None if source is None else asdict(source),
            "memory_bytes": memory_bytes,
        }
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as on_error:
            on_error.callback(self._control.close)
            with theirs:
                tracker = resource_tracker.getfd()
                assert tracker is not None
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        *util._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                        "-m",
                        "hotloop.app.strategies.fork_server",
                        str(theirs.fileno()),
                        str(tracker),
                        json.dumps(config),
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), tracker),
                    env={**os.environ, **dict.fromkeys(INNER_THREAD_VARIABLES, "1")},
                )
            on_error.callback(self._end)
            self._control.settimeout(START_SECONDS)
            self.threads: int = json.loads(self._control.recv(1 << 16))["threads"]
            self._control.settimeout(None)
            on_error.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def serves(self, kernel: Kernel) -> bool:
        return kernel in self.kernels and self.is_alive

    def request(self, descriptors: list[int]) -> tuple[int, int]:
        """Request a worker that inherits these descriptors. Return a descriptor from which to read
        its pid and later its exit code, and one to write its work to. Raises OSError if the server
        is gone.
        """
        told_r, told_w = os.pipe()
        worker_r, worker_w = os.pipe()
        try:
            reduction.sendfds(self._control, [worker_r, told_w, *descriptors])
        except BaseException:
            os.close(told_r)
            os.close(worker_w)
            raise
        finally:
            os.close(worker_r)
            os.close(told_w)
        return told_r, worker_w

    def hang_up(self) -> None:
        """Request no more workers; the server ends when its last worker has ended."""
        self._control.close()

    def close(self) -> None:
        self.hang_up()
        self._end(CLOSE_SECONDS)

    def _end(self, grace_seconds: float = 0.0) -> None:
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class SpawningContext(SpawnContext):
    """multiprocessing's context for spawning, with a list of the processes that it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[BaseProcess] = []

    def Process(  # type: ignore[override]  # noqa: N802
        self, *args: Any, **kwargs: Any
    ) -> SpawnProcess:
        process = SpawnProcess(*args, **kwargs)
        self.made.append(process)
        return process


class ForkingContext(ForkServerContext):
    """multiprocessing's context for forking from our server, which leaves no socket file behind."""

    def __init__(self, server: ForkServer) -> None:
        super().__init__()
        self.made: list[BaseProcess] = []
        self._server = server

    def Process(  # type: ignore[override]  # noqa: N802
        self, *args: Any, **kwargs: Any
    ) -> ForkedProcess:
        process = ForkedProcess(*args, **kwargs)
        process.server = self._server
        self.made.append(process)
        return process


WorkerContext = SpawningContext | ForkingContext
"""A context with which a pool makes its workers. Workers that have ended stay in `made`, even when
the pool has replaced them."""


def worker_context(server: ForkServer | None) -> WorkerContext:
    """Make a context for one pool."""
    return SpawningContext() if server is None else ForkingContext(server)


class ForkedProcess(ForkServerProcess):
    """A worker that a fork server forks; it is pickled without its server in order to start."""

    server: ForkServer

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "server"}

    @staticmethod
    def _Popen(process_obj: ForkedProcess) -> _Popen:  # type: ignore[override]  # noqa: N802
        return _Popen(process_obj)


class _Popen(popen_forkserver.Popen):
    """multiprocessing's Popen for our server, safe when several threads poll it."""

    def __init__(self, process_obj: ForkedProcess) -> None:
        self._polling = threading.Lock()
        self._inherited: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._inherited.append(fd)
        return len(self._inherited) - 1

    def _launch(self, process_obj: ForkedProcess) -> None:
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj.name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, worker_w = process_obj.server.request(self._inherited)
        # When this descriptor closes, the worker knows that this process is gone.
        parent_w = os.dup(worker_w)
        self.finalizer = util.Finalize(self, _close, (parent_w, self.sentinel))
        with os.fdopen(worker_w, "wb") as worker:
            worker.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if flag != os.WNOHANG and self.returncode is None:
            wait([self.sentinel])
        with self._polling:
            code: int | None = super().poll(os.WNOHANG)
            return code

    def _send_signal(self, sig: int) -> None:
        """Send the signal only if the process still runs: once the fork server has reaped it, its
        pid may belong to another process.
        """
        if self.poll() is None:
            super()._send_signal(sig)  # type: ignore[misc]


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
