"""The result of a run, and tasks, as tables."""

from __future__ import annotations

from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hotloop.app.cli import output
from hotloop.app.cli.output import Column, cell, fitted_table, pairs, seconds, share, size
from hotloop.app.cli.screen import duration

STATUS_STYLES: Final = {
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "pending": "dim",
}


def status_text(status: str) -> Text:
    return cell(status, STATUS_STYLES.get(status, ""))


def run_tables(result: dict[str, Any]) -> list[RenderableType]:
    """Tables of a run's result; `result` is a RunResult as JSON."""
    lag = result["event_loop_lag_ms"]
    rows = [
        ("task", cell(result["task_id"]).append(" ").append(status_text(result["status"]))),
        ("strategy × kernel", cell(f"{result['strategy']} × {result['kernel']}")),
        ("items", _items(result)),
        ("duration", cell(_duration(result), "bold")),
        ("throughput", cell(_throughput(result))),
        ("workers", cell(_workers(result))),
        ("batch size", cell(_batch_size(result))),
        *[("", cell(one["text"], "yellow")) for one in result.get("cautions", ())],
        ("waiting (all workers)", cell(seconds(result["io_seconds"]))),
        ("CPU", cell(f"{seconds(result['cpu_seconds'])}, {share(result['cpu_utilization'])}")),
        ("peak memory", cell(size(result["peak_memory_bytes"]))),
        ("event loop lag p99", cell("–" if lag is None else f"{lag['p99']:.1f} ms")),
        ("checksum", cell(result["checksum"] or "–")),
    ]
    if result["error_message"]:
        rows.append(("error", cell(result["error_message"], "red")))
    parts: list[RenderableType] = [pairs(rows)]
    if result["results"]:
        parts.append(_first_items(result))
    if result["errors"]:
        parts.append(_errors(result["errors"]))
    return parts


def _items(result: dict[str, Any]) -> Text:
    words = cell(f"{result['items_processed']:,} of {result['total_items']:,}, ")
    failed = result["failed_items"]
    return words.append(f"{failed:,} failed" if failed else "none failed", "red" if failed else "")


def _duration(result: dict[str, Any]) -> str:
    words = seconds(result["duration_seconds"])
    if result["setup_seconds"] is not None:
        words += f", after {seconds(result['setup_seconds'])} of set-up"
    return words


def _throughput(result: dict[str, Any]) -> str:
    rate = result["throughput_items_per_second"]
    if rate is None:
        return "–"
    words = f"{rate:,.0f} items/s"
    with_setup = result["throughput_with_setup_items_per_second"]
    return words if with_setup is None else f"{words}, {with_setup:,.0f} with set-up"


def _workers(result: dict[str, Any]) -> str:
    worked, asked = result["effective_workers"], result["requested_workers"]
    return f"– of {asked} worked" if worked is None else f"{worked} of {asked} worked"


def _batch_size(result: dict[str, Any]) -> str:
    if result["batch_size"] is None:
        return "–"
    chosen = " (chosen)" if result["requested_batch_size"] == "auto" else ""
    return f"{result['batch_size']:,}{chosen}"


def _first_items(result: dict[str, Any]) -> Table:
    rows, errors = result["results"], result["errors"]
    table = Table(title="First items", title_justify="left")
    for name in rows[0]:
        table.add_column(cell(name), justify="right")
    # JSON has null for failed items, too, and the errors may lack some.
    failed = {error["item_id"] for error in errors}
    all_are_known = result["failed_items"] <= len(errors)
    for row in rows:
        is_computed = all_are_known and row["item_id"] not in failed
        missing = "not finite" if is_computed else "–"
        table.add_row(*(missing if value is None else str(value) for value in row.values()))
    return table


def _errors(errors: list[dict[str, Any]], shown: int = 10) -> Table:
    more = f" (the first {shown} of {len(errors)})" if len(errors) > shown else ""
    table = Table("item", "stage", "reason", title=f"Failed items{more}", title_justify="left")
    for error in errors[:shown]:
        table.add_row(str(error["item_id"]), cell(error["stage"]), cell(error["reason"]))
    return table


def task_table(task: dict[str, Any]) -> list[RenderableType]:
    """A table of a task; `task` is a TaskView as JSON. An error, or the reason why it waits, comes
    first.
    """
    done, total = task["items_processed"], task["total_items"]
    unit = "measurements" if task["kind"] == "comparison" else "items"
    rows = [("error", cell(task["error_message"], "red"))] if task["error_message"] else []
    waiting_for = task.get("waiting_for")  # older services do not send it
    rows += [("waiting for", cell(waiting_for, "yellow"))] if waiting_for else []
    rows += [
        ("status", status_text(task["status"])),
        ("kind", cell(f"{task['task_type']} {_what(task)}")),
        (unit, cell(f"{done:,} of {total:,} ({task['progress']:.0%})")),
        ("created", cell(moment(task["created_at"]))),
        ("started", cell(moment(task["start_time"]))),
        ("ended", cell(moment(task["end_time"]))),
        ("estimated", cell(_long(task["estimated_seconds"]))),
        ("left", cell(_long(task["estimated_remaining_seconds"]))),
        ("attempts", cell(task["attempts"])),
        ("node", cell(task["node"] or "–")),
    ]
    return [cell(task["task_id"], "bold"), pairs(rows)]


def moment(value: str | None) -> str:
    """A time that the service sent, in UTC, to the second."""
    return "–" if value is None else f"{value[:10]} {value[11:19]} UTC"


def _long(value: float | None) -> str:
    return seconds(value) if value is None or value < 60 else duration(value)


def _what(task: dict[str, Any]) -> str:
    if task["strategy"] is None:
        return str(task["kind"])
    return f"{task['strategy']} × {task['kernel']}"


_COLUMNS: Final = (
    Column("task", is_number=False),
    Column("status", is_number=False),
    Column("what", 1, is_number=False),
    Column("items", 2),
    Column("done", 4),
    Column("created (UTC)", 3, is_number=False),
)


def task_list(page: dict[str, Any], width: int) -> list[RenderableType]:
    """A page of the list of tasks; `page` is a TaskPage as JSON, with tasks on it."""
    first, last = page["offset"] + 1, page["offset"] + len(page["items"])
    rows = [
        (
            (
                cell(task["task_id"]),
                status_text(task["status"]),
                cell(_what(task)),
                cell(f"{task['total_items']:,}"),
                cell(f"{task['progress']:.0%}"),
                cell(moment(task["created_at"])[5:16]),
            ),
            "",
        )
        for task in page["items"]
    ]
    title = cell(f"Tasks {first:,} … {last:,} of {page['total']:,}, the newest first")
    return [title, fitted_table(_COLUMNS, rows, width)]


def empty_list(page: dict[str, Any], query: dict[str, Any]) -> str:
    """A sentence that takes the place of a list without tasks."""
    if page["total"]:
        return f"No task is at offset {page['offset']:,}: {page['total']:,} match in all."
    if query.keys() & {"status", "strategy", "kernel"}:
        return "No task matches. Leave out --status, --strategy or --kernel to see others."
    return "No tasks are kept yet. `hotloop run --background` makes one."


def removed(task_id: str | None, count: int) -> str:
    """A sentence about tasks that were removed: the named one, or all that had ended."""
    if task_id is not None:
        return f"{task_id} is removed, with its results."
    if count == 0:
        return "No task has ended; nothing was removed."
    return f"{count:,} {'task is' if count == 1 else 'tasks are'} removed, with all results."


def print_task(task: dict[str, Any], as_json: bool) -> None:
    """Print a TaskView, with its result or its comparison."""
    if as_json:
        output.print_json(task)
        return
    output.print_rich(*task_table(task))
    if task["result"] is not None and task["end_time"] is not None:
        output.print_rich("", *run_tables(task["result"]))
    if task.get("comparison") is not None:
        from hotloop.app.cli import comparison_table, service_client
        from hotloop.app.schemas.comparison import Comparison

        comparison = service_client.read(Comparison, task["comparison"])
        output.print_rich("", *comparison_table.comparison_tables(comparison, output.width()))
