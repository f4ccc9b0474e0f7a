"""What the attacks have shown, as the generated sections of docs/security.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import machine_lines
from tests.attack.findings import Findings

BEGIN: Final = "<!-- attack: {part} -->"
END: Final = "<!-- end of attack: {part} -->"


def write(path: Path, command: str, found: Sequence[Findings]) -> None:
    """Replace the sections of the parts that were made now; everything else stays."""
    text = path.read_text("utf-8")
    how = [f"`{command}`", "", *machine_lines()]
    for findings in found:
        text = _replaced(text, findings.part, [*_table(findings), "", *how])
    path.write_text(text, "utf-8")


def _replaced(text: str, part: str, lines: Sequence[str]) -> str:
    begin, end = BEGIN.format(part=part), END.format(part=part)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"there is no section {begin} … {end}")
    return "\n".join([before + begin, "", *lines, "", end]) + after


def _table(findings: Findings) -> list[str]:
    return [
        f"{findings.how}; {findings.seconds:,.0f} s.",
        "",
        "| what | found | must be |",
        "| --- | --- | --- |",
        *(f"| {f.what} | {f.value} | {f.must_be} |" for f in findings.figures),
    ]
