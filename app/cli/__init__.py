"""The command line, `hotloop`. Commands load slow imports when they are executed."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Execute a command line (this process's own, without `arguments`), and exit with its status.

    Without a command the help is printed.
    """
    from hotloop.app.cli.application import application

    for stream in (sys.stdout, sys.stderr):
        # An encoding without × shows ? in its place, instead of failing.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    given = sys.argv[1:] if arguments is None else list(arguments)
    application(given or ["--help"], prog_name="hotloop")
