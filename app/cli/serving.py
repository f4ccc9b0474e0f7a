"""`hotloop serve` and `hotloop node`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli.exits import REFUSED, UNREACHABLE
from hotloop.app.cli.options import taught

if TYPE_CHECKING:
    from hotloop.app.settings.settings import Settings

_EXITS: Final = (
    "Ends in order on SIGTERM and Ctrl-C. Exit status: 0 after that; 2 for settings that cannot be "
    "met, the message says which; 3 when the database could not be reached for "
    "HOTLOOP_STORE_WAIT_SECONDS."
)

SERVE_EXAMPLES: Final = ("hotloop serve", "hotloop serve --port 0 --data-dir data")

SERVE_HELP: Final = taught(
    """
    Serve the API, with the processes that execute runs.

    Every setting is an environment variable, HOTLOOP_ and its name in capitals; docs/settings.md
    lists them. An option here is stronger than its variable.
    """,
    SERVE_EXAMPLES,
    _EXITS,
)

NODE_EXAMPLES: Final = ("hotloop node", "hotloop node --data-dir data")

NODE_HELP: Final = taught(
    """
    Execute background tasks of a shared store, and answer no requests.

    The store is that of the service: HOTLOOP_DATABASE_URL for one on several machines, otherwise
    the same data folder.
    """,
    NODE_EXAMPLES,
    _EXITS,
)

DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Folder of the task store, results and uploads, created when missing. "
        "Default: HOTLOOP_DATA_DIR, or data.",
    ),
]


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Default: HOTLOOP_HOST, or 127.0.0.1.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port to listen on; 0 takes a free one. Default: HOTLOOP_PORT, or 8001.",
        ),
    ] = None,
    data_dir: DataFolder = None,
) -> None:
    settings = _checked_settings(host=host, port=port, data_dir=data_dir)
    from hotloop.app.serving.processes import serve as run_server

    run_server(settings)


def node(data_dir: DataFolder = None) -> None:
    settings = _checked_settings(as_node=True, data_dir=data_dir)
    from hotloop.app.serving.node import run_node

    run_node(settings)


def _checked_settings(*, as_node: bool = False, **options: Any) -> Settings:
    """Settings that this machine can meet; otherwise what is wrong with them is printed, and the
    exit status is 2, or 3 for a database that cannot be reached.
    """
    from hotloop.app.errors import StoreUnavailableError
    from hotloop.app.logs.setup import set_up_logging
    from hotloop.app.serving.node import check_machine, check_node
    from hotloop.app.settings.environment import load_settings
    from hotloop.app.settings.settings import SettingsError

    try:
        settings = load_settings(**{k: v for k, v in options.items() if v is not None})
        role = "node" if as_node else "api"
        set_up_logging(settings.log_options, role, settings.secrets())
        check_machine(settings)
        if as_node:
            check_node(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(REFUSED) from error
    except StoreUnavailableError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNREACHABLE) from error
    return settings
