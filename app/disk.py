"""Files that appear complete or not at all, and errors of the disk in words for a client.

A process that writes or uses a file holds a shared lock on it, which the system releases when the
process ends in any way. Only files that no process has locked are removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from hotloop.app.errors import StoreError

_NO_ROOM: Final = "the disk is full; free some space, or delete finished tasks"
_NO_ACCESS: Final = "the service has no permission for it; check the owner of the data folder"
_REASONS: Final = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: "it would exceed the file size that the system allows the service",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.ENOENT: "it does not exist",
    errno.EMFILE: "the service has too many files open; raise its limit of open files",
}


def disk_error(what: str, error: OSError) -> StoreError:
    """Return the error to raise for `what`, a clause such as `the results cannot be written`.

    Its text has no path, because clients see it.
    """
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    return StoreError(f"{what}: {reason}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Raises StoreError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(f"the file {path.name} cannot be read", error) from error


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Make or replace the file at `path`. Every call writes its own part file.

    The file appears under its name, complete, when the block ends; when the block raises, nothing
    is left. Raises OSError.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    with _locked_part(part) as file:
        try:
            yield file
            file.flush()
            # The new name must not reach the disk before the bytes do.
            os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Write the names of a folder's files through to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _locked_part(part: Path) -> BinaryIO:
    while True:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(descriptor, part):
            return os.fdopen(descriptor, "w+b")
        os.close(descriptor)  # another process has removed it before it was locked


def hold(path: Path) -> int | None:
    """Keep processes from removing the file at `path` until the returned descriptor is closed. None
    if there is no such file. Raises OSError.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def remove_unused(path: Path) -> bool:
    """Remove the file unless a process writes or holds it. Return True if it was removed. Raises
    OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return False
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Return True if the open file is still the one at `path`, not replaced or removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
