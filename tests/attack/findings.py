"""Findings of an attack: figures with their bounds, and their sections of docs/security.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.machine import machine_lines

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


MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its bound. `is_timed`: the load of the machine influences it."""

    what: str
    value: str
    must_be: str
    is_good: bool
    is_timed: bool = False


@dataclass(slots=True)
class Findings:
    """The figures of one part of the attack."""

    part: str
    how: str
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """Texts about faults for the terminal; the report leaves them out."""

    def none(self, what: str, found: Sequence[str]) -> None:
        """Add a count that must be 0."""
        self.details += [f"{what}: {one}" for one in found]
        self.figures.append(Figure(what, f"{len(found):,}", "0", not found))

    def exactly(self, what: str, value: int, wanted: int) -> None:
        self.figures.append(Figure(what, f"{value:,}", f"{wanted:,}", value == wanted))

    def at_least(self, what: str, value: int, least: int) -> None:
        self.figures.append(Figure(what, f"{value:,}", f"at least {least:,}", value >= least))

    def at_most(self, what: str, value: int, most: int) -> None:
        self.figures.append(Figure(what, f"{value:,}", f"at most {most:,}", value <= most))

    def at_most_mib(self, what: str, count: int, most_mib: int) -> None:
        """`count` is in bytes."""
        value, bound = f"{count / MIB:.1f} MiB", f"at most {most_mib} MiB"
        self.figures.append(Figure(what, value, bound, count <= most_mib * MIB))

    def at_most_ms(self, what: str, value: float, most: float) -> None:
        self.figures.append(
            Figure(what, f"{value:.1f} ms", f"at most {most:g} ms", value <= most, is_timed=True)
        )

    def shown(self, what: str, value: str) -> None:
        """Add a figure without a bound, such as the size of the attack."""
        self.figures.append(Figure(what, value, "–", is_good=True))

    def faults(self, *, timed: bool = True) -> list[str]:
        """Describe the figures that miss their bounds; without `timed`, only those that no load can
        change.
        """
        bad = [f for f in self.figures if not f.is_good and (timed or not f.is_timed)]
        return [f"{self.part}: {f.what}: {f.value}, must be {f.must_be}" for f in bad]
