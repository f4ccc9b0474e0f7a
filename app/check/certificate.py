"""The certificate of a workload's kernels: what was checked, and what was found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hotloop.app.check.names import Status

FORMAT: Final = 1
"""Raised when the JSON of certificates changes."""

HASH_DIGITS: Final = 16

FAILED_MARK: Final = "failed"
"""What a result carries in place of the hash, if its kernel has a finding."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How one point ended for one kernel. `words` say what was tried, or why it was not."""

    kernel: str
    point: str
    status: Status
    words: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault: what was seen, with the smallest example that was found, and what to do about it.

    `example` has the values of an item, of `columns` and of `parameters`, as far as one item shows
    the fault; numbers that JSON does not have are texts.
    """

    kernel: str
    point: str
    seen: str
    advice: str
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CheckedKernel:
    """A kernel of the workload; one that cannot be used here has a `reason` and no points."""

    name: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What `certify` returns. `version` is the version of the code that was checked.

    `versions` are those of Python, numpy, numba and hotloop, and `machine` names the processor.
    `date` is in UTC, ISO 8601; `seconds` is how long the check took.
    """

    workload: str
    version: str
    kernels: tuple[CheckedKernel, ...]
    points: tuple[Checked, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]
    machine: str
    date: str
    seconds: float

    @property
    def passed(self) -> bool:
        """True if nothing was found."""
        return not self.findings

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256 over everything that does not differ from
        check to check: neither date, times, counts nor words.
        """
        content = {
            "format": FORMAT,
            "workload": self.workload,
            "version": self.version,
            "kernels": sorted((each.name, each.reason is None) for each in self.kernels),
            "points": sorted((each.kernel, each.point, each.status) for each in self.points),
            "versions": dict(sorted(self.versions.items())),
            "machine": self.machine,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]

    def kernel_passed(self, kernel: str) -> bool | None:
        """Return whether a kernel has no finding; None if it was not checked."""
        if any(each.kernel == kernel for each in self.findings):
            return False
        is_checked = any(each.name == kernel and each.reason is None for each in self.kernels)
        return True if is_checked else None

    def mark(self, kernel: str) -> str | None:
        """Return what a result of this kernel carries: the hash, "failed", or None if the kernel
        was not checked.
        """
        passed = self.kernel_passed(kernel)
        return None if passed is None else self.hash if passed else FAILED_MARK

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as JSON values, with `hash` and `passed`."""
        return {"format": FORMAT, "hash": self.hash, "passed": self.passed, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Certificate:
        """Return the certificate that `to_json` made. Raises ValueError for anything else."""
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"a certificate of format {values['format']!r} is not known")
            made = cls(
                workload=values["workload"],
                version=values["version"],
                kernels=tuple(CheckedKernel(**each) for each in values["kernels"]),
                points=tuple(
                    Checked(**{**each, "status": Status(each["status"])})
                    for each in values["points"]
                ),
                findings=tuple(Finding(**each) for each in values["findings"]),
                notes=tuple(values["notes"]),
                versions=values["versions"],
                machine=values["machine"],
                date=values["date"],
                seconds=values["seconds"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no certificate: {error}") from None
        if made.hash != values.get("hash"):
            raise ValueError("the certificate's hash is not that of its content")
        return made
