"""Bodies of the requests, and the checksums of their right results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Final

from hotloop.app.names import StrategyName
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.checksum import checksum_text
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from hotloop.kernels import known_kernels
from tests.fixtures.plans import SMALL, expected_checksum, make_plan

CELLS: Final = sorted(product(LOCAL_STRATEGIES, known_kernels("loops")))
COUNTS: Final = (60, 240, 600)
SLOW_ITEMS: Final = 240
COMPARED_ITEMS: Final = 60
_COMMON: Final[dict[str, Any]] = {"batch_size": 40, "workers": 2, "parameters": SMALL}
_NO_STAGES: Final = {"db": "none", "cache": "none"}
_STAGES: Final = {"db_delay_ms": 1, "redis_delay_ms": [0, 1]}
_SLOW_STAGES: Final = {"db_delay_ms": 4, "redis_delay_ms": [0, 1]}


@dataclass(frozen=True, slots=True)
class Body:
    """A request body and the checksums it must lead to, by kernel."""

    fields: dict[str, Any]
    items: int
    kernel: str | None = None

    @property
    def checksum(self) -> str:
        assert self.kernel is not None
        return right_checksum(self.kernel, self.items)


def run_body(number: int) -> tuple[str, Body]:
    """The strategy and the body: every strategy × kernel in turn, every second with stages."""
    strategy, kernel = CELLS[number % len(CELLS)]
    later = number // len(CELLS)
    items = COUNTS[(number + later) % len(COUNTS)]
    stages = _STAGES if (number + later) % 2 else _NO_STAGES
    fields = _COMMON | stages | {"items_count": items, "kernel": kernel}
    return strategy.value, Body(fields, items, kernel)


def background_body(number: int) -> Body:
    strategy, body = run_body(number)
    return Body(body.fields | {"strategy": strategy}, body.items, body.kernel)


def slow_body() -> Body:
    """A background task that goes on for a while after its first event."""
    fields = _COMMON | _SLOW_STAGES | {"strategy": "sequential", "kernel": "cython"}
    return Body(fields | {"items_count": SLOW_ITEMS}, SLOW_ITEMS, "cython")


def comparison_body(number: int) -> Body:
    """Two strategies × two kernels, another two each time."""
    strategies, kernel_names = LOCAL_STRATEGIES, list(known_kernels("loops"))
    chosen = {
        "strategies": [strategies[(number + i) % len(strategies)].value for i in (0, 2)],
        "kernels": [kernel_names[(number + i) % len(kernel_names)] for i in (0, 1)],
    }
    limits = {"items_count": COMPARED_ITEMS, "rounds": 1, "budget_seconds": 5, "exact": True}
    return Body(_COMMON | _NO_STAGES | chosen | limits, COMPARED_ITEMS)


@cache
def right_checksum(kernel: str, items: int) -> str:
    """The checksum of a direct call in this process. Cython stands for both compiled kernels, which
    must agree to the bit.
    """
    direct = "python" if kernel == "python" else "cython"
    plan = make_plan(StrategyName.SEQUENTIAL, kernel=direct, items=GeneratedItems(items))
    return checksum_text(expected_checksum(plan))
