"""`python -m tests.attack.probe PORT`: asks /health until its input ends, and prints how long.

A process of its own, so that what the attacker does cannot slow down what is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.probing import HealthProbe, Latencies
from tests.fixtures.server import ROOT


@dataclass(slots=True)
class Probe:
    """`latencies` is there when the block has ended."""

    latencies: Latencies | None = None
    error: str = ""


@contextmanager
def probing(port: int) -> Iterator[Probe]:
    """GET /health 50 times a second for as long as the block lasts."""
    probe = Probe()
    command = [sys.executable, "-m", "tests.attack.probe", str(port)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "asking\n"
            yield probe
            process.stdin.close()
            told = process.stdout.read()
            if process.wait() == 0:
                probe.latencies = Latencies(**json.loads(told))
            else:
                probe.error = f"the probe ended with status {process.returncode}"
        finally:
            process.kill()


def main(port: int) -> None:
    with HealthProbe(port) as probe:
        print("asking", flush=True)
        sys.stdin.read()
    print(json.dumps(asdict(probe.latencies())))


if __name__ == "__main__":
    main(int(sys.argv[1]))
