"""`python -m tests.skips REPORT.xml …`: every skipped test must be one of those explained here."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

EXPLAINED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "the extra attack is not installed": "`make attack` installs it, and asks far more",
        "kubectl is not installed": "elsewhere it builds what the tests read by themselves",
        "free-threaded": "a build without a GIL has none that a kernel could keep",
        "PINOT_JARS is not set": "tests/pinot/fetch.sh has said why there is no real Pinot",
        "systemd is not installed": "elsewhere systemd reads the units",
        "this is not the .venv of make install": "`make run` is tried where `make install` was",
    }
)
"""Words in the reason of a skip, and why that skip is no loss."""


def main(*paths: str) -> int:
    skipped = [
        (f"{case.get('classname')}::{case.get('name')}", element.get("message", ""))
        for path in paths
        for case in ET.parse(path).iter("testcase")
        for element in case.iter("skipped")
    ]
    unexplained = [
        (name, reason)
        for name, reason in skipped
        if not any(words in reason for words in EXPLAINED)
    ]
    print(f"{len(skipped)} tests were skipped, {len(unexplained)} of them without explanation")
    for name, reason in unexplained:
        print(f"  {name}: {reason}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
