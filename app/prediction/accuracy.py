"""The accuracy of predictions: finished runs compared with their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hotloop.app.names import StrategyName
from hotloop.app.schemas.comparison import IntervalView
from hotloop.app.schemas.options import kernel_names
from hotloop.app.schemas.recommendation import PredictionError, PredictionRecord
from hotloop.app.tasks.model import run_seconds
from hotloop.app.tasks.store import TaskStore

RUNS: Final = 200
"""Number of newest runs that count."""
SHOWN: Final = 20

FEW: Final = 10
"""Number of runs below which an interval reaches at least FLOOR to both sides."""
FLOOR: Final = 0.25

UNCALIBRATED: Final = (0.5, 2.0)
"""The least interval of a prediction by typical constants, as factors. On the machine of these
constants, 60 random runs took 0.88 … 1.65 times what was predicted (docs/model.md); on another
machine, predictions are further off."""

SAMPLED: Final = (0.5, 2.0)
"""The least interval, as factors, for a workload whose items decide how long they take: a request's
items may be other ones than those that were made up and measured."""

CLOSE: Final = (0.8, 1.25)


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of predictions on the newest finished runs."""

    records: tuple[PredictionRecord, ...]
    """Records of runs, newest first."""

    def view(self) -> PredictionError:
        """Return the errors as clients see them."""
        ratios = [record.ratio for record in self.records]
        low, high = CLOSE
        return PredictionError(
            runs=len(ratios),
            median_ratio=float(np.median(ratios)) if ratios else None,
            within_25_percent=(
                sum(low <= ratio <= high for ratio in ratios) / len(ratios) if ratios else None
            ),
            last=list(self.records[:SHOWN]),
        )

    def interval(
        self, seconds: float, *, calibrated: bool = True, sampled: bool = False
    ) -> IntervalView:
        """Return the interval around a prediction of `seconds`: the 5th to 95th percentile of
        measured ÷ predicted, and at least UNCALIBRATED before the machine is calibrated, and at
        least SAMPLED if the cost of an item was `sampled`.
        """
        low = high = 1.0
        if self.records:
            factors = [1 / record.ratio for record in self.records]
            found = np.quantile(np.asarray(factors), (0.05, 0.95))
            low, high = min(1.0, float(found[0])), max(1.0, float(found[1]))
        if len(self.records) < FEW:
            low, high = min(low, 1 - FLOOR), max(high, 1 + FLOOR)
        if not calibrated:
            low, high = min(low, UNCALIBRATED[0]), max(high, UNCALIBRATED[1])
        if sampled:
            low, high = min(low, SAMPLED[0]), max(high, SAMPLED[1])
        return IntervalView(low=seconds * low, high=seconds * high)


def read_errors(store: TaskStore, limit: int = RUNS) -> Errors:
    """Return the errors on the last `limit` completed runs. Blocks; raises StoreError."""
    return Errors(tuple(_records(store, limit)))


def _records(store: TaskStore, limit: int) -> Sequence[PredictionRecord]:
    found = []
    for task, shards in store.estimated(limit):
        predicted, measured = task.estimated_seconds, run_seconds(task, shards)
        known = task.strategy in set(StrategyName) and task.kernel in kernel_names()
        if predicted and measured and known:
            found.append(
                PredictionRecord(
                    task_id=task.task_id,
                    strategy=StrategyName(task.strategy),
                    kernel=task.kernel,
                    predicted_seconds=predicted,
                    measured_seconds=measured,
                    ratio=predicted / measured,
                )
            )
    return found
