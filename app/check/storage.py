"""Certificates in the data folder of the service: one file for each version of a workload."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from hotloop.app.check.certificate import Certificate
from hotloop.app.disk import new_file
from hotloop.app.version import VERSION
from hotloop.kernels import Workload

__all__ = ["Certificates", "certificate_of", "keep", "version_of"]

_FOLDER: Final = "certificates"
_VERSION: Final = re.compile(r"\w[\w.+-]{0,199}")
_OWN: Final = re.compile(r"[0-9a-f]{12,64}")
"""The version of a user's code, whole or as it is shown and stored."""

_DIGITS: Final = 12


class Certificates:
    """The certificates in a data folder, each read again only when its file has changed. Safe to
    use from any number of threads; the methods block.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._read: dict[str, tuple[int, Certificate | None]] = {}

    def mark(self, workload: str, version: str | None, kernel: str) -> str | None:
        """Return what a result of this kernel carries: the hash of the certificate, "failed", or
        None if this version was not checked. A built-in workload has no version of its own.
        """
        certificate = self._of(_built_in(workload) if version is None else version)
        if certificate is None or certificate.workload != workload:
            return None
        return certificate.mark(kernel)

    def _of(self, version: str) -> Certificate | None:
        try:
            changed = _path(self._data_dir, version).stat().st_mtime_ns
        except (OSError, ValueError):
            return None
        known = self._read.get(version)
        if known is None or known[0] != changed:
            known = self._read[version] = changed, certificate_of(self._data_dir, version)
        return known[1]


def version_of(workload: Workload) -> str:
    """Return the version under which the certificate of a workload is kept: that of the user's
    code, or for a built-in workload its name and the version of hotloop.
    """
    source = workload.source
    return _built_in(workload.name) if source is None else source.version


def _built_in(workload: str) -> str:
    return f"{workload}-{VERSION}"


def keep(data_dir: Path, certificate: Certificate) -> Path:
    """Write a certificate, in place of an earlier one of the same version. Return its path.

    Raises OSError.
    """
    path = _path(data_dir, certificate.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write(json.dumps(certificate.to_json(), indent=1).encode())
    return path


def certificate_of(data_dir: Path, version: str) -> Certificate | None:
    """Return the certificate of a version, which may be cut to 12 digits; None if there is none, or
    none that can be read.
    """
    if not _VERSION.fullmatch(version):
        return None
    try:
        return Certificate.from_json(json.loads(_path(data_dir, version).read_bytes()))
    except (OSError, ValueError):
        return None


def _path(data_dir: Path, version: str) -> Path:
    name = version[:_DIGITS] if _OWN.fullmatch(version) else version
    return data_dir / _FOLDER / f"{name}.json"
