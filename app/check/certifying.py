"""`certify`: the check of a workload's kernels, in processes that may crash, hang or eat memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotloop.app.check.certificate import Certificate
from hotloop.app.check.processes import Processes, UnloadableError

__all__ = ["Described", "UnloadableError", "certify", "certify_all", "describe"]

DEFAULT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Described:
    """A workload as it was imported: its name, and the names of its kernels."""

    workload: str
    kernels: tuple[str, ...]


def certify(
    spec: str,
    *,
    seconds: float = DEFAULT_SECONDS,
    folder: Path | None = None,
    workload: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Certificate:
    """Check all kernels of a workload, in about `seconds` at most, and return the certificate.

    `spec` is `module:object` or `file.py:object`, looked for in `folder` (else in the current one),
    or the name of a built-in workload; `workload` is the name of one where it names several. The
    processes get `environment` in place of this one's. Raises `UnloadableError`.
    """
    with _checked(spec, workload, seconds, folder, environment) as check:
        check.run("examine")
        return check.told.certificate()


def certify_all(
    spec: str, *, seconds: float = DEFAULT_SECONDS, folder: Path | None = None
) -> list[Certificate]:
    """Check every workload of a module or a file, each in about `seconds` at most.

    Raises `UnloadableError`.
    """
    with _checked(spec, None, seconds, folder, None) as check:
        check.run("examine")
        first, names = check.told.certificate(), check.told.names
    others = (name for name in names if name != first.workload)
    return [
        first,
        *(certify(spec, seconds=seconds, folder=folder, workload=name) for name in others),
    ]


def describe(
    spec: str,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Described:
    """Import a workload in another process, and return what it is. Raises `UnloadableError`."""
    with _checked(spec, None, DEFAULT_SECONDS, folder, environment) as check:
        check.run("describe")
        return Described(check.told.name, tuple(check.told.kernels))


@contextmanager
def _checked(
    spec: str,
    workload: str | None,
    seconds: float,
    folder: Path | None,
    environment: Mapping[str, str] | None,
) -> Iterator[Processes]:
    """Yield a check whose processes have all ended, and whose files are gone, after the block."""
    with tempfile.TemporaryDirectory(prefix="hotloop-check-", ignore_cleanup_errors=True) as made:
        place = (folder or Path.cwd()).absolute()
        given = os.environ if environment is None else environment
        check = Processes(spec, workload, place, Path(made), seconds, given)
        try:
            yield check
        finally:
            check.close()
