"""The result of a run, and tasks, as tables."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.output import STATUS_STYLES, cell, pairs, seconds, share, size


def status_text(status: str) -> Text:
    return cell(status, STATUS_STYLES.get(status, ""))


def run_tables(result: dict[str, Any]) -> list[RenderableType]:
    """`result` is a RunResult as JSON."""
    lag = result["event_loop_lag_ms"]
    rate = result["throughput_items_per_second"]
    failed = result["failed_items"]
    rows = [
        ("status", status_text(result["status"])),
        ("strategy × kernel", cell(f"{result['strategy']} × {result['kernel']}")),
        ("items", cell(f"{result['items_processed']:,} of {result['total_items']:,}")),
        ("failed items", cell(f"{failed:,}", "bold red" if failed else "")),
        ("duration", cell(seconds(result["duration_seconds"]), "bold")),
        ("throughput", cell("–" if rate is None else f"{rate:,.0f} items/s")),
        ("workers", cell(f"{result['effective_workers']} of {result['requested_workers']} asked")),
        ("batch size", cell(f"{result['batch_size']:,}")),
        ("set-up", cell(seconds(result["setup_seconds"]))),
        ("waiting (all workers)", cell(seconds(result["io_seconds"]))),
        ("CPU", cell(f"{seconds(result['cpu_seconds'])}, {share(result['cpu_utilization'])}")),
        ("peak memory", cell(size(result["peak_memory_bytes"]))),
        ("event loop lag p99", cell("–" if lag is None else f"{lag['p99']:.1f} ms")),
        ("checksum", cell(result["checksum"] or "–")),
    ]
    if result["error_message"]:
        rows.append(("error", cell(result["error_message"], "red")))
    parts: list[RenderableType] = [pairs(result["task_id"], rows)]
    if result["results"]:
        parts.append(_first_items(result["results"]))
    if result["errors"]:
        parts.append(_errors(result["errors"]))
    return parts


def _first_items(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="First items", title_justify="left")
    for name in rows[0]:
        table.add_column(cell(name), justify="right")
    for row in rows:
        table.add_row(*("–" if value is None else str(value) for value in row.values()))
    return table


def _errors(errors: list[dict[str, Any]], shown: int = 10) -> Table:
    more = f" (the first {shown} of {len(errors)})" if len(errors) > shown else ""
    table = Table("item", "stage", "reason", title=f"Failed items{more}", title_justify="left")
    for error in errors[:shown]:
        table.add_row(str(error["item_id"]), cell(error["stage"]), cell(error["reason"]))
    return table


def task_table(task: dict[str, Any]) -> Table:
    """`task` is a TaskView as JSON."""
    done, total = task["items_processed"], task["total_items"]
    rows = [
        ("status", status_text(task["status"])),
        ("kind", cell(f"{task['task_type']} {_what(task)}")),
        ("items", cell(f"{done:,} of {total:,} ({task['progress']:.0%})")),
        ("created", cell(task["created_at"])),
        ("started", cell(task["start_time"] or "–")),
        ("ended", cell(task["end_time"] or "–")),
        ("estimated", cell(seconds(task["estimated_seconds"]))),
        ("left", cell(seconds(task["estimated_remaining_seconds"]))),
        ("attempts", cell(task["attempts"])),
        ("node", cell(task["node"] or "–")),
    ]
    if task["error_message"]:
        rows.append(("error", cell(task["error_message"], "red")))
    return pairs(task["task_id"], rows)


def _what(task: dict[str, Any]) -> str:
    if task["strategy"] is None:
        return str(task.get("kind", "–"))
    return f"{task['strategy']} × {task['kernel']}"


def task_list(page: dict[str, Any]) -> Table:
    """`page` is a TaskPage as JSON."""
    first = page["offset"] + 1
    shown = f"{first} … {page['offset'] + len(page['items'])}" if page["items"] else "none"
    table = Table(title=f"Tasks {shown} of {page['total']:,}", title_justify="left")
    for name in ("task", "status", "strategy", "kernel"):
        table.add_column(name, no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    table.add_column("done", justify="right")
    table.add_column("created", no_wrap=True)
    for task in page["items"]:
        table.add_row(
            cell(task["task_id"]),
            status_text(task["status"]),
            cell(task["strategy"] or _what(task)),
            cell(task["kernel"] or "–"),
            f"{task['total_items']:,}",
            f"{task['progress']:.0%}",
            cell(task["created_at"][:19] + "Z"),
        )
    return table
