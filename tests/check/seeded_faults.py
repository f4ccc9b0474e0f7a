"""Modules of own workloads with a known fault: ten classes of twenty, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import BASES, Draft, Recipe, draw
from tests.check.kernels import module_text
from tests.check.recipes_batches import BATCHES
from tests.check.recipes_chance import CHANCE
from tests.check.recipes_gil import GIL
from tests.check.recipes_inputs import INPUTS
from tests.check.recipes_memory import BOUNDS, MEMORY
from tests.check.recipes_numbers import COST, NUMBERS, ONLY_HERE
from tests.check.recipes_threads import THREADS
from tests.check.recipes_values import PRECISION, VALUES

SEED: Final = 20_250

OF_EACH: Final = 20

_DRAWN: Final[Mapping[str, Sequence[tuple[tuple[Recipe, ...], int]]]] = {
    "wrong_value": [(VALUES, OF_EACH)],
    "precision": [(PRECISION, OF_EACH)],
    "batch": [(BATCHES, OF_EACH)],
    "threads": [(THREADS, OF_EACH)],
    "gil": [(GIL, OF_EACH)],
    "inputs": [(INPUTS, OF_EACH)],
    "unwritten": [(MEMORY, OF_EACH)],
    "numbers": [(NUMBERS, OF_EACH)],
    "chance": [(CHANCE, OF_EACH)],
    "cost_and_bounds": [(COST, OF_EACH // 2), (BOUNDS, OF_EACH // 2)],
}


@dataclass(frozen=True)
class Fault:
    """A module with a fault: its class `kind`, its text, what is wrong in `words`.

    `shows` names the proof that finds it. Wrong is the kernel `batch` of the workload `base.name`,
    or, for a fault `in_declaration`, what is declared of all kernels.
    """

    name: str
    kind: str
    words: str
    base: Base
    text: str
    shows: str
    cost: Mapping[str, str] | str | None

    @property
    def in_declaration(self) -> bool:
        return self.cost != self.base.cost


@cache
def seeded_faults() -> tuple[Fault, ...]:
    """Draw all faults."""
    found = []
    for kind, parts in _DRAWN.items():
        rng = random.Random(f"{SEED} {kind}")
        bases = BASES + ONLY_HERE if kind == "numbers" else BASES
        drafts = [d for recipes, count in parts for d in draw(rng, recipes, count, bases)]
        found += [_fault(kind, number, draft) for number, draft in enumerate(drafts, 1)]
    return tuple(found)


def _fault(kind: str, number: int, draft: Draft) -> Fault:
    base = draft.kernel.base
    return Fault(
        name=f"{kind}_{number:02d}",
        kind=kind,
        words=f"{base.name}: {draft.words}",
        base=base,
        text=module_text(draft.kernel, draft.cost),
        shows=draft.shows,
        cost=draft.cost or base.cost,
    )
