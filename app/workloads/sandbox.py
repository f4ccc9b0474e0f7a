"""A pair of processes for code that may do anything: a supervisor, and the worker that runs it.

The worker runs users' code. The supervisor, its parent, runs none: it outlives whatever happens,
says how the worker ended and what it printed, and leaves no process behind. It ends the worker when
the other end of the leash is closed, which the API process holds.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from hotloop.app.system import adopt_orphans, end_with_starter

KEPT_BYTES: Final = 1 << 14
"""The end of the worker's output that is kept."""

DUMP_SECONDS: Final = 1.0
"""Time that a worker gets to say where it is before it is killed."""

EXIT_LOST: Final = 120
"""Exit status of a worker whose messages go nowhere, because its descriptors were closed."""

NICENESS: Final = 5
"""That of run hosts: the API answers first when CPUs are busy."""

COMPUTED: Final = "computed items"
"""The last step of an examination, in words that follow `while it`."""

Tell = Callable[..., None]
"""Function that sends its named arguments as one message to the API process."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """What a pair needs: descriptors that it inherits, and the bound on the worker's memory."""

    messages_fd: int
    leash_fd: int
    memory_bytes: int


def run_in_sandbox(options: SandboxOptions, work: Callable[[Tell], None]) -> NoReturn:
    """Fork a worker for `work`, supervise it, and end this process when it has ended."""
    os.setsid()
    adopt_orphans()
    output, workers_output = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(options.leash_fd)
        os.close(output)
        _run_worker(options, workers_output, work)
    os.close(workers_output)
    _Supervisor(worker, options, output).run()


def _run_worker(options: SandboxOptions, output: int, work: Callable[[Tell], None]) -> NoReturn:
    os.setsid()
    end_with_starter()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.nice(NICENESS)
    limit = options.memory_bytes
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere it does not count what is mapped
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    faulthandler.enable()
    try:
        work(_Teller(options.messages_fd))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    # Without the user's exit handlers, which may do anything, too.
    os._exit(0)


class _Teller:
    """Sends messages, unless the descriptor is no longer the pipe that it was."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pipe = os.fstat(descriptor)

    def __call__(self, **message: Any) -> None:
        try:
            is_lost = not os.path.samestat(os.fstat(self._descriptor), self._pipe)
        except OSError:
            is_lost = True
        if is_lost:
            os._exit(EXIT_LOST)
        _write_all(self._descriptor, json.dumps(message).encode() + b"\n")


class _Supervisor:
    """Waits for the end of the worker, of the leash, or for SIGTERM, which asks the worker where it
    is and then ends it.
    """

    def __init__(self, worker: int, options: SandboxOptions, output: int) -> None:
        self._worker = worker
        self._options = options
        self._output = output
        self._said = b""
        self._overdue: float | None = None
        """The monotonic time when a worker that was asked where it is gets killed."""

    def run(self) -> NoReturn:
        wake_up, wake = os.pipe()
        for descriptor in (wake_up, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda number, _: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        watched = {self._options.leash_fd, wake_up, self._output}
        while (code := self._ended()) is None:
            timeout = None if self._overdue is None else max(0.0, self._overdue - time.monotonic())
            readable, _, _ = select.select(watched, [], [], timeout)
            if self._options.leash_fd in readable or not readable:
                os.kill(self._worker, signal.SIGKILL)
                watched.discard(self._options.leash_fd)
                self._overdue = None
            if wake_up in readable and signal.SIGTERM in os.read(wake_up, 1_024):
                os.kill(self._worker, signal.SIGABRT)
                self._overdue = time.monotonic() + DUMP_SECONDS
            if self._output in readable and not self._listen():
                watched.discard(self._output)
        _end_children()
        while self._output in watched and select.select([self._output], [], [], 0)[0]:
            if not self._listen():
                break
        said = self._said.decode("utf-8", "replace")
        message = json.dumps({"ended": code, "said": said}).encode()
        # The worker may have died in the middle of a line.
        _write_all(self._options.messages_fd, b"\n" + message + b"\n")
        os._exit(0)

    def _ended(self) -> int | None:
        """Return the worker's exit status, or the negative number of the signal that ended it."""
        pid, status = os.waitpid(self._worker, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def _listen(self) -> bool:
        """Read some output, and keep the end of all. Return False when there will be no more."""
        heard = os.read(self._output, KEPT_BYTES)
        self._said = (self._said + heard)[-KEPT_BYTES:]
        return bool(heard)


def _end_children() -> None:
    """Kill what the worker has started, in whatever session: it is a child of this process now."""
    import psutil

    me = psutil.Process()
    while children := me.children():
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
