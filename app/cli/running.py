"""`hotloop run`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli import options
from hotloop.app.cli.body_options import run_body, with_body_options
from hotloop.app.cli.connection import Target, cancelled_when_stopped, connected, watch
from hotloop.app.cli.exits import FAILED, CommandError, StopSignals, carried_out
from hotloop.app.cli.files import check_writable, format_of, media_type, opened, save
from hotloop.app.cli.options import ApiKey, AsJson, DataDir, Param, Quiet, Url
from hotloop.app.cli.screen import Say, Screen, say_estimate, screen
from hotloop.app.cli.service_workloads import checked_here, checked_there
from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.queries import flat
from hotloop.app.schemas.runs import RunRequest

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

_PIECE_BYTES: Final = 256 * 1024

EXAMPLES: Final = (
    "hotloop run",
    "hotloop run hybrid --items 500 --db-delay-ms 10 --io-concurrency 500",
    "hotloop run threading -n 20_000 --db none --cache none -k numba -w 2",
    f"hotloop run -f examples/flights-1000.csv -p {options.PARAM_EXAMPLE} -o out.csv",
    "hotloop run --items 100 --no-simulate-db-delay --json",
    "hotloop run sequential -n 100 --url http://localhost:8001 --background",
)


STRATEGIES: Final = (AUTO, *StrategyName)


def name_of_strategy(text: str) -> str:
    """Check the name of a strategy, or `auto`. Raises BadParameter for another word."""
    if text not in STRATEGIES:
        names = ", ".join(STRATEGIES)
        raise typer.BadParameter(f"there is no strategy {text!r}.\n  Take one of: {names}")
    return text


@with_body_options
def run(
    strategy: Annotated[
        str,
        typer.Argument(
            metavar="STRATEGY",
            parser=name_of_strategy,
            autocompletion=lambda: list(STRATEGIES),
            help=f"How batches are executed: {', '.join(STRATEGIES)}. auto takes what is "
            "estimated to be the fastest here, with --file hybrid.",
        ),
    ] = AUTO,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Items in place of made up ones: .csv with the columns "
            f"{', '.join(options.ROW_COLUMNS)}, .ndjson (.jsonl) with these fields on each line, "
            ".arrow (.arrows) or .parquet with these columns.",
            rich_help_panel="Run",
        ),
    ] = None,
    param: Param = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Save every item's result: .csv, .ndjson (.jsonl), .arrow (.arrows) or .parquet.",
            rich_help_panel="Output",
        ),
    ] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background",
            help="Print the task's id and leave; `hotloop tasks follow` watches it. Needs --url.",
            rich_help_panel="Output",
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    **fields: Any,
) -> None:
    """
    Run the workload over all items by one strategy, and show what was measured and the first
    results.

    Items are made up, unless --file brings them. Progress goes to the error output. Ctrl-C cancels
    the run. With --url a running service does the work; without it, processes of this command,
    which end with it.
    """
    with carried_out(as_json) as signals:
        body = run_body(fields, param or [])
        made = checked_here(RunRequest, body)
        _check_files(file, body, output)
        if background and (url is None or output is not None):
            raise CommandError(
                "--background needs --url, a service that goes on when this command has ended, "
                "and no --output; `hotloop tasks results` saves results later"
            )
        shown = screen(as_json=as_json, quiet=quiet)
        with connected(Target(url, api_key, data_dir), shown) as client:
            _, body = made or checked_there(client, RunRequest, body)
            if file is None:
                task = _submit(client, strategy, body, signals, shown)
            else:
                task = _submit_file(client, strategy, body, file, signals, shown)
            task_id = task["task_id"]
            if background:
                _print_task(task, as_json)
                return
            with cancelled_when_stopped(client, task_id, signals, shown):
                say_estimate(shown, task)
                view = watch(client, task_id, shown)
            if output is not None and view["status"] == "completed":
                pieces = client.download(task_id, {"format": format_of(output)})
                save(pieces, output, shown)
            _print_result(view, as_json)
            _say_saved(shown, view, output)
            if view["status"] != "completed":
                raise typer.Exit(FAILED)


def _check_files(file: Path | None, body: dict[str, Any], output: Path | None) -> None:
    """Check the files before any work starts. Raises CommandError."""
    if file is not None:
        if "items_count" in body:
            raise CommandError("--items cannot be given together with --file; leave one out")
        media_type(file)
        opened(file).close()
    if output is not None:
        format_of(output)
        check_writable(output)


def _submit(
    client: ServiceClient,
    strategy: str,
    body: dict[str, Any],
    signals: StopSignals,
    screen: Screen,
) -> dict[str, Any]:
    """Submit a run and return the task. A signal is held until the task's id is known, so that no
    task is started and forgotten.
    """
    with screen.waiting("handing the run over"), signals.held():
        task: dict[str, Any] = client.call(
            "POST", "/background", body=body | {"strategy": strategy}
        )
    return task


def _submit_file(
    client: ServiceClient,
    strategy: str,
    body: dict[str, Any],
    path: Path,
    signals: StopSignals,
    screen: Screen,
) -> dict[str, Any]:
    """Submit a run over the items of a file and return the task. A signal breaks the transfer off;
    then the service accepts nothing.
    """
    with opened(path) as file, screen.waiting(f"sending {path.name}") as say:
        task: dict[str, Any] = client.call(
            "POST",
            "/upload",
            query=_upload_query(strategy, body),
            headers={"Prefer": "respond-async", "Content-Type": media_type(path)},
            content=_pieces(file, signals, say),
        )
        signals.release()
    return task


def _upload_query(strategy: str, body: dict[str, Any]) -> dict[str, Any]:
    """Turn a run's body into the query of an upload."""
    # An upload has no `auto`: without a strategy the service chooses.
    return flat(body) if strategy == AUTO else flat(body | {"strategy": strategy})


def _pieces(file: IO[bytes], signals: StopSignals, say: Say) -> Iterator[bytes]:
    name, total = Path(file.name).name, os.fstat(file.fileno()).st_size
    while piece := file.read(_PIECE_BYTES):
        yield piece
        say(f"sending {name}: {file.tell() / 2**20:,.1f} of {total / 2**20:,.1f} MiB")
    say(f"{name} is sent; waiting until the service has taken it")
    # The service may accept from here on; `_submit_file` releases the signals.
    signals.hold()


def _print_task(task: dict[str, Any], as_json: bool) -> None:
    from hotloop.app.cli.output import print_json

    if as_json:
        print_json(task)
    else:
        print(task["task_id"])


def _print_result(view: dict[str, Any], as_json: bool) -> None:
    from hotloop.app.cli.output import print_json, print_rich
    from hotloop.app.cli.run_table import run_tables, task_table

    # A task that ended before its run began has no result: show the task, which says why.
    result = view["result"]
    if as_json:
        print_json(view if result is None else result)
    elif result is None:
        print_rich(*task_table(view))
    else:
        print_rich(*run_tables(result))


def _say_saved(screen: Screen, view: dict[str, Any], output: Path | None) -> None:
    if output is None:
        return
    if view["status"] == "completed":
        screen.say(f"saved: {output}")
    else:
        screen.say(f"not saved: the task is {view['status']}")
