"""A recommendation on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import RenderableType
from rich.table import Table

from app.cli.output import cell as text
from app.cli.output import pairs, seconds, share, size
from app.schemas.recommendation import Limit, RankedChoice, Recommendation

_LIMITED_BY: Final = {
    Limit.IO: "waiting",
    Limit.CPU: "CPU",
    Limit.GIL: "the GIL",
    Limit.OVERHEAD: "overhead",
    Limit.MEMORY: "memory",
}

WIDE: Final = 120
"""Characters of a line that hold every column."""


def recommendation_tables(
    recommendation: Recommendation, width: int = WIDE
) -> list[RenderableType]:
    """The ranking (fewer columns where `width` is less than WIDE), why, and how far to trust it."""
    error = recommendation.prediction_error
    calibration = recommendation.calibration
    facts = [
        ("lower bound", text(seconds(recommendation.lower_bound_seconds))),
        (
            "calibration",
            text(
                f"{seconds(calibration.age_seconds)} old, took "
                f"{seconds(calibration.duration_seconds)}"
                if recommendation.calibrated
                else "none yet: typical figures, wide intervals"
            ),
        ),
        ("machine", text(f"{calibration.host.cpu}, {calibration.host.usable_cpus} usable CPUs")),
    ]
    if error.runs:
        ratio = "–" if error.median_ratio is None else f"{error.median_ratio:.2f}"
        facts.append(
            (
                f"last {error.runs} predictions",
                text(
                    f"median predicted ÷ measured {ratio}, "
                    f"{share(error.within_25_percent)} within 25 %"
                ),
            )
        )
    return [
        _ranking(recommendation, is_wide=width >= WIDE),
        "",
        text(recommendation.explanation, "bold"),
        "",
        pairs("", facts),
        "",
        text(recommendation.curl),
    ]


def _ranking(recommendation: Recommendation, *, is_wide: bool) -> Table:
    ranked = recommendation.ranked
    table = Table(
        title=f"{recommendation.items_count:,} items: the first {len(ranked)} of "
        f"{recommendation.considered:,} choices",
        title_justify="left",
    )
    table.add_column("", justify="right")
    table.add_column("strategy × kernel", no_wrap=True)
    for name in ("workers", "predicted", "9 of 10 within"):
        table.add_column(name, justify="right", no_wrap=True)
    if is_wide:
        for name in ("batch", "in flight", "set-up", "memory"):
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limited by")
    for choice in ranked:
        table.add_row(*_row(choice, is_wide), style="bold green" if choice.rank == 1 else "")
    return table


def _row(choice: RankedChoice, is_wide: bool) -> tuple[str, ...]:
    interval = choice.interval_seconds
    first = (
        str(choice.rank),
        f"{choice.strategy} × {choice.kernel}",
        str(choice.workers),
        seconds(choice.predicted_seconds),
        f"{seconds(interval.low)} … {seconds(interval.high)}",
    )
    more = (
        f"{choice.batch_size:,}",
        f"{choice.io_concurrency:,}",
        seconds(choice.setup_seconds),
        size(choice.memory_bytes),
    )
    return (*first, *(more if is_wide else ()), _LIMITED_BY[choice.limited_by])
