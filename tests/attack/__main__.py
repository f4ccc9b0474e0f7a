"""`python -m tests.attack`: the service attacked in several ways, and a report of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.attack import descriptors, flood, fuzz, slow, streams
from tests.attack.findings import Findings, write
from tests.fixtures.processes import clean_up_on_sigterm
from tests.fixtures.server import ROOT

PARTS: Final = ("generated", "flood", "slow", "streams", "descriptors", "fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000, help="of `generated`, at least")
    parser.add_argument("--clients", type=int, default=200, help="of `flood`")
    parser.add_argument("--seconds", type=float, default=60.0, help="of `flood`")
    parser.add_argument("--connections", type=int, default=1_000, help="of `slow`")
    parser.add_argument("--streams", type=int, default=1_000, help="of `streams`")
    parser.add_argument("--rounds", type=int, default=10, help="of `descriptors`")
    parser.add_argument("--runs", type=int, default=200_000, help="of each target of `fuzz`")
    parser.add_argument("--fuzz-seconds", type=int, default=120, help="at most, for each target")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "security.md")
    parser.add_argument("--no-report", action="store_true", help="print only")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    attacks = _attacks(asked)
    clean_up_on_sigterm()
    found = []
    for part in parts:
        print(f"{part} …", flush=True)
        found.append(attacks[part]())
        _show(found[-1])
    if not asked.no_report:
        write(asked.report, " ".join(["python -m tests.attack", *sys.argv[1:]]), found)
    faults = [fault for findings in found for fault in findings.faults()]
    print("\n".join(faults) if faults else "all as it must be")
    return 1 if faults else 0


def _attacks(asked: argparse.Namespace) -> Mapping[str, Callable[[], Findings]]:
    def generated() -> Findings:
        from tests.attack.generated import attack  # needs the extra `attack`

        return attack(asked.requests, seed=asked.seed)

    return {
        "generated": generated,
        "flood": lambda: flood.attack(asked.clients, asked.seconds),
        "slow": lambda: slow.attack(asked.connections),
        "streams": lambda: streams.attack(asked.streams),
        "descriptors": lambda: descriptors.attack(asked.rounds),
        "fuzz": lambda: fuzz.attack(asked.runs, asked.fuzz_seconds, asked.seed),
    }


def _show(findings: Findings) -> None:
    print(f"  {findings.how}; {findings.seconds:,.0f} s")
    for figure in findings.figures:
        mark = " " if figure.is_good else "!"
        print(f"{mark} {figure.what}: {figure.value} (must be {figure.must_be})", flush=True)
    for detail in findings.details:
        print(f"    {detail}")


if __name__ == "__main__":
    sys.exit(main())
