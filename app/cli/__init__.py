"""The command line, `hotloop`. What takes long to load is loaded by the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out a command (that of this process, without `arguments`) and exit as it says.

    Without a command the help is printed.
    """
    from hotloop.app.cli.application import application

    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no × gets a ?, not a fault.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    given = sys.argv[1:] if arguments is None else list(arguments)
    application(given or ["--help"], prog_name="hotloop")
