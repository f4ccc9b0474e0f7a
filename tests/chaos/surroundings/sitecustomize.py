"""Changes what a Python process sees of its machine: the clock, and whether Cython was built.

Python imports this module at its start when the folder is in PYTHONPATH. The product is unchanged.
"""

from __future__ import annotations

import os
import sys

CLOCK_VARIABLE = "CHAOS_CLOCK"
"""A file with one double: the seconds that the clock is ahead of the real one."""
NO_CYTHON_VARIABLE = "CHAOS_NO_CYTHON"
"""If set, the compiled kernel cannot be imported, as on a machine without a compiler."""


def _shift_clock(path: str) -> None:
    import ctypes
    import datetime
    import gc
    import mmap
    import sqlite3.dbapi2
    import struct
    import time
    from pathlib import Path
    from typing import Any

    import psutil

    with Path(path).open("rb") as file:
        shared = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    real_time, real_connect = time.time, sqlite3.dbapi2.connect
    real_boot_time = psutil._psplatform.boot_time

    def ahead() -> float:
        seconds: float = struct.unpack_from("d", shared)[0]
        return seconds

    def shifted_time() -> float:
        return real_time() + ahead()

    def now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(shifted_time(), tz)

    def boot_time() -> float:
        booted: float = real_boot_time()
        return booted + ahead()  # Linux computes it from the clock of the moment

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real_connect(*arguments, **options)
        connection.create_function(
            "julianday", 1, lambda _now: shifted_time() / 86_400 + 2_440_587.5
        )
        return connection

    time.time = shifted_time
    time.time_ns = lambda: int(shifted_time() * 1e9)
    # The methods of a built-in type can only be replaced in the dictionary behind it.
    (methods, *_) = gc.get_referents(vars(datetime.datetime))
    methods["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
    psutil._psplatform.boot_time = boot_time
    sqlite3.connect = sqlite3.dbapi2.connect = connect  # type: ignore[assignment]


def _asks_for_the_time() -> bool:
    """True in the service and in run hosts; other processes would start more slowly."""
    return any(word.endswith("main.py") or word == "hotloop.app.runhost" for word in sys.orig_argv)


if (_path := os.environ.get(CLOCK_VARIABLE)) and _asks_for_the_time():
    _shift_clock(_path)
if os.environ.get(NO_CYTHON_VARIABLE):
    sys.modules["hotloop.kernels.loops._cython"] = None  # type: ignore[assignment]
