"""`python -m hotloop.app.runhost SOCKET_FD LEASH_FD CONFIG`: started by the API process only.

The order of the first steps matters: nothing slow may come before the keeper watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

from hotloop.app.logs.setup import set_up_logging
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.system import end_with_starter

OOM_SCORE: Final = "500"
"""Added to the score of this process and its workers by which Linux chooses what to kill; the API
process has the system's default."""


def main() -> None:
    started = time.perf_counter()
    socket_fd, leash_fd = int(sys.argv[1]), int(sys.argv[2])
    config = RunHostConfig.from_json(sys.argv[3])
    # Before setsid, so that it is outside the group: when the group is killed, it lives on long
    # enough to free the semaphores and shared memory of the killed processes.
    resource_tracker.ensure_running()
    os.setsid()
    _start_keeper(leash_fd)
    end_with_starter()
    threading.Thread(target=_watch, args=(leash_fd,), name="leash", daemon=True).start()
    set_up_logging(config.log_options, "run_host")
    os.nice(config.niceness)
    _be_killed_first()
    _allow_many_connections()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    connection = socket.socket(fileno=socket_fd)
    if config.for_calls:
        from hotloop.app.runhost.calls import serve_calls

        serve_calls(connection, config, os.getpid(), started)
    else:
        asyncio.run(_serve(connection, config, started))


def _start_keeper(leash_fd: int) -> None:
    """Start a process that kills this process group when the other end of the leash is closed.

    Only the API process holds that end, so it closes when the API ends, by whatever means.
    """
    subprocess.Popen(["/bin/sh", "-c", "read _; kill -KILL 0"], stdin=leash_fd)


def _watch(leash_fd: int) -> None:
    """Do the keeper's work, in case it was killed. Where the system can, let it do the same: this
    thread cannot run while a kernel keeps the GIL.
    """
    os.read(leash_fd, 1)
    os.killpg(0, signal.SIGKILL)


def _be_killed_first() -> None:
    """Let a system that runs out of memory kill this process or its workers, which are replaced,
    before the API process. Does nothing where it cannot be told.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


def _allow_many_connections() -> None:
    """Raise the limit of descriptors to its maximum: each call to a source needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(connection: socket.socket, config: RunHostConfig, started: float) -> None:
    from hotloop.app.frames import STREAM_LIMIT
    from hotloop.app.runhost.host import RunHost

    reader, writer = await asyncio.open_connection(sock=connection, limit=STREAM_LIMIT)
    await RunHost(config, reader, writer).serve(os.getpid(), started)


if __name__ == "__main__":
    main()
