"""What the system says about the disk, in words fit for a client."""

from __future__ import annotations

import errno
import os
from typing import Final

from app.errors import StoreError

_NO_ROOM: Final = "the disk is full; free some space, or delete finished tasks"
_NO_ACCESS: Final = "the service may not do that there; check the owner of the data folder"
_REASONS: Final = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: "it would exceed the file size that the system allows the service",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.ENOENT: "it is not there",
    errno.EMFILE: "the service has too many files open; raise its limit of open files",
}


def disk_error(what: str, error: OSError) -> StoreError:
    """The error to raise for `what`, a sentence such as `the results cannot be written`.

    It names no path: `str()` of a StoreError is shown to clients.
    """
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        reason = os.strerror(error.errno).lower() if error.errno else type(error).__name__
    return StoreError(f"{what}: {reason}")
