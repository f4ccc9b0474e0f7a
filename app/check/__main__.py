"""`python -m hotloop.app.check`, started by `certify`: the process in which a user's code runs.

Its arguments are a role, descriptors, and what to examine, as JSON. Nothing of it may be taken for
granted: the user's code may crash it, never return, or eat memory.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hotloop.app.check.config import Config
from hotloop.app.check.messages import Note, Reporter
from hotloop.app.system import end_with_starter

_LOADING_SECONDS: Final = 1.0


def main() -> None:
    """Do what the argument says, and tell it through the pipe."""
    end_with_starter()
    config = Config.from_json(sys.argv[1])
    _limit_memory(config.memory_bytes)
    # What the user's code prints is nobody's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    reporter = Reporter(os.fdopen(config.messages, "wb"))
    started = time.monotonic()
    folder = Path(config.folder)
    note = Note(Path(config.note), is_new=False)
    with note.doing("the module is imported", _LOADING_SECONDS * 30):
        subject = _load(reporter, config)
    if subject is None:
        return
    if config.role == "describe":
        reporter.send("done")
        return

    from hotloop.app.check.session import Session

    session = Session(reporter, note, max(config.seconds - (time.monotonic() - started), 3.0))
    if config.role == "examine":
        from hotloop.app.check.examining import examine

        examine(session, subject, folder, config.done)
    else:
        from hotloop.app.check.replaying import replay

        replay(session, subject, folder, _names(), role=config.role)
    session.send("done")


def _load(reporter: Reporter, config: Config) -> Any:
    """Return what is to be examined; None if there is no such workload, which is told."""
    from hotloop.app.check.storage import version_of
    from hotloop.app.check.subject import load_subjects
    from hotloop.kernels.functions.derive import one_line

    try:
        found = load_subjects(config.spec, Path(config.place))
    except BaseException as error:  # whatever a user's code raises, SystemExit too
        reporter.send("unloadable", reason=one_line(error))
        return None
    names = [subject.workload.name for subject in found]
    chosen = config.attribute or names[0]
    (subject,) = (each for each in found if each.workload.name == chosen)
    workload = subject.workload
    reporter.send(
        "workload",
        name=workload.name,
        names=names,
        version=version_of(workload),
        is_fickle=subject.is_fickle,
        kernels=[(each.kernel, subject.reasons.get(each.kernel)) for each in workload.kernels],
    )
    return subject


def _names() -> Iterator[str]:
    """Yield the names of kernels, one from each line of the input, until it ends."""
    for line in sys.stdin:
        yield line.strip()


def _limit_memory(size: int) -> None:
    """Let an allocation beyond this fail, in place of the machine."""
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (most, hard))


if __name__ == "__main__":
    main()
