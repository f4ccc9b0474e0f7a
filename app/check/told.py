"""What the processes of a check have told, and the certificate that is made of it."""

from __future__ import annotations

import platform
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hotloop.app.check.certificate import Certificate, Checked, CheckedKernel, Finding
from hotloop.app.check.names import BOUNDS, BY_NAME, DETERMINISM, POINTS, RUNS, Status
from hotloop.app.system import cpu_model
from hotloop.app.version import VERSION

__all__ = ["Told"]


class Told:
    """Findings, points and notes, as they come in."""

    def __init__(self) -> None:
        self.name = ""
        """The workload's name; empty before it is imported."""
        self.names: list[str] = []
        """The workloads that are named, of which one is checked."""
        self.kernels: dict[str, str | None] = {}
        """The kernels, each with the reason why it cannot be used, if there is one."""
        self.ready: list[str] = []
        """Kernels whose first results are there, in order."""
        self.notes: list[str] = []
        self.version = ""
        self._started = time.monotonic()
        self._findings: list[Finding] = []
        self._checked: dict[tuple[str, str], Checked] = {}
        self._parts: dict[tuple[str, str], list[str]] = defaultdict(list)

    @property
    def reference(self) -> str:
        """The name of the reference kernel."""
        return next(iter(self.kernels))

    def take(self, message: Mapping[str, Any]) -> None:
        """Note a message; of kinds that say nothing about kernels, nothing is noted."""
        kernel: str = message.get("kernel", "")
        match message["kind"]:
            case "workload" if not self.name:
                self.name, self.version = message["name"], message["version"]
                self.names = message["names"]
                self.kernels = dict(message["kernels"])
            case "unavailable":
                self.kernels[kernel] = message["reason"]
            case "finding":
                self.find(**{key: value for key, value in message.items() if key != "kind"})
            case "checked":
                words = message["words"]
                found = Checked(kernel, message["point"], Status(message["status"]), words)
                self._checked[kernel, found.point] = found
            case "part":
                self._parts[kernel, message["point"]].append(message["words"])
            case "note":
                self.notes.append(message["words"])
            case "results":
                self.ready.append(kernel)

    def find(
        self,
        kernel: str,
        point: str,
        seen: str,
        advice: str,
        example: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a finding, unless there is one of the kernel at this point: several processes may
        find the same.
        """
        if not any(each.kernel == kernel and each.point == point for each in self._findings):
            self._findings.append(Finding(kernel, point, seen, advice, example))

    def has_finding(self, point: str) -> bool:
        """Return True if something was found at a point."""
        return any(each.point == point for each in self._findings)

    def certificate(self) -> Certificate:
        """Return all of it as a certificate."""
        usable = [name for name, reason in self.kernels.items() if reason is None]
        return Certificate(
            workload=self.name,
            version=self.version,
            kernels=tuple(CheckedKernel(name, why) for name, why in self.kernels.items()),
            points=tuple(self._point(name, point.name) for name in usable for point in POINTS),
            findings=tuple(sorted(self._findings, key=self._order)),
            notes=tuple(self.notes),
            versions=_versions(),
            machine=f"{platform.system()} {platform.machine()}, {cpu_model()}",
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._started, 1),
        )

    def _order(self, finding: Finding) -> tuple[int, int]:
        names = list(self.kernels)
        return names.index(finding.kernel), POINTS.index(BY_NAME[finding.point])

    def _point(self, kernel: str, point: str) -> Checked:
        """Return how a point ended, from all that was told about it."""
        checked = self._checked.get((kernel, point))
        parts = self._parts.get((kernel, point), [])
        words = checked.words if checked is not None else "; ".join(parts)
        found = [f for f in self._findings if f.kernel == kernel and f.point == point]
        if found:
            return Checked(kernel, point, Status.FAILED, words or found[0].seen)
        if checked is not None:
            return checked
        if parts and point in (BOUNDS.name, DETERMINISM.name):
            return Checked(kernel, point, Status.PASSED, words)
        if point == RUNS.name and kernel in self.ready:
            return Checked(kernel, point, Status.PASSED, "every call returned")
        return Checked(kernel, point, Status.NOT_CHECKED, self._why_not(kernel))

    def _why_not(self, kernel: str) -> str:
        points = [finding.point for finding in self._findings if finding.kernel == kernel]
        if points:
            return f"after the finding at {', '.join(points)}"
        if any(f.kernel == self.reference and f.point == RUNS.name for f in self._findings):
            return f"{self.reference} does not run"
        return "there was no time for it"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "hotloop": VERSION}
    for package in ("numpy", "numba"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
