"""`hotloop tasks`: list, show, follow, cancel, resume, retry-failed, results, delete."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from hotloop.app.cli import files
from hotloop.app.cli.connection import Purpose, Target, cancelled_when_stopped, connected, watch
from hotloop.app.cli.exits import (
    FAILED,
    REFUSED,
    CommandError,
    NoStoreError,
    carried_out,
    print_error,
)
from hotloop.app.cli.options import ApiKey, AsJson, Quiet, StoreDir, TaskId, Url, taught
from hotloop.app.cli.screen import Screen, screen
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.schemas.options import kernel_names
from hotloop.app.schemas.results import ExportFormat

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

_ID: Final = "task_4f9d02aa_1735689600"

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "list": (
        "hotloop tasks list",
        "hotloop tasks list --status completed --limit 5 --url http://localhost:8001",
        "hotloop tasks list --json",
    ),
    "show": (f"hotloop tasks show {_ID}", f"hotloop tasks show {_ID} --json"),
    "follow": (f"hotloop tasks follow {_ID} --url http://localhost:8001",),
    "cancel": (f"hotloop tasks cancel {_ID}",),
    "resume": (f"hotloop tasks resume {_ID} --follow",),
    "retry-failed": (f"hotloop tasks retry-failed {_ID} --follow",),
    "results": (
        f"hotloop tasks results {_ID} | head -3",
        f"hotloop tasks results {_ID} --format csv --limit 5",
        f"hotloop tasks results {_ID} --output out.arrow",
    ),
    "delete": (f"hotloop tasks delete {_ID}", "hotloop tasks delete --yes"),
}

Follow = Annotated[
    bool, typer.Option("--follow", help="Watch it to its end; always so without --url.")
]

Command = TypeVar("Command", bound=Callable[..., None])

application = typer.Typer(
    help="Tasks that are kept: look at them, cancel them, go on with them, get their results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _command(name: str) -> Callable[[Command], Command]:
    """Add a command with its docstring and examples as its help."""

    def add(command: Command) -> Command:
        text = taught(command.__doc__ or "", EXAMPLES[name])
        return application.command(name, help=text)(command)

    return add


@contextmanager
def _store(target: Target, as_json: bool) -> Iterator[Callable[..., dict[str, Any]]]:
    """Ask the service about tasks, and show that the answer is waited for."""
    shown = screen(as_json=as_json)
    with carried_out(as_json), connected(target, shown, Purpose.LOOK) as client:
        yield partial(_asked, client, shown)


def _asked(
    client: ServiceClient, shown: Screen, method: str, path: str, query: Any = None
) -> dict[str, Any]:
    with shown.waiting("waiting for the answer"):
        answer: dict[str, Any] = client.call(method, f"/{path}", query=query)
    return answer


@_command("list")
def list_tasks(
    status: Annotated[TaskStatus | None, typer.Option(help="Only those in this state.")] = None,
    strategy: Annotated[
        StrategyName | None,
        typer.Option(
            metavar="NAME", help=f"Only those run by this strategy: {', '.join(StrategyName)}."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Only those run on this kernel: {', '.join(kernel_names())}, or one of a "
            "workload of your own.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Tasks to show.")] = 50,
    offset: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Tasks to leave out, from the newest on.")
    ] = 0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """List the tasks that are kept, newest first."""
    chosen = {"status": status, "strategy": strategy, "kernel": kernel}
    query: dict[str, Any] = {k: str(v) for k, v in chosen.items() if v is not None}
    query |= {"limit": limit, "offset": offset}
    why_empty = ""
    with carried_out(as_json):
        try:
            shown = screen(as_json=as_json)
            with connected(Target(url, api_key, data_dir), shown, Purpose.LOOK) as client:
                page = _asked(client, shown, "GET", "results", query)
        except NoStoreError as error:
            page = {"items": [], "total": 0, "limit": limit, "offset": offset, "next": None}
            why_empty = str(error)
        from hotloop.app.cli import output, run_table

        if as_json:
            output.print_json(page)
        elif page["items"]:
            output.print_rich(*run_table.task_list(page, output.width()))
        else:
            output.print_sentences(why_empty or run_table.empty_list(page, query))


@_command("show")
def show(
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """Show a task's state, and its result."""
    with _store(Target(url, api_key, data_dir), as_json) as ask:
        _print_task(ask("GET", f"status/{_path(task_id)}"), as_json)


@_command("follow")
def follow(
    task_id: TaskId,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """
    Watch a task until it has ended, then show it. Ctrl-C ends the watching, not the task.

    Without --url nothing is executed here: a service or a node that shares the store does that.
    """
    target, shown = Target(url, api_key, data_dir), screen(as_json=as_json, quiet=quiet)
    with carried_out(as_json), connected(target, shown, Purpose.LOOK) as client:
        _print_ended(watch(client, _path(task_id), shown), as_json)


@_command("cancel")
def cancel(
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """End a task. Finished work is kept; a task that has ended stays as it is."""
    with _store(Target(url, api_key, data_dir), as_json) as ask:
        _print_task(ask("DELETE", _path(task_id)), as_json)


@_command("resume")
def resume(
    task_id: TaskId,
    follow: Follow = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """
    Go on with a failed or cancelled task.

    Finished work is not repeated. With --url the service does the work, and --follow watches it.
    Without it this command does, until the task has ended; Ctrl-C cancels it again. The command may
    also take other waiting tasks of the store, and gives back what it has not ended.
    """
    target = Target(url, api_key, data_dir)
    _go_on("resume", task_id, target, follow=follow, as_json=as_json, quiet=quiet)


@_command("retry-failed")
def retry_failed(
    task_id: TaskId,
    follow: Follow = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """
    Try the failed items of a completed task again.

    The results of all other items are kept. Where the work is done is as for resume.
    """
    target = Target(url, api_key, data_dir)
    _go_on("retry-failed", task_id, target, follow=follow, as_json=as_json, quiet=quiet)


def _go_on(
    action: str, task_id: str, target: Target, *, follow: bool, as_json: bool, quiet: bool
) -> None:
    """Make a task pending again, and watch it to its end if asked to, or if this process does the
    work.
    """
    shown = screen(as_json=as_json, quiet=quiet)
    with carried_out(as_json) as signals, connected(target, shown, Purpose.RESUME) as client:
        with signals.held():
            task = _asked(client, shown, "POST", f"{_path(task_id)}/{action}")
        if target.url is not None and not follow:
            _print_task(task, as_json)
            return
        with cancelled_when_stopped(client, task_id, signals, shown):
            view = watch(client, task_id, shown)
        _print_ended(view, as_json)


@_command("results")
def results(
    task_id: TaskId,
    format: Annotated[
        ExportFormat | None,
        typer.Option(
            help="The format; ndjson unless --output has another ending.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A file in place of the output; .csv, .ndjson (.jsonl), .arrow (.arrows) or "
            ".parquet.",
        ),
    ] = None,
    offset: Annotated[
        int, typer.Option(min=0, max=2**53, help="Items to leave out, from the first on.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000_000, help="Items to write; otherwise all.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """
    Write every item's result of a task.

    The task must have ended. Results go to the output, or to a file.
    """
    with carried_out():
        query: dict[str, Any] = {"offset": offset, "format": "ndjson"}
        if limit is not None:
            query["limit"] = limit
        if output is not None:
            query["format"] = files.format_of(output)
            files.check_writable(output)
            if format is not None and format != query["format"]:
                raise CommandError(f"--format {format.value} is not what {output.name} says")
        elif format is not None:
            query["format"] = format.value
        if output is None and query["format"] in ("arrow", "parquet") and sys.stdout.isatty():
            raise CommandError(f"{query['format']} is not for a terminal; use --output or a pipe")
        shown = screen(as_json=False)
        with connected(Target(url, api_key, data_dir), shown, Purpose.LOOK) as client:
            pieces = client.download(_path(task_id), query)
            if output is None:
                files.pour(pieces, shown)
            else:
                files.save(pieces, output, shown)


@_command("delete")
def delete(
    task_id: Annotated[
        str | None,
        typer.Argument(metavar="TASK_ID", help="Only this task, which must have ended."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    """
    Remove one finished task, or all of them.

    Their results are removed, too. Without a TASK_ID all tasks that have ended are removed, after a
    question. Tasks that have not ended stay; `hotloop tasks cancel` ends one.
    """
    if task_id is None and not yes:
        if not sys.stdin.isatty():
            print_error("--yes is needed to remove all tasks where nobody can be asked")
            raise typer.Exit(REFUSED)
        typer.confirm("Remove all tasks that have ended, with their results?", abort=True, err=True)
    from hotloop.app.cli import output, run_table

    with _store(Target(url, api_key, data_dir), as_json) as ask:
        cleared = ask("DELETE", "results" if task_id is None else f"results/{_path(task_id)}")
        if as_json:
            output.print_json(cleared)
        else:
            output.print_sentences(run_table.removed(task_id, cleared["deleted"]))


def _path(task_id: str) -> str:
    """Check that an id can be part of a path. Raises CommandError if not."""
    if not task_id.isascii() or not task_id.replace("_", "").isalnum():
        raise CommandError(f'a task\'s id is like {_ID} (got "{task_id}")')
    return task_id


def _print_task(task: dict[str, Any], as_json: bool) -> None:
    from hotloop.app.cli import run_table

    run_table.print_task(task, as_json)


def _print_ended(view: dict[str, Any], as_json: bool) -> None:
    _print_task(view, as_json)
    if view["status"] != TaskStatus.COMPLETED:
        raise typer.Exit(FAILED)
