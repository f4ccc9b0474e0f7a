"""`python -m tests.attack.fuzz_targets TARGET FOLDER -runs=N …`: a target under libFuzzer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["hotloop.app.sources", "kernels"]):
    from tests.attack.fuzz_kernels import run_kernels
    from tests.attack.fuzz_rows import read_csv, read_ndjson

Target = Callable[[bytes, Path], None]

TARGETS: Final[Mapping[str, Target]] = {
    "csv": read_csv,
    "ndjson": read_ndjson,
    "kernels": run_kernels,
}


def main(name: str, folder: Path, options: list[str]) -> None:
    """Ends the process; status 0 when nothing was found."""
    target = TARGETS[name]
    target(b"", folder)  # compiles what is compiled

    def one(data: bytes) -> None:
        target(data, folder)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
