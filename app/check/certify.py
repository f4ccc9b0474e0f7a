"""`certify`: the check of a workload's kernels, in processes that may crash, hang or eat memory."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from hotloop.app.check.certificate import Certificate, Checked, CheckedKernel, Finding
from hotloop.app.check.children import Child, wait_for
from hotloop.app.check.names import BOUNDS, BY_NAME, DETERMINISM, POINTS, RUNS, Status
from hotloop.app.system import cpu_model, memory_limit
from hotloop.app.version import VERSION

__all__ = ["Described", "UnloadableError", "certify", "certify_all", "describe"]

DEFAULT_SECONDS: Final = 60.0
LEAST_SECONDS: Final = 1.0

_ENDING_SECONDS: Final = 1.5
"""Time that is left for the end of the processes."""

_POLL_SECONDS: Final = 0.1
_MOST_RESTARTS: Final = 8
_MOST_MEMORY: Final = 8 << 30
_LEAST_MEMORY: Final = 2 << 30


class UnloadableError(Exception):
    """The workload cannot be imported; the text says why, in one line."""


@dataclass(frozen=True, slots=True)
class Described:
    """A workload as it was imported: its name, and the names of its kernels."""

    workload: str
    kernels: tuple[str, ...]


def certify(
    spec: str,
    *,
    seconds: float = DEFAULT_SECONDS,
    folder: Path | None = None,
    workload: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Certificate:
    """Check all kernels of a workload, in about `seconds` at most, and return the certificate.

    `spec` is `module:object` or `file.py:object`, looked for in `folder` (else in the current one),
    or the name of a built-in workload; `workload` is the name of one where it names several. The
    processes get `environment` in place of this one's. Raises `UnloadableError`.
    """
    with _checked(spec, workload, seconds, folder, environment) as check:
        check.run("examine")
        return check.certificate()


def certify_all(
    spec: str, *, seconds: float = DEFAULT_SECONDS, folder: Path | None = None
) -> list[Certificate]:
    """Check every workload of a module or a file, each in about `seconds` at most.

    Raises `UnloadableError`.
    """
    with _checked(spec, None, seconds, folder, None) as check:
        check.run("examine")
        first, names = check.certificate(), check.names
    others = (name for name in names if name != first.workload)
    return [
        first,
        *(certify(spec, seconds=seconds, folder=folder, workload=name) for name in others),
    ]


def describe(
    spec: str,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Described:
    """Import a workload in another process, and return what it is. Raises `UnloadableError`."""
    with _checked(spec, None, DEFAULT_SECONDS, folder, environment) as check:
        check.run("describe")
        return check.described()


@contextmanager
def _checked(
    spec: str,
    workload: str | None,
    seconds: float,
    folder: Path | None,
    environment: Mapping[str, str] | None,
) -> Iterator[_Check]:
    """Yield a check whose processes have all ended, and whose files are gone, after the block."""
    with tempfile.TemporaryDirectory(prefix="hotloop-check-", ignore_cleanup_errors=True) as made:
        place = (folder or Path.cwd()).absolute()
        given = os.environ if environment is None else environment
        check = _Check(spec, workload, place, Path(made), seconds, given)
        try:
            yield check
        finally:
            check.close()


class _Check:
    def __init__(
        self,
        spec: str,
        workload: str | None,
        place: Path,
        folder: Path,
        seconds: float,
        environment: Mapping[str, str],
    ) -> None:
        self.names: list[str] = []
        """The workloads that the spec names."""
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
        self._name = self._version = ""
        self._kernels: dict[str, str | None] = {}
        self._findings: list[Finding] = []
        self._checked: dict[tuple[str, str], Checked] = {}
        self._parts: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._notes: list[str] = []
        self._ready: list[str] = []
        """Kernels whose first results are there, in order."""
        self._done: list[str] = []
        """What need not be done again: kernels that are broken, and stages of the others."""

    def run(self, role: str) -> None:
        """Start the processes, the first one in this role, and gather what they tell until all have
        ended. Raises `UnloadableError`.
        """
        self._start(role)
        while self._children:
            if time.monotonic() > self._deadline:
                self._notes.append(f"the check was stopped after {self._seconds:.0f} s")
                break
            wait_for(self._children, _POLL_SECONDS)
            for child in list(self._children):
                for message in child.messages():
                    self._take(child, message)
                if child.is_over:
                    self._ended(child)
                elif (words := child.overdue()) is not None:
                    self._lost(child, f"it never returns: {words}")
        if not self._name:
            raise UnloadableError(f"{self._spec} was not imported in {self._seconds:.0f} s")

    def described(self) -> Described:
        """Return what was imported."""
        return Described(self._name, tuple(self._kernels))

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
            "attribute": self._workload or self._name or None,
            "place": str(self._place),
            "folder": str(self._folder),
            "done": tuple(self._done),
            "seconds": max(min(whole, left) - _ENDING_SECONDS, 1.0),
            "memory_bytes": _memory_bytes(),
        }
        child = Child(config, {**self._environment, **_variables(role, self._folder)})
        self._children.append(child)
        return child

    def _take(self, child: Child, message: dict[str, Any]) -> None:
        kernel: str = message.get("kernel", "")
        match message["kind"]:
            case "unloadable":
                raise UnloadableError(message["reason"])
            case "workload" if not self._name:
                self._name, self._version = message["name"], message["version"]
                self.names = message["names"]
                self._kernels = dict(message["kernels"])
                if child.role == "examine":
                    # It imports everything while the first one computes what is expected.
                    self._start("replay")
            case "unavailable":
                self._kernels[kernel] = message["reason"]
            case "finding":
                self._find(**{k: v for k, v in message.items() if k != "kind"})
            case "checked":
                words = message["words"]
                found = Checked(kernel, message["point"], Status(message["status"]), words)
                self._checked[kernel, found.point] = found
            case "part":
                self._parts[kernel, message["point"]].append(message["words"])
            case "note":
                self._notes.append(message["words"])
            case "stage":
                self._done.append(message["name"])
            case "results":
                self._ready.append(kernel)
                for other in self._children:
                    if other.role == "replay":
                        other.tell(kernel)
            case "suspect":
                confirming = self._start("confirm")
                confirming.tell(kernel)
                confirming.no_more()
            case "done" if child.role == "examine":
                self._no_more()

    def _no_more(self) -> None:
        """Tell the other processes that no kernel comes any more."""
        for other in self._children:
            if other.role == "replay":
                other.no_more()

    def _find(
        self,
        kernel: str,
        point: str,
        seen: str,
        advice: str,
        example: Mapping[str, Any] | None = None,
    ) -> None:
        # Several processes may find the same; the first one is told.
        if not any(each.kernel == kernel and each.point == point for each in self._findings):
            self._findings.append(Finding(kernel, point, seen, advice, example))

    def _ended(self, child: Child) -> None:
        """Look at how a process ended, whose messages are all read."""
        if child.is_done:
            self._forget(child)
            return
        doing = child.doing()
        self._lost(child, child.end_in_words() + (f", during: {doing}" if doing else ""))

    def _lost(self, child: Child, words: str) -> None:
        """Report what ended a process, and examine the other kernels in a new one."""
        child.kill()
        for message in child.messages():
            self._take(child, message)
        self._forget(child)
        if not self._name:
            raise UnloadableError(words)
        reference = next(iter(self._kernels))
        kernel = child.kernel or reference
        if child.role == "examine":
            self._find(kernel, RUNS.name, words, RUNS.advice)
            self._done.append(kernel)
            if kernel != reference and self._may_restart():
                self._start("examine")
            else:
                self._no_more()
        elif child.kernel is not None:
            words = f"between protected pages, {words}"
            self._find(kernel, BOUNDS.name, words, BOUNDS.advice)
            if child.role == "replay" and self._may_restart():
                restarted = self._start("replay")
                for name in self._ready[self._ready.index(kernel) + 1 :]:
                    restarted.tell(name)
                if not any(other.role == "examine" for other in self._children):
                    self._no_more()

    def _may_restart(self) -> bool:
        self._restarts += 1
        return self._restarts <= _MOST_RESTARTS

    def _forget(self, child: Child) -> None:
        self._children.remove(child)
        child.close()

    def certificate(self) -> Certificate:
        """Return all that was told, as a certificate."""
        usable = [name for name, reason in self._kernels.items() if reason is None]
        return Certificate(
            workload=self._name,
            version=self._version,
            kernels=tuple(CheckedKernel(name, why) for name, why in self._kernels.items()),
            points=tuple(self._point(name, point.name) for name in usable for point in POINTS),
            findings=tuple(sorted(self._findings, key=self._order)),
            notes=tuple(self._notes),
            versions=_versions(),
            machine=f"{platform.system()} {platform.machine()}, {cpu_model()}",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._started, 1),
        )

    def _order(self, finding: Finding) -> tuple[int, int]:
        names = list(self._kernels)
        return names.index(finding.kernel), POINTS.index(BY_NAME[finding.point])

    def _point(self, kernel: str, point: str) -> Checked:
        """Return how a point ended, from all that was told about it."""
        told = self._checked.get((kernel, point))
        parts = self._parts.get((kernel, point), [])
        words = told.words if told is not None else "; ".join(parts)
        found = [f for f in self._findings if f.kernel == kernel and f.point == point]
        if found:
            return Checked(kernel, point, Status.FAILED, words or found[0].seen)
        if told is not None:
            return told
        if parts and point in (BOUNDS.name, DETERMINISM.name):
            return Checked(kernel, point, Status.PASSED, words)
        if point == RUNS.name and kernel in self._ready:
            return Checked(kernel, point, Status.PASSED, "every call returned")
        return Checked(kernel, point, Status.NOT_CHECKED, self._why_not(kernel))

    def _why_not(self, kernel: str) -> str:
        points = [finding.point for finding in self._findings if finding.kernel == kernel]
        if points:
            return f"after the finding at {', '.join(points)}"
        reference = next(iter(self._kernels))
        if any(f.kernel == reference and f.point == RUNS.name for f in self._findings):
            return f"{reference} does not run"
        return "there was no time for it"


def _variables(role: str, folder: Path) -> dict[str, str]:
    """Return what differs in the environment of a process."""
    if role == "examine":
        return {"PYTHONHASHSEED": "0"}
    checks = {
        "NUMBA_BOUNDSCHECK": "1",
        # A cache would hold code without checks.
        "NUMBA_CACHE_DIR": str(folder / "numba"),
    }
    return {
        "PYTHONHASHSEED": "271828",
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "hotloop": VERSION}
    for package in ("numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
