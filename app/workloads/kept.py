"""Files of what was examined, one for each version of a workload, so that it is done once."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

from hotloop.app.disk import new_file
from hotloop.app.system import cpu_model, has_gil, usable_cpu_count
from hotloop.app.version import VERSION
from hotloop.app.workloads.examined import Examined

logger = logging.getLogger(__name__)

FORMAT: Final = 2
"""The version of the files; raise it when their contents change, or how they are measured."""

FOLDER: Final = "examined"

MOST_FILES: Final = 500
"""Files that are kept: each edit of a function makes another one."""


def machine_fingerprint() -> str:
    """Return 16 hexadecimal digits that change with anything that costs depend on. Blocks."""
    known = [
        FORMAT,
        cpu_model(),
        usable_cpu_count(),
        platform.python_version(),
        has_gil(),
        VERSION,
        *(version(name) for name in ("numpy", "numba")),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


class KeptExaminations:
    """The files in the data folder. All methods block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._fingerprint = ""

    def load(self, version: str) -> Examined | None:
        """Return what is kept of a version of a workload; None if that is nothing readable, or of
        another machine.
        """
        try:
            stored = json.loads(self._path(version).read_text(encoding="utf-8"))
            return Examined.from_json(stored)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("an examination cannot be read and is made again: %r", error)
            return None

    def save(self, version: str, examined: Examined) -> None:
        """Replace the file completely or not at all; kernels whose reason may not hold another time
        make that it is not kept. A full disk is logged.
        """
        if not all(each.is_certain for each in examined.kernels.values()):
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with new_file(self._path(version)) as file:
                file.write(json.dumps(examined.to_json()).encode())
            self._forget_old()
        except OSError as error:
            logger.warning("an examination cannot be saved: %s", error)

    def _path(self, version: str) -> Path:
        self._fingerprint = self._fingerprint or machine_fingerprint()
        return self._folder / f"{version[:32]}-{self._fingerprint}.json"

    def _forget_old(self) -> None:
        files = sorted(self._folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-MOST_FILES]:
            file.unlink(missing_ok=True)
