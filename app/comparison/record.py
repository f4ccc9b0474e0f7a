"""The record of a comparison, its plan and measurements so far, stored with its task as JSON."""

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
    """Size of a round of a cell: the first `items` items, in batches of `batch_size`."""

    items: int
    batch_size: int
    estimate: float
    """Estimated seconds of the round."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Measurements of an execution of a cell, in seconds and bytes."""

    round: int
    """Number of the round; 0 is the untimed warm-up."""
    items: int
    scale: float
    """Factor that projects the seconds to all items; 1 if the sample had all of them."""
    seconds: float
    """Measured seconds, not projected."""
    wall_seconds: float
    """Seconds with set-up and messages, as counted against the budget."""
    setup_seconds: float
    effective_workers: int
    cpu_utilization: float
    peak_memory_bytes: int
    lag_p99_ms: float | None
    throttled_seconds: float | None
    """Seconds for which the CPU quota held processes back; None without a control group."""
    throttled_periods: int
    disturbed: bool
    """True if this service executed something else meanwhile."""
    failed_items: int
    checksums: Mapping[str, str]
    """Checksums by number of first items (as text), for each number that a cell measures."""

    @classmethod
    def of(cls, measured: Measurements, **noted: Any) -> Sample:
        """Make a sample of the run host's measurements and the fields in `noted`."""
        return from_fields(cls, asdict(measured) | noted)

    @property
    def full_seconds(self) -> float:
        """Seconds projected to all items."""
        return self.seconds * self.scale


@dataclass(slots=True)
class CellRecord:
    """A cell with its plan and samples."""

    cell: CellId
    sizes: tuple[Size, ...]
    """Sizes of the timed rounds, in turn; empty if the cell cannot run. Several sizes of a
    projected cell check its projection."""
    full_estimate: float
    """Estimated seconds for all items."""
    setup_estimate: float = 0.0
    """Expected seconds of the first set-up."""
    batch_size: int | None = None
    """Batch size for all items; None if the cell cannot run."""
    reason: str | None = None
    """Reason why the cell is skipped, which ends its measurements; None if it is not."""
    deaths: int = 0
    """Number of executions that killed a process."""
    samples: list[Sample] = field(default_factory=list)

    def size(self, round_number: int) -> Size:
        """Return the size of a round; the warm-up has the smallest."""
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
        """Samples without the warm-up, in the order of measurement."""
        return [s for s in self.samples if s.round > 0]

    def has(self, round_number: int) -> bool:
        return any(s.round == round_number for s in self.samples)


@dataclass(slots=True)
class ComparisonRecord:
    """The plan and measurements of a comparison; its request is in the task's spec."""

    items_count: int
    workers: int
    rounds: int
    budget_seconds: float
    exact: bool
    used_seconds: float = 0.0
    """Seconds used of the budget, over all executions of the task."""
    setup_budget_seconds: float = 60.0
    setup_seconds: float = 0.0
    """Seconds used of the set-up budget, over all executions of the task."""
    cells: list[CellRecord] = field(default_factory=list)
    host: dict[str, Any] = field(default_factory=dict)
    """Facts about the machine from `host_facts`."""
    rows: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """Outputs of the first items by kernel and column, to compare kernels with each other. A float
    that is not finite is a text, because JSON cannot hold it.
    """
    parity_faults: list[str] = field(default_factory=list)
    parity_checked: bool = False

    @property
    def planned(self) -> int:
        """Number of planned measurements, with warm-ups, of the cells that can run."""
        return sum(self.rounds + 1 for cell in self.cells if not cell.is_skipped) + sum(
            len(cell.samples) for cell in self.cells if cell.is_skipped
        )

    @property
    def duration_seconds(self) -> float:
        """Seconds used of both budgets, over all executions of the task."""
        return self.used_seconds + self.setup_seconds

    def sample_rows(self, kernel: str) -> int:
        """Return the number of rows that `rows` has for the kernel."""
        return len(next(iter(self.rows.get(kernel, {}).values()), ()))

    @property
    def done(self) -> int:
        return sum(len(cell.samples) for cell in self.cells)

    @property
    def items_processed(self) -> int:
        """Number of measurements, which are the items of a comparison."""
        return self.done

    @property
    def failed_items(self) -> int:
        return 0

    def to_json(self) -> dict[str, Any]:
        """Return the record under KEY, which tells it from the details of a run."""
        return {KEY: asdict(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> ComparisonRecord | None:
        """Read a stored record; None if there is none. Unknown fields are ignored. Raises
        UnreadableTaskError if the record is damaged.
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
