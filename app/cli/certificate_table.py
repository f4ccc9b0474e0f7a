"""A certificate on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import RenderableType
from rich.text import Text

from hotloop.app.check import POINTS, Certificate, Finding, Status
from hotloop.app.cli.output import Column, cell, fitted_table, pairs, width

_CELLS: Final = {
    Status.PASSED: ("passed", "green"),
    Status.FAILED: ("FAILED", "bold red"),
    Status.NOT_APPLICABLE: ("–", "dim"),
    Status.NOT_CHECKED: ("not checked", "yellow"),
}


def certificate_parts(certificate: Certificate) -> list[RenderableType]:
    """The points by kernels, each finding with what to do, and what was checked where."""
    return [*_parts(certificate)]


def _parts(certificate: Certificate) -> Iterator[RenderableType]:
    state = "passed" if certificate.passed else "FAILED"
    style = "bold green" if certificate.passed else "bold red"
    yield cell(f"{certificate.workload}: {state}, certificate {certificate.hash}", style)
    kernels = [each.name for each in certificate.kernels if each.reason is None]
    states = {(each.kernel, each.point): each.status for each in certificate.points}
    rows: list[tuple[list[Text | str], str]] = []
    for point in POINTS:
        cells = (_state(states[kernel, point.name]) for kernel in kernels)
        rows.append(([point.name, *cells, point.meaning], ""))
    columns = [
        Column("point", is_number=False),
        *(Column(kernel, is_number=False) for kernel in kernels),
        Column("a kernel", 1, is_number=False),
    ]
    yield fitted_table(columns, rows, width())
    for each in certificate.kernels:
        if each.reason is not None:
            yield cell(f"{each.name} cannot be used here: {each.reason}", "yellow")
    for finding in certificate.findings:
        yield from _finding(finding)
    for checked in certificate.points:
        if checked.status is Status.NOT_CHECKED:
            words = f"{checked.kernel}, {checked.point}: not checked, {checked.words}"
            yield cell(words, "yellow")
    yield from (cell(f"Note: {note}") for note in certificate.notes)
    versions = ", ".join(f"{name} {version}" for name, version in certificate.versions.items())
    yield pairs(
        [
            ("version", cell(certificate.version)),
            ("with", cell(versions)),
            ("on", cell(certificate.machine)),
            ("at", cell(f"{certificate.date}, in {certificate.seconds:.0f} s")),
        ]
    )


def _state(status: Status) -> Text:
    words, style = _CELLS[status]
    return Text(words, style)


def _finding(finding: Finding) -> Iterator[RenderableType]:
    yield cell(f"{finding.kernel}, {finding.point}: {finding.seen}", "red")
    shown = [
        _assignments(finding.example.get(group, {}))
        for group in ("columns", "parameters")
        if finding.example is not None
    ]
    if any(shown):
        yield cell(f"  with {'; '.join(filter(None, shown))}")
    yield cell(f"  To do: {finding.advice}.")


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
