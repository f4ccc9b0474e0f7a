"""A process that runs the user's code, as the check sees it: its messages, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

import hotloop
from hotloop.app.check.config import Config
from hotloop.app.check.messages import Note

__all__ = ["Child", "wait_for"]

_IMPORT_ROOT: Final = str(Path(hotloop.__file__).absolute().parent.parent)
_WAITING_SECONDS: Final = 12.0
_LEAVING_SECONDS: Final = 2.0
"""Time between the last message of a process and its end."""

_TAIL: Final = 300
"""Characters of the error output that are shown."""


class Child:
    """A started process. `config.messages` is filled in here."""

    def __init__(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        ours, theirs = os.pipe()
        self.role: str = config["role"]
        folder = Path(config["folder"])
        self._errors = folder / f"errors-{self.role}-{ours}"
        note = folder / f"note-{self.role}-{ours}"
        self._note = Note(note, is_new=True)
        self._buffer = b""
        self.reader = ours
        self.is_over = False
        """True once the process has ended, and all of its messages are read."""
        self._late_since: float | None = None
        self.is_done = False
        """True once it has said so: it has not been ended by something else."""
        self.kernel: str | None = None
        """The kernel that it works on."""
        made = Config(**{**config, "messages": theirs, "note": str(note)})
        try:
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "hotloop.app.check", made.to_json()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(theirs,),
                    env=_environment(environment),
                    # A group of its own, so that whatever it starts is ended with it.
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)

    def tell(self, line: str) -> None:
        """Send a line to its input, if it still reads it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def no_more(self) -> None:
        """Close its input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have come in."""
        while True:
            try:
                read = os.read(self.reader, 1 << 16)
            except BlockingIOError:
                break
            if not read:
                self.is_over = True
                break
            self._buffer += read
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["kind"] == "kernel":
                self.kernel = message["name"]
            self.is_done = self.is_done or message["kind"] in ("done", "unloadable")
            yield message

    def overdue(self, waiting_seconds: float = _WAITING_SECONDS) -> str | None:
        """Return what it does for longer than it may, in words; None if all is well. It may wait
        for so long without computing.
        """
        before = self._late_since
        self._late_since = None
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            since = self._note.overdue(times.user + times.system, waiting_seconds)
            # Twice in a row: the note may change while it is read.
            self._late_since = since
            if since is not None and since == before:
                return f"{self._note.read()}, for {time.monotonic() - since:.0f} s"
        return None

    def doing(self) -> str:
        """Return what it does, or did when it ended."""
        return self._note.read()

    def kill(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it if need be, and give back what it used."""
        self.kill()
        self.no_more()
        self._process.wait()
        os.close(self.reader)

    def end(self) -> tuple[int, str]:
        """Return its exit code and how it ended in words, once `messages` is read to the end."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVING_SECONDS)
        self.kill()
        code = self._process.wait()
        tail = self._errors.read_text(errors="replace").strip()[-_TAIL:]
        said = f" ({' '.join(tail.split())})" if tail else ""
        if code < 0:
            return code, f"the process was ended by {signal.Signals(-code).name}{said}"
        return code, f"the process ended with status {code}{said}"


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which this program can be imported from any folder."""
    inherited = given.get("PYTHONPATH")
    path = _IMPORT_ROOT if not inherited else f"{_IMPORT_ROOT}{os.pathsep}{inherited}"
    return {**given, "PYTHONPATH": path}


def wait_for(children: list[Child], seconds: float) -> None:
    """Wait until one of them has sent something or has ended, for at most so long."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.reader, selectors.EVENT_READ)
        selector.select(seconds)
