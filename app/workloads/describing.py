"""In a child process: imports users' modules, and tells what they declare, or why they cannot."""

from __future__ import annotations

import os
import resource
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from hotloop.app.workloads.declarations import to_json
from hotloop.app.workloads.places import is_users, place_of
from hotloop.app.workloads.sandbox import Tell
from hotloop.kernels.errors import KernelsError
from hotloop.kernels.functions.loading import Target, load_target

LONGEST_TEXT: Final = 500
"""Characters of an error's own words in a reason."""


def describe_targets(targets: Iterable[Mapping[str, Any]], tell: Tell) -> None:
    """Import one target after another. Tells of each that it `begins`, and then its workloads and
    their files, or why there are none.
    """
    for place, fields in enumerate(targets):
        tell(begins=place)
        before = set(sys.modules)
        target = Target(**fields)
        try:
            found = [(to_json(each.declaration), each.files) for each in load_target(target)]
        except BaseException as error:  # SystemExit, too
            if not isinstance(error, KernelsError):
                traceback.print_exception(error)
            tell(failed=reason_of(error), files=_files_of(target, before, error))
            continue
        tell(
            described=[declaration for declaration, _ in found],
            files=sorted({*_files_of(target, before), *(f for _, files in found for f in files)}),
        )


def reason_of(error: BaseException) -> str:
    """Return in one line what a user's code has raised, and where."""
    if isinstance(error, SyntaxError):
        place = f" at {Path(error.filename).name}:{error.lineno}" if error.filename else ""
        return f"{type(error).__name__}: {error.msg}{place}"
    if isinstance(error, SystemExit):
        said = f"it called sys.exit({error.code!r})"
    elif isinstance(error, ModuleNotFoundError) and error.name is not None:
        said = f"there is no module {error.name}; install it, or put its folder on PYTHONPATH"
    elif isinstance(error, MemoryError):
        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        said = f"it needs more memory than the {limit >> 20:,} MiB that it may have"
    elif isinstance(error, KernelsError):
        said = text_of(error)
    else:
        said = f"{type(error).__name__}: {_words(error)}"
    trace = traceback.extract_tb(error.__traceback__)
    return said + place_of((frame.filename, frame.lineno or 0) for frame in reversed(trace))


def text_of(error: BaseException) -> str:
    """Return an error's own words; empty for one that fails at saying them."""
    try:
        return str(error)
    except Exception:
        return ""


def _words(error: BaseException) -> str:
    text = " ".join(text_of(error).split())
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _files_of(target: Target, before: set[str], error: BaseException | None = None) -> list[str]:
    """Return the files that a change of would change the outcome, as far as they are the user's."""
    found: set[str | None] = {target.file}
    if target.folder is not None:
        found.add(str(Path(target.folder, *target.module.split(".")).with_suffix(".py")))
    found |= {getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}
    if isinstance(error, SyntaxError):
        found.add(error.filename)
    if error is not None:
        found |= {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    return sorted(
        os.path.realpath(file)
        for file in found
        if isinstance(file, str) and file.endswith((".py", ".so")) and is_users(file)
    )
