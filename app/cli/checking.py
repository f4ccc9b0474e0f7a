"""`hotloop check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hotloop.app.cli.exits import FAILED, CommandError, carried_out
from hotloop.app.cli.options import AsJson, Quiet
from hotloop.app.cli.screen import Screen, screen
from hotloop.app.wording import number

if TYPE_CHECKING:
    from hotloop.app.check import Certificate

EXAMPLES: Final = (
    "hotloop check loops --seconds 10",
    "hotloop check loops --seconds 10 --json",
)

EXITS: Final = (
    "Exit status: 0 nothing was found; 1 a kernel has a fault; 2 a workload cannot be imported, or "
    "the command was refused, the message says why; 130 after Ctrl-C."
)

LEAST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 3600.0


def check(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            help="module:function, or a file such as prices.py or prices.py:function, or the name "
            "of a built-in workload. A file is checked with all of its workloads.",
        ),
    ],
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="SECONDS",
            help="Time for each workload. [1 … 3,600; default 60]",
            show_default=False,
        ),
    ] = 60.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="FOLDER",
            help="Folder of the service, in which certificates are kept, made if it is not there. "
            "Default: HOTLOOP_DATA_DIR, or data.",
        ),
    ] = None,
) -> None:
    """
    Check the kernels of your workloads, and print a certificate for each.

    Every kernel is compared with the plain function over thousands of items and sets of parameters,
    in other batches, threads and processes, with poisoned memory, and for its declared cost. It
    runs in child processes: a kernel that crashes is a finding.

    Results of a checked version carry the certificate's hash, if the service uses the same folder.
    """
    with carried_out(as_json):
        if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
            least, most = number(LEAST_SECONDS), number(MOST_SECONDS)
            raise CommandError(f"--seconds must be from {least} to {most}, not {seconds}")
        folder = _data_folder(data_dir)
        shown = screen(as_json=as_json, quiet=quiet)
        certificates = [c for target in targets for c in _certificates(target, seconds, shown)]
        _keep(folder, certificates)
        from hotloop.app.cli import certificate_table, output

        if as_json:
            passed = all(each.passed for each in certificates)
            documents = [each.to_json() for each in certificates]
            output.print_json({"passed": passed, "certificates": documents})
        else:
            for place, each in enumerate(certificates):
                parts = certificate_table.certificate_parts(each)
                output.print_rich(*([""] if place else []), *parts)
        if not all(each.passed for each in certificates):
            raise typer.Exit(FAILED)


def _certificates(target: str, seconds: float, shown: Screen) -> list[Certificate]:
    from hotloop.app.check import CheckFailedError, UnloadableError, certify_all

    try:
        with shown.waiting(f"checking {target}"):
            return certify_all(target, seconds=seconds)
    except UnloadableError as error:
        raise CommandError(f"{target} cannot be imported: {error}") from error
    except CheckFailedError as error:
        raise CommandError(f"the check itself failed, which is a fault of it: {error}") from error


def _data_folder(given: Path | None) -> Path:
    """Return the data folder of the service: the given one, or that of the settings."""
    from hotloop.app.settings.environment import load_settings
    from hotloop.app.settings.settings import SettingsError

    try:
        options = {} if given is None else {"data_dir": given}
        return load_settings(**options).data_dir
    except SettingsError as error:
        raise CommandError(str(error)) from error


def _keep(folder: Path, certificates: list[Certificate]) -> None:
    from hotloop.app.check import keep

    try:
        for each in certificates:
            keep(folder, each)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CommandError(f"the certificate cannot be kept in {folder}: {reason}") from error
