"""What a comparison has planned and measured so far: kept with its task, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.records import from_fields
from hotloop.app.runhost.measurements import Measurements

BACKGROUND: Final = "background"


@dataclass(frozen=True, slots=True, order=True)
class CellId:
    """A cell of the matrix: a strategy, or BACKGROUND, on a kernel."""

    strategy: str
    kernel: str

    def __str__(self) -> str:
        return f"{self.strategy} × {self.kernel}"


@dataclass(frozen=True, slots=True)
class Size:
    """What a round of a cell executes: the first `items` items, in batches of `batch_size`."""

    items: int
    batch_size: int
    estimate: float
    """Seconds that the estimate gives for it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One execution of a cell. Seconds, bytes."""

    round: int
    """0 is the untimed warm-up."""
    items: int
    scale: float
    """By which its seconds are multiplied for all items; 1 when it had all of them."""
    seconds: float
    """As measured."""
    wall_seconds: float
    """Set-up and messages included: what it took from the budget."""
    setup_seconds: float
    effective_workers: int
    cpu_utilization: float
    peak_memory_bytes: int
    lag_p99_ms: float | None
    throttled_seconds: float | None
    """None where no control group says so."""
    throttled_periods: int
    disturbed: bool
    """Something else was executing in this service meanwhile."""
    failed_items: int
    checksums: Mapping[str, str]
    """Over the first so many items (as text), for each number that any cell measures."""

    @classmethod
    def of(cls, measured: Measurements, **noted: Any) -> Sample:
        """Make a sample of what the run host measured, and what was noted beside it."""
        return from_fields(cls, asdict(measured) | noted)

    @property
    def full_seconds(self) -> float:
        """For all items."""
        return self.seconds * self.scale


@dataclass(slots=True)
class CellRecord:
    """A cell: how it is measured, and what came of it."""

    cell: CellId
    sizes: tuple[Size, ...]
    """What its timed rounds execute, in turn; several sizes of a projected cell check the
    projection against itself. None when the cell cannot run."""
    full_estimate: float
    """Seconds that the estimate gives for all items."""
    setup_estimate: float = 0.0
    """Seconds that its first set-up is expected to take."""
    batch_size: int | None = None
    """The size for all items; None when the cell cannot run."""
    reason: str | None = None
    """Why it is skipped; nothing more is measured then."""
    deaths: int = 0
    """Executions of it that a process did not survive."""
    samples: list[Sample] = field(default_factory=list)

    def size(self, round_number: int) -> Size:
        """What a round executes; the warm-up the smallest."""
        if round_number == 0:
            return min(self.sizes, key=lambda size: size.items)
        return self.sizes[(round_number - 1) % len(self.sizes)]

    def scale(self, size: Size) -> float:
        return self.full_estimate / size.estimate if size.estimate > 0 else 1.0

    @property
    def is_skipped(self) -> bool:
        return self.reason is not None

    @property
    def warm_up(self) -> Sample | None:
        return next((s for s in self.samples if s.round == 0), None)

    @property
    def timed(self) -> list[Sample]:
        """In the order in which they were measured."""
        return [s for s in self.samples if s.round > 0]

    def has(self, round_number: int) -> bool:
        return any(s.round == round_number for s in self.samples)


@dataclass(slots=True)
class ComparisonRecord:
    """A comparison: what is asked for is in the task's spec, the rest here."""

    items_count: int
    workers: int
    rounds: int
    budget_seconds: float
    exact: bool
    used_seconds: float = 0.0
    """Of the budget, over all executions of the task."""
    setup_budget_seconds: float = 60.0
    setup_seconds: float = 0.0
    """Seconds used of the budget of set-up, over all executions of the task."""
    cells: list[CellRecord] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)
    """As `host_facts` gives them."""
    rows: dict[str, dict[str, list[float | int]]] = field(default_factory=dict)
    """Outputs of the first items by kernel and column, to hold kernels against each other."""
    parity_faults: list[str] = field(default_factory=list)
    parity_checked: bool = False

    @property
    def planned(self) -> int:
        """Measurements, warm-ups included, of the cells that can run."""
        return sum(self.rounds + 1 for cell in self.cells if not cell.is_skipped) + sum(
            len(cell.samples) for cell in self.cells if cell.is_skipped
        )

    @property
    def duration_seconds(self) -> float:
        """Over all executions of the task."""
        return self.used_seconds + self.setup_seconds

    def sample_rows(self, kernel: str) -> int:
        """How many rows there are in `rows` of the kernel."""
        return len(next(iter(self.rows.get(kernel, {}).values()), ()))

    @property
    def done(self) -> int:
        return sum(len(cell.samples) for cell in self.cells)

    @property
    def items_processed(self) -> int:
        """A comparison's items are its measurements."""
        return self.done

    @property
    def failed_items(self) -> int:
        return 0

    def to_json(self) -> dict[str, Any]:
        """Under one key, by which it is told from the details of a run."""
        return {KEY: asdict(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> ComparisonRecord | None:
        """None where there is none. Fields that this version does not know are left out.
        UnreadableTaskError for others.
        """
        if stored is None or KEY not in stored:
            return None
        try:
            values = dict(stored[KEY])
            values["cells"] = [_cell(cell) for cell in values["cells"]]
            return from_fields(cls, values)
        except (TypeError, KeyError, ValueError) as error:
            raise UnreadableTaskError("what the comparison has measured") from error


KEY: Final = "comparison"


def _cell(values: Mapping[str, Any]) -> CellRecord:
    parts = {
        "cell": from_fields(CellId, values["cell"]),
        "sizes": tuple(from_fields(Size, size) for size in values["sizes"]),
        "samples": [from_fields(Sample, sample) for sample in values["samples"]],
    }
    return from_fields(CellRecord, {**values, **parts})
