"""A recommendation on a terminal."""

from __future__ import annotations

from typing import Final

from rich.console import RenderableType
from rich.table import Table

from hotloop.app.cli import output
from hotloop.app.cli.output import Column, between, pairs, seconds, share, size
from hotloop.app.cli.output import cell as text
from hotloop.app.cli.screen import duration
from hotloop.app.schemas.recommendation import CalibrationView, Limit, RankedChoice, Recommendation

_LIMITED_BY: Final = {
    Limit.IO: "waiting",
    Limit.CPU: "CPU",
    Limit.GIL: "the GIL",
    Limit.OVERHEAD: "overhead",
    Limit.MEMORY: "memory",
}

WIDE: Final = 120
"""Characters of a line that hold nearly every column."""


def recommendation_tables(
    recommendation: Recommendation, width: int = WIDE
) -> list[RenderableType]:
    """The reason for the first choice, the ranking and its accuracy, in lines of `width`
    characters.
    """
    error = recommendation.prediction_error
    calibration = recommendation.calibration
    facts = [
        ("set-up of the first", text(seconds(recommendation.recommended.setup_seconds))),
        ("lower bound", text(seconds(recommendation.lower_bound_seconds))),
        ("calibration", text(_calibration(calibration))),
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
        text(recommendation.explanation, "bold"),
        *_uncalibrated(recommendation),
        "",
        f"{recommendation.items_count:,} items: the first {len(recommendation.ranked)} of "
        f"{recommendation.considered:,} choices, by predicted seconds without set-up",
        _ranking(recommendation, width),
        pairs(facts),
        "",
        "The command that runs the first:",
        output.command(recommendation.curl, width),
    ]


def _uncalibrated(recommendation: Recommendation) -> list[RenderableType]:
    if recommendation.calibrated:
        return []
    words = "Not calibrated yet: the intervals are wide."
    calibrating = recommendation.calibrating
    if calibrating is None:
        words += " `hotloop calibrate` measures this machine."
    else:
        words += f" A calibration is running ({calibrating.progress:.0%}); --wait waits for it."
    return ["", text(words, "yellow")]


_COLUMNS: Final = (
    Column(""),
    Column("strategy × kernel", is_number=False),
    Column("predicted"),
    Column("9 of 10 within"),
    Column("set-up", 4),
    Column("workers", 1),
    Column("batch", 2),
    Column("in flight", 3),
    Column("memory", 6),
    Column("limited by", 5, is_number=False),
)


def _ranking(recommendation: Recommendation, width: int) -> Table:
    rows = [
        (_row(choice), "bold green" if choice.rank == 1 else "") for choice in recommendation.ranked
    ]
    return output.fitted_table(_COLUMNS, rows, width)


def _row(choice: RankedChoice) -> tuple[str, ...]:
    interval = choice.interval_seconds
    return (
        str(choice.rank),
        f"{choice.strategy} × {choice.kernel}",
        seconds(choice.predicted_seconds),
        between(interval.low, interval.high),
        seconds(choice.setup_seconds),
        str(choice.workers),
        f"{choice.batch_size:,}",
        f"{choice.io_concurrency:,}",
        size(choice.memory_bytes),
        _LIMITED_BY[choice.limited_by],
    )


def _calibration(calibration: CalibrationView) -> str:
    if calibration.age_seconds is None:
        return "none yet: typical figures, wide intervals"
    return f"{duration(calibration.age_seconds)} old, took {seconds(calibration.duration_seconds)}"
