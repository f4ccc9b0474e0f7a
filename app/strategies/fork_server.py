"""`python -m hotloop.app.strategies.fork_server CONTROL_FD TRACKER_FD CONFIG`: a process that
compiles kernels once and then forks worker processes, in which they are compiled already.

A fork is safe only while a process has one thread, and this one never starts another. It reports
its number of threads, and is not used if libraries have started some. It ends with its starter:
when the other end of the control socket is closed, it forks no more and ends with its last worker.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from multiprocessing import forkserver, reduction, resource_tracker, spawn
from typing import Any, Final, NoReturn

from hotloop import kernels
from hotloop.app.strategies import worker_process
from hotloop.app.strategies.own_code import enter_source
from hotloop.app.system import end_with_starter, thread_count
from hotloop.kernels.contract import WorkloadSource

MAX_DESCRIPTORS: Final = 256
"""Most descriptors in a request."""


def main() -> None:
    end_with_starter()
    control = socket.socket(fileno=int(sys.argv[1]))
    # The workers' semaphores and shared memory are freed by the tracker of the run host.
    resource_tracker._resource_tracker._fd = int(sys.argv[2])  # type: ignore[attr-defined]
    config: dict[str, Any] = json.loads(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker_process.choose_instruction_set(config["instruction_set"])
    source = config["source"] and WorkloadSource(**config["source"])
    for workload, kernel in config["kernels"]:
        # Code that cannot be imported or compiled says so in the worker that needs it.
        with contextlib.suppress(Exception, SystemExit):
            enter_source(workload, source, config["memory_bytes"])
            kernels.get_kernel(workload, kernel).warm_up()
    gc.collect()
    gc.freeze()  # so that workers need no copies of these pages
    _Server(control).serve()


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._workers: dict[int, int] = {}
        """The descriptor to write a worker's exit code to, by its pid."""
        self._alive_r, self._alive_w = os.pipe()
        """A pipe that becomes readable when this process is gone, so that its workers end, too."""
        self._woken_r, self._woken_w = os.pipe()
        os.set_blocking(self._woken_r, False)
        os.set_blocking(self._woken_w, False)

    def serve(self) -> None:
        """Fork a worker for each request, and report how each worker ended."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken_w)
        with contextlib.suppress(OSError):  # the run host is gone, which the loop then notices
            self._control.send(json.dumps({"threads": thread_count()}).encode())
        is_open = True
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken_r, selectors.EVENT_READ)
            while is_open or self._workers:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken_r in ready:
                    os.read(self._woken_r, 1 << 16)
                    self._reap()
                if self._control in ready and not self._fork_next(selector):
                    is_open = False
                    selector.unregister(self._control)

    def _fork_next(self, selector: selectors.BaseSelector) -> bool:
        """Fork a worker for the next request. Return False if no more requests can come."""
        try:
            worker_r, told_w, *inherited = reduction.recvfds(self._control, MAX_DESCRIPTORS)
        except (EOFError, OSError):
            return False
        pid = os.fork()
        if pid == 0:
            selector.close()
            self._become_worker(worker_r, told_w, inherited)
        self._tell(told_w, pid)
        self._workers[pid] = told_w
        for descriptor in (worker_r, *inherited):
            os.close(descriptor)
        return True

    def _become_worker(self, worker_r: int, told_w: int, inherited: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            ours = (told_w, self._alive_w, self._woken_r, self._woken_w, *self._workers.values())
            for descriptor in ours:
                os.close(descriptor)
            worker_process.lifelines.append(self._alive_r)
            forkserver._forkserver._inherited_fds = inherited  # type: ignore[attr-defined]
            code = spawn._main(worker_r, os.dup(worker_r))
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told_w = self._workers.pop(pid)
            self._tell(told_w, os.waitstatus_to_exitcode(status))
            os.close(told_w)

    @staticmethod
    def _tell(told_w: int, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            forkserver.write_signed(told_w, number)


if __name__ == "__main__":
    main()
