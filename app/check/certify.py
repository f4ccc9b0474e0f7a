"""`certify`: the check of a workload's kernels, in processes that may crash, hang or eat memory."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from hotloop.app.check.certificate import Certificate, Checked, CheckedKernel, Finding
from hotloop.app.check.children import Child, wait_for
from hotloop.app.check.names import BOUNDS, BY_NAME, DETERMINISM, POINTS, RUNS, Status
from hotloop.app.system import memory_limit
from hotloop.app.version import VERSION

__all__ = ["UnloadableError", "certify", "certify_all"]

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


def certify(
    spec: str,
    *,
    seconds: float = DEFAULT_SECONDS,
    folder: Path | None = None,
    workload: str | None = None,
) -> Certificate:
    """Check all kernels of a workload, in about `seconds` at most, and return the certificate.

    `spec` is `module:object` or `file.py:object`, looked for in `folder` (else in the current one),
    or the name of a built-in workload; `workload` is the name of one where it names several.
    Raises `UnloadableError`.
    """
    with tempfile.TemporaryDirectory(prefix="hotloop-check-", ignore_cleanup_errors=True) as made:
        check = _Check(spec, workload, folder or Path.cwd(), Path(made), seconds)
        try:
            return check.run()
        finally:
            check.close()


def certify_all(
    spec: str, *, seconds: float = DEFAULT_SECONDS, folder: Path | None = None
) -> list[Certificate]:
    """Check every workload of a module or a file, each in about `seconds` at most.

    Raises `UnloadableError`.
    """
    with tempfile.TemporaryDirectory(prefix="hotloop-check-", ignore_cleanup_errors=True) as made:
        check = _Check(spec, None, folder or Path.cwd(), Path(made), seconds)
        try:
            first = check.run()
        finally:
            check.close()
    others = (name for name in check.names if name != first.workload)
    return [
        first,
        *(certify(spec, seconds=seconds, folder=folder, workload=name) for name in others),
    ]


class _Check:
    def __init__(
        self, spec: str, workload: str | None, place: Path, folder: Path, seconds: float
    ) -> None:
        self.names: list[str] = []
        """The workloads that the spec names."""
        self._spec = spec
        self._workload = workload
        self._place = place
        self._folder = folder
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
        self._broken: set[str] = set()
        self._complete: set[str] = set()

    def run(self) -> Certificate:
        """Start the processes, and gather what they tell until all have ended."""
        self._start("examine", ())
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
        return self._certificate()

    def close(self) -> None:
        """End all processes."""
        while self._children:
            self._children.pop().close()

    def _start(self, role: str, skip: tuple[str, ...]) -> None:
        left = self._deadline - time.monotonic()
        whole = self._seconds - (time.monotonic() - self._started)
        config = {
            "role": role,
            "spec": self._spec,
            "attribute": self._workload or self._name or None,
            "place": str(self._place),
            "folder": str(self._folder),
            "skip": skip,
            "seconds": max(min(whole, left) - _ENDING_SECONDS, 1.0),
            "memory_bytes": _memory_bytes(),
        }
        self._children.append(Child(config, {**os.environ, **_variables(role, self._folder)}))

    def _take(self, child: Child, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "unloadable":
                self.close()
                raise UnloadableError(message["reason"])
            case "workload" if child.role == "examine" and not self._name:
                self._name, self._version = message["name"], message["version"]
                self.names = message["names"]
                self._kernels = dict(message["kernels"])
                # They import everything while the first one computes what is expected.
                self._start("replay", ())
                self._start("bounds", ())
            case "unavailable":
                self._kernels[message["kernel"]] = message["reason"]
            case "finding":
                self._find(**{k: v for k, v in message.items() if k != "kind"})
            case "checked":
                found = Checked(
                    message["kernel"],
                    message["point"],
                    Status(message["status"]),
                    message["words"],
                )
                self._checked[found.kernel, found.point] = found
            case "part":
                self._parts[message["kernel"], message["point"]].append(message["words"])
            case "note":
                self._notes.append(message["words"])
            case "complete":
                self._complete.add(message["kernel"])
            case "outputs":
                self._ready.append(message["kernel"])
                for other in self._children:
                    if other.role != "examine" and message["kernel"] not in other.skip:
                        other.tell(message["kernel"])
            case "done" if child.role == "examine":
                for other in self._children:
                    other.no_more()

    def _find(
        self,
        kernel: str,
        point: str,
        seen: str,
        advice: str,
        example: Mapping[str, Any] | None = None,
    ) -> None:
        # One process each may find the same; the first one is told.
        if not any(each.kernel == kernel and each.point == point for each in self._findings):
            self._findings.append(Finding(kernel, point, seen, advice, example))

    def _ended(self, child: Child) -> None:
        """Look at how a process ended, whose messages are all read."""
        if child.is_done:
            self._forget(child)
            return
        doing = child.doing()
        self._lost(child, f"{child.end_in_words()}" + (f", during: {doing}" if doing else ""))

    def _lost(self, child: Child, words: str) -> None:
        """Report what ended a process, and examine the other kernels in a new one."""
        child.kill()
        for message in child.messages():
            self._take(child, message)
        kernel = child.kernel
        if not self._name:
            raise UnloadableError(words)
        self._forget(child)
        if child.role == "examine":
            kernel = kernel or next(iter(self._kernels))
            self._find(kernel, RUNS.name, words, RUNS.advice)
            self._broken.add(kernel)
            skip = {*self._broken, *self._complete}
            if kernel != next(iter(self._kernels)) and self._may_restart(skip):
                self._start("examine", tuple(skip))
            else:
                for other in self._children:
                    other.no_more()
        elif kernel is not None:
            self._lost_other(child.role, kernel, words)

    def _lost_other(self, role: str, kernel: str, words: str) -> None:
        if role == "replay":
            text = f"between protected pages, {words}"
            self._find(kernel, BOUNDS.name, text, BOUNDS.advice)
        self._broken.add(kernel) if role == "examine" else None
        rest = [name for name in self._ready if name != kernel]
        if self._may_restart({kernel}):
            self._start(role, (kernel,))
            restarted = self._children[-1]
            for name in rest:
                restarted.tell(name)
            if not any(child.role == "examine" for child in self._children):
                restarted.no_more()

    def _may_restart(self, skip: set[str]) -> bool:
        self._restarts += 1
        usable = {name for name, reason in self._kernels.items() if reason is None}
        return bool(usable - skip) and self._restarts <= _MOST_RESTARTS

    def _forget(self, child: Child) -> None:
        self._children.remove(child)
        child.close()

    def _certificate(self) -> Certificate:
        usable = [name for name, reason in self._kernels.items() if reason is None]
        return Certificate(
            workload=self._name,
            version=self._version,
            kernels=tuple(CheckedKernel(name, why) for name, why in self._kernels.items()),
            points=tuple(self._point(name, point.name) for name in usable for point in POINTS),
            findings=tuple(sorted(self._findings, key=self._order)),
            notes=tuple(self._notes),
            versions=_versions(),
            machine=_machine(),
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
        if point == RUNS.name and kernel in self._complete:
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
    if role == "bounds":
        # A cache would hold code without checks.
        return {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder / "numba")}
    return {
        "PYTHONHASHSEED": "271828",
        # The C library fills what is allocated and what is freed, so that reading it shows.
        "MALLOC_PERTURB_": "173",
        "GLIBC_TUNABLES": "glibc.malloc.perturb=173:glibc.malloc.tcache_count=0",
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


def _machine() -> str:
    """Return the system and the processor, as far as they decide what a kernel does."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{platform.system()} {platform.machine()}, {name}"
