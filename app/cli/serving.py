"""`hotloop serve`, `hotloop node` and `hotloop key`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli.exits import REFUSED, UNREACHABLE
from hotloop.app.names import Scope

if TYPE_CHECKING:
    from hotloop.app.settings.settings import Settings

EXITS: Final = (
    "Ends in order on SIGTERM and Ctrl-C. Exit status: 0 after that; 2 for settings that cannot be "
    "met, the message says which; 3 when the database could not be reached for "
    "HOTLOOP_STORE_WAIT_SECONDS."
)

SERVE_EXAMPLES: Final = (
    "hotloop serve",
    "hotloop serve prices.py",
    "hotloop serve prices:american_put --port 0 --data-dir data",
)

NODE_EXAMPLES: Final = ("hotloop node", "hotloop node prices.py --data-dir data")

KEY_EXAMPLES: Final = ("hotloop key alice", "hotloop key monitor --scope read")

KEY_EXITS: Final = "Exit status: 0 done; 2 the name cannot be one, the message says why."

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...",
        help="Functions of your own: module:function, module, file.py:function or file.py, looked "
        "for in HOTLOOP_WORKLOADS_DIR, or this folder; a module may also be installed. They are "
        "added to HOTLOOP_WORKLOADS, and to those that installed packages offer.",
    ),
]

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
    targets: Targets = None,
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
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Load functions of your own anew when their files change."),
    ] = False,
) -> None:
    """
    Serve the API, with the processes that execute runs, and functions of your own.

    What became of each TARGET is printed. A function that cannot be used is told with the reason,
    and the service runs without it.

    Every setting is an environment variable, HOTLOOP_ and its name in capitals; docs/settings.md
    lists them. An option here is stronger than its variable.
    """
    settings = _checked_settings(
        targets or (), host=host, port=port, data_dir=data_dir, reload=reload or None
    )
    from hotloop.app.serving.processes import serve as run_server

    run_server(settings)


def node(targets: Targets = None, data_dir: DataFolder = None) -> None:
    """
    Execute background tasks of a shared store, and answer no requests.

    The store is that of the service: HOTLOOP_DATABASE_URL for one on several machines, otherwise
    the same data folder.
    """
    settings = _checked_settings(targets or (), as_node=True, data_dir=data_dir)
    from hotloop.app.serving.node import run_node

    run_node(settings)


def _checked_settings(targets: Sequence[str], *, as_node: bool = False, **options: Any) -> Settings:
    """Load settings, add the targets, and check that this machine can meet them. Otherwise print
    what is wrong and exit with 2, or with 3 if the database cannot be reached.
    """
    from hotloop.app.errors import StoreUnavailableError
    from hotloop.app.logs.setup import set_up_logging
    from hotloop.app.serving.node import check_machine, check_node
    from hotloop.app.settings.environment import load_settings
    from hotloop.app.settings.settings import SettingsError
    from hotloop.kernels import WorkloadError
    from hotloop.kernels.functions.loading import parse_target

    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = load_settings(**given)
        if targets:
            given["workloads_dir"] = settings.workloads_dir or Path.cwd()
            for target in targets:
                parse_target(target, given["workloads_dir"])
            given["workloads"] = (*settings.workloads, *targets)
            settings = load_settings(**given)
        role = "node" if as_node else "api"
        set_up_logging(settings.log_options, role, settings.secrets())
        check_machine(settings)
        if as_node:
            check_node(settings)
    except (SettingsError, WorkloadError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(REFUSED) from error
    except StoreUnavailableError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(UNREACHABLE) from error
    return settings


def key(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The client's name; its tasks belong to it."),
    ],
    scope: Annotated[
        Scope,
        typer.Option("--scope", help="What it may do; each includes those before it."),
    ] = Scope.RUN,
) -> None:
    """
    Make an API key, and its entry in the list HOTLOOP_API_KEYS.

    The key is shown this once; the service keeps only its hash.
    """
    try:
        made, entry = key_texts(name, scope)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(REFUSED) from error
    print(f"The key, shown this once; the service keeps only its hash:\n{made}")
    print(f"Its entry in the list HOTLOOP_API_KEYS:\n{entry}")


def key_texts(name: str, scope: Scope) -> tuple[str, str]:
    """Make a key, and its entry in HOTLOOP_API_KEYS as JSON. Raises ValueError for a wrong name."""
    from pydantic import ValidationError

    from hotloop.app.security.clients import digest_of, new_key
    from hotloop.app.settings.settings import ApiKeyEntry
    from hotloop.app.wording import describe

    made = new_key()
    entry = {"name": name, "hash": digest_of(made), "scopes": [scope.value]}
    try:
        ApiKeyEntry.model_validate_json(json.dumps(entry))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))} {describe(fault)}") from None
    return made, json.dumps(entry)
