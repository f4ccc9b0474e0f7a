"""`hotloop tasks`: list, show, follow, cancel, resume, results, delete."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli.connection import Target, connected_to_store
from hotloop.app.cli.exits import FAILED, REFUSED, CommandError, NoStoreError, carried_out
from hotloop.app.cli.lines import print_error
from hotloop.app.cli.options import ApiKey, AsJson, Quiet, StoreDir, TaskId, Url, taught
from hotloop.app.cli.result_files import check_writable, format_of, pour, save
from hotloop.app.cli.screen import Screen, screen
from hotloop.app.cli.watching import cancelled_when_stopped, watch
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.schemas.exports import ExportFormat
from hotloop.app.schemas.options import kernel_names

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

TASKS: Final = "/api/v1/tasks"

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
    "results": (
        f"hotloop tasks results {_ID} | head -3",
        f"hotloop tasks results {_ID} --format csv --limit 5",
        f"hotloop tasks results {_ID} --output out.arrow",
    ),
    "delete": (f"hotloop tasks delete {_ID}", "hotloop tasks delete --yes"),
}

_TEXTS: Final[dict[str, str]] = {
    "list": "List the tasks that are kept, newest first.",
    "show": "Show how a task stands, and its result.",
    "follow": """
        Watch a task until it has ended, then show it. Ctrl-C ends the watching, not the task.

        Without --url nothing is executed here: a service or a node that shares the store does that.
        """,
    "cancel": "End a task. What was finished is kept; a task that has ended stays as it is.",
    "resume": """
        Go on with a failed or cancelled task.

        What was finished is not done again. With --url the service does the work, and --follow
        watches it. Without it this command does, until the task has ended; Ctrl-C cancels it again.
        It may take other tasks of the store that wait, too, and gives back what it has not ended.
        """,
    "results": """
        Write every item's result of a task.

        The task must have ended. Results go to the output, or to a file.
        """,
    "delete": """
        Remove one finished task, or all of them.

        Their results are removed, too. Without a TASK_ID all tasks that have ended are removed,
        after a question. Tasks that have not ended stay; `hotloop tasks cancel` ends one.
        """,
}

application = typer.Typer(
    help="Tasks that are kept: look at them, cancel them, go on with them, get their results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _help(name: str) -> str:
    return taught(_TEXTS[name], EXAMPLES[name])


def _name_of_kernel(text: str) -> str:
    if text not in kernel_names():
        raise typer.BadParameter(
            f"there is no kernel {text!r}.\n  Take one of: {', '.join(kernel_names())}"
        )
    return text


@application.command("list", help=_help("list"))
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
            parser=_name_of_kernel,
            help=f"Only those run on this kernel: {', '.join(kernel_names())}.",
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
    chosen = {"status": status, "strategy": strategy, "kernel": kernel}
    query: dict[str, Any] = {
        name: str(value) for name, value in chosen.items() if value is not None
    }
    query |= {"limit": limit, "offset": offset}
    shown = screen(as_json=as_json)
    with carried_out(as_json):
        try:
            with connected_to_store(Target(url, api_key, data_dir), shown) as client:
                _print_page(_asked(client, shown, "GET", "results", query), query, as_json)
        except NoStoreError as error:
            empty = {"items": [], "total": 0, "limit": limit, "offset": offset, "next": None}
            _print_page(empty, query, as_json, str(error))


def _print_page(
    page: dict[str, Any], query: dict[str, Any], as_json: bool, why_empty: str = ""
) -> None:
    from hotloop.app.cli.output import print_json, print_rich, print_sentences, width
    from hotloop.app.cli.run_table import empty_list, task_list

    if as_json:
        print_json(page)
    elif page["items"]:
        print_rich(*task_list(page, width()))
    else:
        print_sentences(why_empty or empty_list(page, query))


def _asked(
    client: ServiceClient, shown: Screen, method: str, path: str, query: Any = None
) -> dict[str, Any]:
    """The answer of the service about tasks."""
    with shown.waiting("waiting for the answer"):
        answer: dict[str, Any] = client.call(method, f"{TASKS}/{path}", query=query)
    return answer


@application.command(help=_help("show"))
def show(
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    shown = screen(as_json=as_json)
    with carried_out(as_json), connected_to_store(Target(url, api_key, data_dir), shown) as client:
        _print_task(_asked(client, shown, "GET", f"status/{_path(task_id)}"), as_json)


@application.command(help=_help("follow"))
def follow(
    task_id: TaskId,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    shown = screen(as_json=as_json, quiet=quiet)
    with carried_out(as_json), connected_to_store(Target(url, api_key, data_dir), shown) as client:
        _print_ended(watch(client, _path(task_id), shown), as_json)


@application.command(help=_help("cancel"))
def cancel(
    task_id: TaskId,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    shown = screen(as_json=as_json)
    with carried_out(as_json), connected_to_store(Target(url, api_key, data_dir), shown) as client:
        _print_task(_asked(client, shown, "DELETE", _path(task_id)), as_json)


@application.command(help=_help("resume"))
def resume(
    task_id: TaskId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch it to its end; always so without --url.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: StoreDir = None,
) -> None:
    target = Target(url, api_key, data_dir)
    shown = screen(as_json=as_json, quiet=quiet)
    with (
        carried_out(as_json) as signals,
        connected_to_store(target, shown, executes=True) as client,
    ):
        with signals.held():
            task = _asked(client, shown, "POST", f"{_path(task_id)}/resume")
        if url is not None and not follow:
            _print_task(task, as_json)
            return
        with cancelled_when_stopped(client, task_id, signals, shown):
            view = watch(client, task_id, shown)
        _print_ended(view, as_json)


@application.command(help=_help("results"))
def results(
    task_id: TaskId,
    format: Annotated[
        ExportFormat | None,
        typer.Option(
            help="How they are written; ndjson unless --output says it.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A file in place of the output; .csv, .ndjson (.jsonl) or .arrow (.arrows).",
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
    with carried_out():
        query: dict[str, Any] = {"offset": offset, "format": "ndjson"}
        if limit is not None:
            query["limit"] = limit
        if output is not None:
            query["format"] = format_of(output)
            check_writable(output)
            if format is not None and format != query["format"]:
                raise CommandError(f"--format {format.value} is not what {output.name} says")
        elif format is not None:
            query["format"] = format.value
        if output is None and query["format"] == "arrow" and sys.stdout.isatty():
            raise CommandError("an Arrow stream is not for a terminal; use --output or a pipe")
        shown = screen(as_json=False)
        with connected_to_store(Target(url, api_key, data_dir), shown) as client:
            pieces = client.download(_path(task_id), query)
            if output is None:
                pour(pieces, shown)
            else:
                save(pieces, output, shown)


@application.command(help=_help("delete"))
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
    if task_id is None and not yes:
        _ask_for_all()
    from hotloop.app.cli.output import print_json, print_sentences

    shown = screen(as_json=as_json)
    with carried_out(as_json), connected_to_store(Target(url, api_key, data_dir), shown) as client:
        path = "results" if task_id is None else f"results/{_path(task_id)}"
        cleared = _asked(client, shown, "DELETE", path)
        if as_json:
            print_json(cleared)
        elif task_id is not None:
            print_sentences(f"{task_id} is removed, with its results.")
        else:
            print_sentences(removed(cleared["deleted"]))


def removed(count: int) -> str:
    """A sentence of how many tasks were removed."""
    if count == 0:
        return "No task has ended; nothing was removed."
    return f"{count:,} {'task is' if count == 1 else 'tasks are'} removed, with all results."


def _ask_for_all() -> None:
    """Ends the command unless somebody agrees."""
    if not sys.stdin.isatty():
        print_error("--yes is needed to remove all tasks where nobody can be asked")
        raise typer.Exit(REFUSED)
    typer.confirm("Remove all tasks that have ended, with their results?", abort=True, err=True)


def _path(task_id: str) -> str:
    """Raises CommandError for what would be another path."""
    if not task_id.isascii() or not task_id.replace("_", "").isalnum():
        raise CommandError(f'a task\'s id is like {_ID} (got "{task_id}")')
    return task_id


def _print_task(task: dict[str, Any], as_json: bool) -> None:
    from hotloop.app.cli.output import print_json, print_rich
    from hotloop.app.cli.run_table import run_tables, task_table

    if as_json:
        print_json(task)
        return
    print_rich(*task_table(task))
    if task["result"] is not None and task["end_time"] is not None:
        print_rich("", *run_tables(task["result"]))
    if task.get("comparison") is not None:
        from hotloop.app.cli.answers import read
        from hotloop.app.cli.comparison_table import comparison_tables
        from hotloop.app.cli.output import width
        from hotloop.app.schemas.comparison import Comparison

        print_rich("", *comparison_tables(read(Comparison, task["comparison"]), width()))


def _print_ended(view: dict[str, Any], as_json: bool) -> None:
    _print_task(view, as_json)
    if view["status"] != TaskStatus.COMPLETED:
        raise typer.Exit(FAILED)
