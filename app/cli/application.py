"""The commands by name."""

from __future__ import annotations

from typing import Annotated

import typer

from hotloop.app.cli import calibrating, comparing, recommending, running, serving, task_commands
from hotloop.app.version import VERSION

application = typer.Typer(
    name="hotloop",
    help=(
        "CPU-heavy work over many items: any strategy, any kernel, measured.\n\n"
        "Commands ask a running service (--url, or HOTLOOP_URL), or do the work by themselves. "
        "`hotloop COMMAND --help` explains a command, with examples."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hotloop {VERSION}")
        raise typer.Exit


@application.callback()
def hotloop(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


application.command(help=serving.SERVE_HELP, short_help="Serve the API.")(serving.serve)
application.command(
    help=serving.NODE_HELP, short_help="Execute background tasks of a shared store."
)(serving.node)
application.command(help=running.HELP, short_help="Run the workload over all items.")(running.run)
application.command(help=comparing.HELP, short_help="Measure strategies × kernels side by side.")(
    comparing.compare
)
application.command(
    help=recommending.HELP, short_help="Predict the fastest ways to run something here."
)(recommending.recommend)
application.command(help=calibrating.HELP, short_help="Measure this machine, for recommendations.")(
    calibrating.calibrate
)
application.add_typer(
    task_commands.application,
    name="tasks",
    short_help="List, show, follow, cancel, resume, export and delete tasks.",
)
