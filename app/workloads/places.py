"""Where in the user's code something happened, as a short text for a reason."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import hotloop

_PATHS: Final = sysconfig.get_paths()
_PACKAGES: Final = {"site-packages", "dist-packages"}
_NOT_USERS: Final = (
    str(Path(hotloop.__file__).absolute().parent),
    *(str(Path(path).absolute()) for path in hotloop.__path__),
    *(_PATHS[name] for name in ("stdlib", "platstdlib")),
    f"{sys.base_prefix}/lib/python",
    "<",
)


def is_users(file: str) -> bool:
    """Return True for a file that is neither of this program, nor of Python, nor installed."""
    return not _is_installed(file) and not file.startswith(_NOT_USERS)


def place_of(frames: Iterable[tuple[str, int | str]]) -> str:
    """Return ` at FILE:LINE` of the innermost frame in the user's code, else of the innermost in an
    installed package, which may be the user's; empty if there is none.

    `frames` are files and lines, the innermost first.
    """
    installed = ""
    for file, line in frames:
        text = f" at {Path(file).name}:{line}"
        if is_users(file):
            return text
        if _is_installed(file) and not installed:
            installed = text
    return installed


def _is_installed(file: str) -> bool:
    return not _PACKAGES.isdisjoint(Path(file).parts)
