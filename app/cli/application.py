"""The commands by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from hotloop.app.cli import (
    checking,
    comparing,
    listing,
    new_package,
    options,
    recommending,
    running,
    serving,
    task_commands,
)
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


def _add(
    command: Callable[..., None],
    short: str,
    examples: Sequence[str],
    exits: str = options.EXITS,
) -> None:
    """Add a command with its docstring, examples and exit status as its help."""
    text = options.taught(command.__doc__ or "", tuple(examples), exits)
    application.command(help=text, short_help=short)(command)


_add(serving.serve, "Serve the API.", serving.SERVE_EXAMPLES, serving.EXITS)
_add(
    serving.node,
    "Execute background tasks of a shared store.",
    serving.NODE_EXAMPLES,
    serving.EXITS,
)
_add(serving.key, "Make an API key.", serving.KEY_EXAMPLES, serving.KEY_EXITS)
_add(
    new_package.new,
    "Make a package with a workload of your own.",
    new_package.EXAMPLES,
    new_package.EXITS,
)
_add(
    checking.check,
    "Check the kernels of your workloads.",
    checking.EXAMPLES,
    checking.EXITS,
)
_add(
    listing.kernels,
    "List workloads and their kernels.",
    listing.EXAMPLES,
    listing.EXITS,
)
_add(running.run, "Run the workload over all items.", running.EXAMPLES)
_add(
    comparing.compare,
    "Measure strategies × kernels side by side.",
    comparing.EXAMPLES,
    comparing.EXITS,
)
_add(
    recommending.recommend,
    "Predict the fastest ways to run something here.",
    recommending.RECOMMEND_EXAMPLES,
    recommending.RECOMMEND_EXITS,
)
_add(
    recommending.calibrate,
    "Measure this machine, for recommendations.",
    recommending.CALIBRATE_EXAMPLES,
    recommending.CALIBRATE_EXITS,
)
application.add_typer(
    task_commands.application,
    name="tasks",
    short_help="List, show, follow, cancel, resume, export and delete tasks.",
)
