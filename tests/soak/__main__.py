"""`python -m tests.soak`: mixed load for some minutes, and a report of what it has shown."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fixtures.processes import clean_up_on_sigterm
from tests.fixtures.server import ROOT
from tests.soak.course import soak
from tests.soak.report import lines, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="of load (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reliability.md")
    asked = parser.parse_args()
    clean_up_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="hotloop-soak-") as folder:
        outcome = soak(Path(folder), 60 * asked.minutes, asked.seed)
    write(asked.report, " ".join(["python -m tests.soak", *sys.argv[1:]]), outcome)
    print("\n".join(lines(outcome)))
    return 1 if outcome.faults else 0


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0.1 <= minutes <= 24 * 60:
        raise argparse.ArgumentTypeError("must be 0.1 to 1440")
    return minutes


if __name__ == "__main__":
    sys.exit(main())
