"""Workloads and their kernels on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from hotloop import kernels
from hotloop.app.cli.options import parameter_facts
from hotloop.app.cli.output import Column, cell, fitted_table, pairs, seconds
from hotloop.app.cli.service_workloads import reasons_of, workload_of
from hotloop.app.wording import number

View = Mapping[str, Any]

_COLUMNS: Final = (
    Column("kernel", is_number=False),
    Column("an item takes"),
    Column("warm-up", 2),
    Column("threads", 1, is_number=False),
)


def kernel_tables(answer: View, width: int) -> list[RenderableType]:
    """Parts that show the workloads of a KernelList as JSON, each with its kernels, and the targets
    that have no workload.
    """
    parts: list[RenderableType] = []
    for workload in answer["workloads"]:
        own = [each for each in answer["kernels"] if each["workload"] == workload["name"]]
        parts += ["", *_workload(workload, own, width)]
    reasons = reasons_of(answer)
    parts += [""] if reasons else []
    return [*parts[1:], *(cell(text, "yellow") for text in reasons)]


def _workload(view: View, implementations: list[View], width: int) -> Iterator[RenderableType]:
    workload = workload_of(view, implementations)
    yield cell(workload.name, "bold").append(f"  {workload.description}", "not bold")
    yield pairs(
        [
            *_named("columns", map(column_text, workload.columns_in)),
            *_named("parameters", map(parameter_text, workload.parameters)),
            *_named("results", map(column_text, workload.columns_out)),
            *_named("function", iter([source_text(view)] if view["source"] else [])),
        ]
    )
    usable = [each for each in implementations if each["available"] or not each["examined"]]
    if usable:
        yield fitted_table(_COLUMNS, [(_kernel(each), "") for each in usable], width)
    for each in implementations:
        if each not in usable:
            yield cell(f"{each['kernel']} cannot be used: {each['reason']}", "yellow")


def _named(name: str, texts: Iterator[str]) -> Iterator[tuple[str, Text]]:
    for place, text in enumerate(texts):
        yield ("" if place else name), cell(text)


def _kernel(kernel: View) -> tuple[str, ...]:
    taken = kernel["ns_per_item"]
    threads = "side by side" if kernel["releases_gil"] else "in turns"
    if taken is None:
        return kernel["kernel"], "not measured yet", "–", threads
    return kernel["kernel"], seconds(taken / 1e9), seconds(kernel["warm_up_seconds"]), threads


def source_text(view: View) -> str:
    """Return the place and the version of a function of the user's."""
    return f"{view['source']}, version {view['version']}"


def column_text(column: kernels.Column) -> str:
    """Return a column as one line: `spot: 0.01 … 1,000,000 EUR, what it is`."""
    kind = "true or false" if column.is_bool else _range(column)
    if column.width is not None:
        kind = f"{column.width:,} values, each {kind or 'a number'}"
    return _line(column, kind)


def parameter_text(parameter: kernels.Parameter) -> str:
    """Return a parameter as one line: `steps: 1 … 10,000; default 200, what it is`."""
    return _line(parameter, parameter_facts(parameter))


def _line(declared: kernels.Column | kernels.Parameter, kind: str) -> str:
    facts = [f"{kind} {declared.unit or ''}".strip()]
    if declared.description != declared.name:
        facts.append(declared.description)
    return f"{declared.name}: {', '.join(filter(None, facts))}".rstrip(": ")


def _range(column: kernels.Column) -> str:
    least, greatest = column.minimum, column.maximum
    if least is None and greatest is None:
        return ""
    if greatest is None:
        return f"at least {number(least)}"
    if least is None:
        return f"at most {number(greatest)}"
    return f"{number(least)} … {number(greatest)}"
