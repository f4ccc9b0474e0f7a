"""The processes of one check: what each does, what is told, and what happens when one is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from hotloop.app.check.children import Child, wait_for
from hotloop.app.check.names import BOUNDS, DETERMINISM, RUNS
from hotloop.app.check.told import Told
from hotloop.app.system import INNER_THREAD_VARIABLES, memory_limit

__all__ = ["CheckFailedError", "Processes", "UnloadableError"]

LEAST_SECONDS: Final = 1.0

_ENDING_SECONDS: Final = 1.5
"""Time that is left for the end of the processes."""

_WAITING_AT_END_SECONDS: Final = 4.0
_MORE_SEEDS: Final = 5
_POLL_SECONDS: Final = 0.1
_MOST_RESTARTS: Final = 8
_MOST_MEMORY: Final = 8 << 30
_LEAST_MEMORY: Final = 2 << 30


class UnloadableError(Exception):
    """The workload cannot be imported; the text says why, in one line."""


class CheckFailedError(Exception):
    """The check itself has a fault; the text is the end of its error output."""


class Processes:
    """Runs what a check needs, and notes in `told` what comes of it.

    One process examines all kernels. Another one replays their calls, and a third one confirms what
    the second suspects. If the first is lost, a new one goes on with the other kernels.
    """

    def __init__(
        self,
        spec: str,
        workload: str | None,
        place: Path,
        folder: Path,
        seconds: float,
        environment: Mapping[str, str],
    ) -> None:
        self.told = Told()
        self._spec = spec
        self._workload = workload
        self._place = place
        self._folder = folder
        self._environment = environment
        self._seconds = max(seconds, LEAST_SECONDS)
        self._started = time.monotonic()
        # A machine that is busy needs some seconds for importing alone.
        self._deadline = self._started + max(self._seconds, min(self._seconds + 15, 30))
        self._children: list[Child] = []
        self._restarts = 0
        self._seeds = 0
        """Hash seeds that are still to be tried, in a process each."""
        self._done: list[str] = []
        """What need not be done again: kernels that are broken, and stages of the others."""

    def run(self, role: str) -> None:
        """Start the processes, the first one in this role, and gather what they tell until all have
        ended. Raises `UnloadableError` and `CheckFailedError`.
        """
        self._start(role)
        while self._children:
            if time.monotonic() > self._deadline:
                self._stop()
                break
            wait_for(self._children, _POLL_SECONDS)
            for child in list(self._children):
                for message in child.messages():
                    self._take(child, message)
                if child.is_over:
                    self._ended(child)
                elif (words := child.overdue()) is not None:
                    self._lost(child, f"it never returns: {words}")
        if not self.told.name:
            raise UnloadableError(f"{self._spec} was not imported in {self._seconds:.0f} s")

    def close(self) -> None:
        """End all processes."""
        while self._children:
            self._children.pop().close()

    def _start(self, role: str) -> Child:
        left = self._deadline - time.monotonic()
        whole = self._seconds - (time.monotonic() - self._started)
        config = {
            "role": role,
            "spec": self._spec,
            "attribute": self._workload or self.told.name or None,
            "place": str(self._place),
            "folder": str(self._folder),
            "done": tuple(self._done),
            "seconds": max(min(whole, left) - _ENDING_SECONDS, 1.0),
            "memory_bytes": _memory_bytes(),
        }
        environment = {**self._environment, **_variables(role, self._folder, self._seeds)}
        child = Child(config, environment)
        self._children.append(child)
        return child

    def _take(self, child: Child, message: Mapping[str, Any]) -> None:
        is_new = not self.told.name
        version = self.told.version
        self.told.take(message)
        match message["kind"]:
            case "unloadable":
                raise UnloadableError(message["reason"])
            case "workload" if is_new and child.role == "examine":
                self._seeds = _MORE_SEEDS if message["is_fickle"] else 0
                # It imports everything while the first one computes what is expected.
                self._start("replay")
            case "workload" if not is_new and message["version"] != version:
                words = (
                    "the module has another version in another process, with another hash seed: "
                    "what it computes when it is imported differs, and no task could be continued"
                )
                self.told.find(self.told.reference, DETERMINISM.name, words, DETERMINISM.advice)
            case "stage":
                self._done.append(message["name"])
            case "results":
                for other in self._children:
                    if other.role == "replay":
                        other.tell(message["kernel"])
            case "suspect":
                confirming = self._start("confirm")
                confirming.tell(message["kernel"])
                confirming.no_more()
            case "done" if child.role == "examine":
                self._no_more()

    def _no_more(self) -> None:
        """Tell the process that replays that no kernel comes any more."""
        for other in self._children:
            if other.role == "replay":
                other.no_more()

    def _ended(self, child: Child) -> None:
        """Look at how a process ended, whose messages are all read."""
        if child.is_done:
            self._forget(child)
            self._try_a_seed()
            return
        doing = child.doing()
        code, words = child.end()
        if code == 1 and not doing and self.told.name:
            # An error of Python, and everything that runs the user's code says so before. A signal
            # may come later than the call that is to blame.
            raise CheckFailedError(words)
        self._lost(child, f"{words}, during: {doing}" if doing else words)

    def _lost(self, child: Child, words: str) -> None:
        """Report what ended a process, and go on with the other kernels in a new one."""
        child.kill()
        for message in child.messages():
            self._take(child, message)
        self._forget(child)
        told = self.told
        if not told.name:
            raise UnloadableError(words)
        kernel = child.kernel or told.reference
        if child.role == "examine":
            told.find(kernel, RUNS.name, words, RUNS.advice)
            self._done.append(kernel)
            if kernel != told.reference and self._may_restart():
                self._start("examine")
            else:
                self._no_more()
        elif child.kernel is not None:
            told.find(kernel, BOUNDS.name, f"between protected pages, {words}", BOUNDS.advice)
            if child.role == "replay" and self._may_restart():
                restarted = self._start("replay")
                for name in told.ready[told.ready.index(kernel) + 1 :]:
                    restarted.tell(name)
                if not any(other.role == "examine" for other in self._children):
                    self._no_more()

    def _stop(self) -> None:
        """Note that the time is over, and which kernel does nothing but wait."""
        told = self.told
        told.notes.append(f"the check was stopped after {self._seconds:.0f} s")
        for child in self._children:
            looks = [child.overdue(_WAITING_AT_END_SECONDS) for _ in range(2)]
            words = looks[1] if child.role == "examine" else None
            if words is not None and told.name:
                kernel = child.kernel or told.reference
                told.find(kernel, RUNS.name, f"it never returns: {words}", RUNS.advice)

    def _try_a_seed(self) -> None:
        """Run all kernels once more with another hash seed, if the code may depend on it, and if no
        other process is needed any more.
        """
        told = self.told
        if self._children or not self._seeds or time.monotonic() > self._deadline:
            return
        if told.has_finding(DETERMINISM.name):
            return
        self._seeds -= 1
        started = self._start("brief")
        for kernel in told.ready:
            started.tell(kernel)
        started.no_more()

    def _may_restart(self) -> bool:
        self._restarts += 1
        return self._restarts <= _MOST_RESTARTS

    def _forget(self, child: Child) -> None:
        self._children.remove(child)
        child.close()


def _variables(role: str, folder: Path, seed: int) -> dict[str, str]:
    """Return what differs in the environment of a process."""
    if role == "examine":
        return {"PYTHONHASHSEED": "0"}
    checks = {
        "NUMBA_BOUNDSCHECK": "1",
        # A cache would hold code without checks.
        "NUMBA_CACHE_DIR": str(folder / "numba"),
    }
    return {
        # One thread within a kernel, as in the workers of a service.
        **dict.fromkeys(INNER_THREAD_VARIABLES, "1"),
        "PYTHONHASHSEED": str(271_828 + seed),
        # The C library fills what is allocated and what is freed, so that reading it shows.
        "MALLOC_PERTURB_": "173",
        "GLIBC_TUNABLES": "glibc.malloc.perturb=173:glibc.malloc.tcache_count=0",
        **(checks if role == "replay" else {}),
    }


def _memory_bytes() -> int:
    """Return how much address space a process may have: that of this machine, and no more than a
    sane kernel needs.
    """
    limit = memory_limit()
    free = psutil.virtual_memory().available if limit is None else limit.free_bytes
    return max(min(free * 3 // 4, _MOST_MEMORY), _LEAST_MEMORY)
