"""Workloads and their kernels on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from hotloop.app.cli.output import Column, cell, fitted_table, pairs, seconds
from hotloop.app.cli.service_workloads import reasons_of
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
        kernels = [each for each in answer["kernels"] if each["workload"] == workload["name"]]
        parts += ["", *_workload(workload, kernels, width)]
    reasons = reasons_of(answer)
    parts += [""] if reasons else []
    return [*parts[1:], *(cell(text, "yellow") for text in reasons)]


def _workload(workload: View, kernels: list[View], width: int) -> Iterator[RenderableType]:
    yield cell(workload["name"], "bold").append(f"  {workload['description']}", "not bold")
    yield pairs(
        [
            *_named("columns", map(column_text, workload["columns_in"])),
            *_named("parameters", map(parameter_text, workload["parameters"])),
            *_named("results", map(column_text, workload["columns_out"])),
        ]
    )
    usable = [each for each in kernels if each["available"] or not each["examined"]]
    if usable:
        yield fitted_table(_COLUMNS, [(_kernel(each), "") for each in usable], width)
    for each in kernels:
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


def column_text(column: View) -> str:
    """A column as one line: `spot: 0.01 … 1,000,000 EUR, what it is`."""
    kind = "true or false" if column["dtype"] == "bool" else _range(column)
    if column.get("width") is not None:
        kind = f"{column['width']:,} values, each {kind or 'a number'}"
    facts = [f"{kind}{_unit(column)}".strip(), _about(column)]
    return f"{column['name']}: {', '.join(filter(None, facts))}".rstrip(": ")


def parameter_text(parameter: View) -> str:
    """A parameter as one line: `steps: 1 … 10,000; default 200, what it is`."""
    default = parameter["default"]
    if parameter.get("choices"):
        kind = " or ".join(map(str, parameter["choices"]))
    elif parameter["dtype"] == "bool":
        kind, default = "true or false", json.dumps(default)
    else:
        kind, default = f"{_range(parameter)}{_unit(parameter)}", number(default)
    about = _about(parameter)
    return f"{parameter['name']}: {kind}; default {default}" + (f", {about}" if about else "")


def _range(view: View) -> str:
    least, greatest = view["minimum"], view["maximum"]
    if least is None and greatest is None:
        return ""
    if greatest is None:
        return f"at least {number(least)}"
    if least is None:
        return f"at most {number(greatest)}"
    return f"{number(least)} … {number(greatest)}"


def _unit(view: View) -> str:
    return f" {view['unit']}" if view["unit"] else ""


def _about(view: View) -> str:
    """Return the description, unless it only repeats the name."""
    return "" if view["description"] == view["name"] else str(view["description"])
