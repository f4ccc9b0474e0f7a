"""A Python interpreter of the cluster's own, which can be taken away and put back."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Interpreter:
    """Runs what `sys.executable` runs, from another path. While it is away, no process that its
    `path` names can start; those that run go on.
    """

    def __init__(self, folder: Path) -> None:
        home = folder / "python"
        self.path = home / "bin" / "python"
        self._away = home / "bin" / "python.away"
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to(os.path.realpath(sys.executable))
        if sys.prefix != sys.base_prefix:  # a virtual environment is found by these beside it
            for name in ("pyvenv.cfg", "lib", "lib64"):
                if (Path(sys.prefix) / name).exists():
                    (home / name).symlink_to(Path(sys.prefix) / name)

    def take_away(self) -> None:
        self.path.rename(self._away)

    def put_back(self) -> None:
        """Can be called again."""
        if self._away.is_symlink():
            self._away.rename(self.path)
