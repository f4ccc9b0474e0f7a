"""`hotloop new`."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from hotloop.app.cli.exits import CommandError, ending
from hotloop.app.cli.package_template import files_of
from hotloop.app.wording import echo

EXAMPLES: Final = ("hotloop new braking", "hotloop new pendulum --folder own")

EXITS: Final = (
    "Exit status: 0 done; 2 the name cannot be one, or the folder cannot be made, the message says "
    "why."
)

_NAME: Final = re.compile("[a-z][a-z0-9_]{0,29}")

_TAKEN: Final = frozenset({"conftest", "loops", "setup", "tests"})
"""The workload that is always there, and files with a meaning for pytest or setuptools."""


def new(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the package, of its module and of the workload: small letters, digits "
            "and _.",
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="Folder in which the package gets a folder of its own, made if it is not there.",
        ),
    ] = Path(),
) -> None:
    """
    Make a package with a workload of your own, a test of it and a README.

    The function in NAME/NAME.py works as it is; write yours in its place. The package can be
    installed, and where it is, `hotloop serve` finds the workload by itself.
    """
    with ending(as_json=False):
        made = folder / name
        _check(name, made)
        for path, text in files_of(name).items():
            _write(made / path, text)
        print(
            f"{made} is made. Go on with:\n"
            f"  cd {made}\n"
            "  pip install -e '.[test]'\n"
            "  pytest\n"
            f"  hotloop check {name}:{name}\n"
            "  hotloop serve"
        )


def _check(name: str, made: Path) -> None:
    """Raise CommandError for a name that cannot be a module's, and for a folder that is in use."""
    if not _NAME.fullmatch(name):
        close = re.sub("[^a-z0-9_]+", "_", name.lower()).lstrip("_0123456789")[:30].rstrip("_")
        hint = f"; write {close}" if _NAME.fullmatch(close) else ""
        raise CommandError(
            "NAME must have 1 to 30 small letters, digits and _, and begin with a letter "
            f"(got {echo(name)}){hint}"
        )
    is_word = keyword.iskeyword(name) or keyword.issoftkeyword(name)
    if is_word or name in _TAKEN or name.startswith("test_") or name.endswith("_test"):
        raise CommandError(
            "NAME must not be a word of Python, not begin or end like the name of a test, and be "
            f"none of {', '.join(sorted(_TAKEN))} (got {echo(name)})"
        )
    if made.exists() and (not made.is_dir() or any(made.iterdir())):
        raise CommandError(f"{made} is there already, and not empty; choose another name or folder")
    if (found := importlib.util.find_spec(name)) and found.origin:
        raise CommandError(
            f"there is a module {name} already ({found.origin}), and the two would hide each "
            "other; choose another name"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
