"""Which tasks are asked for in a round of each kind."""

from __future__ import annotations

from typing import Final

from tests.chaos.asking import CSV, NDJSON, Asked
from tests.chaos.kinds import Kind

BATCH_ITEMS: Final = 5
ITEMS: Final = 200
STRATEGIES: Final = (
    "async-batch",
    "concurrent-futures",
    "hybrid",
    "multiprocessing",
    "sequential",
    "threading",
)
_QUICK: Final = tuple(name for name in STRATEGIES if name != "sequential")
"""Those that wait for a batch at once, and not for one item after another."""
WITH_WORKERS: Final = ("concurrent-futures", "multiprocessing")

LARGE_BATCH_ITEMS: Final = 50
LARGE_ITEMS: Final = 3_000
"""Three shards of HOTLOOP_SHARD_ITEMS."""
_FORMS: Final = (None, None, CSV, NDJSON)

_DEMANDING: Final = (
    ("sequential", "cython"),
    ("multiprocessing", "python"),
    ("sequential", "python"),
    ("threading", "cython"),
    ("concurrent-futures", "python"),
    ("async-batch", "numba"),
)
"""Strategy and kernel of tasks most of which a weak node cannot execute."""

IDS_OF_ROUND: Final = 100_000_000
_IDS_OF_TASK: Final = 1_000_000


def healthy(kind: Kind, number: int, index: int) -> Asked:
    """Task `index` of round `number`: its items have ids that no other task's have."""
    first_id = number * IDS_OF_ROUND + index * _IDS_OF_TASK
    turn = number + index
    if kind is Kind.SHARDS:
        strategy, form = _QUICK[turn % len(_QUICK)], _FORMS[index % len(_FORMS)]
        return Asked(first_id, LARGE_ITEMS, LARGE_BATCH_ITEMS, strategy, media_type=form)
    if kind is Kind.WEAK:
        strategy, kernel = _DEMANDING[turn % len(_DEMANDING)]
    else:
        names = WITH_WORKERS if kind is Kind.WORKER else STRATEGIES
        strategy, kernel = names[turn % len(names)], "python"
    items = ITEMS if strategy in _QUICK else ITEMS // 2
    return Asked(first_id, items, BATCH_ITEMS, strategy, kernel)


def unhealthy(kind: Kind, number: int) -> Asked:
    """The task of a round that kills what executes it."""
    source = "takes-host" if kind is Kind.TAKES_HOST else "takes-node"
    first_id = number * IDS_OF_ROUND + 99 * _IDS_OF_TASK
    return Asked(first_id, ITEMS, BATCH_ITEMS, "sequential", db=source)
