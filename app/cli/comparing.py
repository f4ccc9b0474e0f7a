"""`hotloop compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from hotloop.app.cli.body_options import run_body, with_body_options
from hotloop.app.cli.connection import Target, cancelled_when_stopped, connected, watch
from hotloop.app.cli.exits import FAILED, CommandError, carried_out
from hotloop.app.cli.files import check_writable, read_items, written
from hotloop.app.cli.options import ROW_COLUMNS, ApiKey, AsJson, DataDir, Param, Quiet, Url
from hotloop.app.cli.screen import LONG_SECONDS, Screen, duration, screen
from hotloop.app.cli.service_workloads import checked_here, checked_there
from hotloop.app.names import StrategyName

if TYPE_CHECKING:
    from hotloop.app.schemas.comparison import CompareRequest, Comparison

EXAMPLES: Final = (
    "hotloop compare --items 1000 --db none --cache none --rounds 3 --budget 15",
    "hotloop compare -n 200 --db-delay-ms 5 --strategies hybrid,async-batch",
    "hotloop compare -n 500 --db none --cache none -k numba --report report.html",
    "hotloop compare -n 100 --budget 5 --json --url http://localhost:8001",
)

EXITS: Final = (
    "Exit status: 0 done; 1 the comparison failed or was cancelled, or outputs differ that must be "
    "equal; 2 refused, the message says why; 3 the service cannot be reached or cannot answer now; "
    "130 after Ctrl-C."
)


@with_body_options
def compare(
    strategies: Annotated[
        str | None,
        typer.Option(
            "--strategies",
            metavar="NAME,NAME",
            help=f"Strategies to compare: {', '.join(StrategyName)} [default all that "
            "the service has]",
            rich_help_panel="Comparison",
        ),
    ] = None,
    kernels: Annotated[
        str | None,
        typer.Option(
            "--kernels",
            metavar="NAME,NAME",
            help="Kernels to compare: python, cython, numba [default all of the workload]",
            rich_help_panel="Comparison",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", "-r", help="Timed rounds over all cells. [1 … 100; default 5]"),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            "--budget-seconds",
            help="Seconds that measuring may take, set-up excluded. [1 … 86,400; default 120]",
        ),
    ] = None,
    setup_budget: Annotated[
        float | None,
        typer.Option(
            "--setup-budget",
            "--setup-budget-seconds",
            help="Seconds that starting pools and compiling kernels may take beside; a cell whose "
            "set-up does not fit any more is skipped. [1 … 86,400; default 60]",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Measure every cell on all items, whatever it takes."),
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Items in place of made up ones, at most 100,000: .csv with the columns "
            f"{', '.join(ROW_COLUMNS)}, .ndjson (.jsonl) with these fields on each line, .arrow "
            "(.arrows) or .parquet with these columns.",
        ),
    ] = None,
    param: Param = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write a page (.html) with plots."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    **fields: Any,
) -> None:
    """
    Measure strategies × kernels side by side, and say which is the fastest, if one is.

    Every cell runs the same items, in rounds whose order is shuffled; a cell too slow for its share
    of the budget is measured on fewer items and projected (~). Ctrl-C cancels the comparison.
    --report writes one page with the plots, for a browser, that needs nothing else.
    """
    with carried_out(as_json) as signals:
        body = run_body(fields, param or [])
        asked = {
            "strategies": _names(strategies),
            "kernels": _names(kernels),
            "rounds": rounds,
            "budget_seconds": budget,
            "setup_budget_seconds": setup_budget,
            "exact": exact or None,
        }
        body |= {name: value for name, value in asked.items() if value is not None}
        if file is not None and "items_count" in body:
            raise CommandError("--items cannot be given together with --file; leave one out")
        from hotloop.app.schemas.comparison import CompareRequest

        made = checked_here(CompareRequest, body)
        items = None if file is None or made is None else read_items(file, made.request.workload)
        if report is not None:
            _check_report(report)
        shown = screen(as_json=as_json, quiet=quiet)
        with connected(Target(url, api_key, data_dir), shown) as client:
            request, body = made or checked_there(client, CompareRequest, body)
            if file is not None:
                body["items"] = items or read_items(file, request.workload)
            with shown.waiting("handing the comparison over"), signals.held():
                task = client.call(
                    "POST", "/compare", body=body, headers={"Prefer": "respond-async"}
                )
            with cancelled_when_stopped(client, task["task_id"], signals, shown):
                _say_bound(shown, task["task_id"], request)
                view = watch(client, task["task_id"], shown, unit="measurements")
        comparison = _print(view, as_json)
        if report is not None and comparison is not None:
            _write(comparison, report, shown)
        if view["status"] != "completed" or (comparison and comparison.mismatches):
            raise typer.Exit(FAILED)


def _say_bound(shown: Screen, task_id: str, request: CompareRequest) -> None:
    """Announce a comparison that may take more than a minute."""
    if request.exact:
        shown.say(
            f"{task_id} measures every cell on all items, however long that takes. Ctrl-C cancels "
            "it."
        )
    elif request.budget_seconds + request.setup_budget_seconds > LONG_SECONDS:
        shown.say(
            f"{task_id} measures for at most {duration(request.budget_seconds)} (--budget), beside "
            f"at most {duration(request.setup_budget_seconds)} of set-up (--setup-budget). Ctrl-C "
            "cancels it."
        )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _check_report(path: Path) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise CommandError(f"--report must end in .html (got {path.name})")
    check_writable(path)


def _print(view: dict[str, Any], as_json: bool) -> Comparison | None:
    """Print the comparison of a task and return it; print the task itself if it has none."""
    from hotloop.app.cli import comparison_table, output, run_table, service_client
    from hotloop.app.schemas.comparison import Comparison

    if view["comparison"] is None:
        if as_json:
            output.print_json(view)
        else:
            output.print_rich(*run_table.task_table(view))
        return None
    comparison = service_client.read(Comparison, view["comparison"])
    if as_json:
        output.print_json(view["comparison"])
    else:
        output.print_rich(*comparison_table.comparison_tables(comparison, output.width()))
    return comparison


def _write(comparison: Comparison, path: Path, shown: Screen) -> None:
    from hotloop.app.cli.report import report_page

    with written(path) as file:
        file.write(report_page(comparison).encode())
    shown.say(f"report: {path}")
