"""Bytes that atheris makes up, for what reads uploads and for the boundary of the kernels."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.attack.findings import Findings
from tests.fixtures.server import ROOT

TARGETS: Final = ("csv", "ndjson", "kernels")
_DONE: Final = re.compile(r"Done (\d+) runs? in (\d+) second")
_GRACE_SECONDS: Final = 120


def attack(runs: int = 200_000, most_seconds: int = 120, seed: int = 1) -> Findings:
    """Fuzz each target in its own process, with bounds on inputs and seconds."""
    findings = Findings("fuzz", f"atheris, at most {runs:,} inputs and {most_seconds} s each")
    begun = time.monotonic()
    for name in TARGETS:
        _fuzz(findings, name, runs, most_seconds, seed)
    findings.seconds = time.monotonic() - begun
    return findings


def _fuzz(findings: Findings, name: str, runs: int, most_seconds: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hotloop-fuzz-") as folder:
        work = Path(folder)
        command = [
            *(sys.executable, "-m", "tests.attack.fuzz_targets", name, str(work)),
            *(f"-runs={runs}", f"-max_total_time={most_seconds}", f"-seed={seed}"),
            *("-max_len=4096", "-timeout=30", f"-artifact_prefix={work}/found-"),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=most_seconds + _GRACE_SECONDS,
            check=False,
        )
        inputs = [path.read_bytes() for path in sorted(work.glob("found-*"))]
    count = _DONE.search(done.stderr)
    findings.at_least(f"{name}: inputs", int(count[1]) if count else 0, 1)
    faults = [f"{found!r}\n{_last(done.stderr)}" for found in inputs]
    if done.returncode and not faults:
        faults = [f"status {done.returncode}: {_last(done.stderr)}"]
    findings.none(f"{name}: inputs with an error of a wrong class, or a wrong result", faults)


def _last(text: str) -> str:
    start = text.find("Uncaught Python exception")
    return text[start:][:3_000] if start >= 0 else text[-3_000:]
