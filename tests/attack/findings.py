"""What an attack has shown: figures, each with what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Figure:
    """Something counted or measured; `is_timed` when the machine's load decides it, too."""

    what: str
    value: str
    must_be: str
    is_good: bool
    is_timed: bool = False


@dataclass(slots=True)
class Findings:
    """Of one part of the attack."""

    part: str
    how: str
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """What was wrong, to be printed: never in the report."""

    def none(self, what: str, found: Sequence[str]) -> None:
        """There must be none of these."""
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
        """Nothing that must be so; it tells how large the attack was."""
        self.figures.append(Figure(what, value, "–", is_good=True))

    def faults(self, *, timed: bool = True) -> list[str]:
        """What is not as it must be, in words; without `timed`, only what no load can change."""
        bad = [f for f in self.figures if not f.is_good and (timed or not f.is_timed)]
        return [f"{self.part}: {f.what}: {f.value}, must be {f.must_be}" for f in bad]
