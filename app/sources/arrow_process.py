"""The process that reads Arrow and Parquet, with bounds on its memory and its CPU time.

A few bytes can claim to unpack to terabytes, and damaged ones can crash the native code that
reads them. Both end this process alone, and the upload is refused.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path
from typing import BinaryIO, Final

from hotloop.app.errors import (
    BadRowError,
    InvalidRequestError,
    WorkerCrashedError,
    describe_exit,
)
from hotloop.app.sources.arrow_rows import HOW_TO_INSTALL, arrow_chunks
from hotloop.app.sources.base import Columns
from hotloop.app.sources.row_columns import RowColumn
from hotloop.app.system import INNER_THREAD_VARIABLES, end_with_starter

MEMORY_BYTES: Final = 512 << 20
"""Memory of the process; about 80 MB of it are the interpreter and pyarrow."""

CPU_SECONDS: Final = 30.0
"""CPU time until the first rows, and in all beyond SECONDS_PER_BYTE."""

SECONDS_PER_BYTE: Final = 2e-7
"""CPU time for each byte of columns; reading takes a hundredth of it."""


@dataclass(frozen=True, slots=True)
class Job:
    """An upload to read, and the bounds of the process."""

    path: Path
    media_type: str
    columns: Sequence[RowColumn]
    max_rows: int
    memory_bytes: int = MEMORY_BYTES
    cpu_seconds: float = CPU_SECONDS


def read_apart(job: Job) -> Generator[Columns, None, None]:
    """Yield what `arrow_chunks` yields in a process of its own, which ends with the iteration.

    Raises its errors; BadRowError if the process is ended by a bound or a crash;
    InvalidRequestError if pyarrow cannot be imported; WorkerCrashedError if the process does not
    start.
    """
    process = _started()
    assert process.stdin is not None
    assert process.stdout is not None
    rows = 0
    with process:
        try:
            process.stdin.write(pickle.dumps(job))
            process.stdin.close()
            while (read := pickle.load(process.stdout)) is not None:
                if isinstance(read, Exception):
                    raise read
                rows += len(next(iter(read.values())))
                yield read
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise _ended(job, process.wait(), rows) from None
        finally:
            process.kill()


def _started() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [
                sys.executable,
                *util._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                "-m",
                "hotloop.app.sources.arrow_process",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                **dict.fromkeys(INNER_THREAD_VARIABLES, "1"),
                "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve more than is allowed
            },
        )
    except OSError as error:
        raise WorkerCrashedError(None, 1, str(error)) from error


def _ended(job: Job, status: int, rows: int) -> Exception:
    if status == -signal.SIGPROF:
        why = f"reading it takes more than {job.cpu_seconds:g} s of CPU time"
    elif status < 0:
        why = f"reading it ended its process by {describe_exit(status)}"
    else:
        return WorkerCrashedError(None, 1, describe_exit(status))
    return _refused(why, rows)


def _refused(why: str, rows: int) -> BadRowError:
    text = f"{why}; write the file again, in record batches or row groups of fewer rows"
    return BadRowError(rows + 1, None, text, "row")


def _read(job: Job, answers: BinaryIO) -> None:
    """Write the pickled chunks, then None; or the error in place of the rest."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        text = f"pyarrow cannot be imported: {error}; have the operator run {HOW_TO_INSTALL}"
        pickle.dump(InvalidRequestError("Content-Type", text), answers)
        return
    _limit(resource.RLIMIT_DATA, job.memory_bytes)
    signal.setitimer(signal.ITIMER_PROF, job.cpu_seconds)
    rows = 0
    try:
        for chunk in arrow_chunks(job.path, job.media_type, job.columns, job.max_rows):
            answers.write(pickle.dumps(chunk, protocol=5))
            size = sum(column.nbytes for column in chunk.values())
            left, _ = signal.getitimer(signal.ITIMER_PROF)
            signal.setitimer(signal.ITIMER_PROF, left + size * SECONDS_PER_BYTE)
            rows += len(next(iter(chunk.values())))
        pickle.dump(None, answers)
    except BadRowError as error:
        pickle.dump(error, answers)
    except MemoryError:
        why = f"reading it takes more than {job.memory_bytes >> 20:,} MiB of memory"
        pickle.dump(_refused(why, rows), answers)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def main() -> None:
    end_with_starter()
    _limit(resource.RLIMIT_CORE, 0)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # a library that prints must not print between the answers
        _read(pickle.load(sys.stdin.buffer), answers)


if __name__ == "__main__":
    main()
