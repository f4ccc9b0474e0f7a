"""Checks that cells which must agree have equal outputs.

Checksums are compared within each group of kernels that must agree bit for bit (rules 1 and 3 of
`kernels.contract`), over the first items that all cells of the group measured, so that a cell on
few items is compared with cells on all. Between the two groups, `python` and the compiled kernels,
a sample of rows must agree within the parity bound (rule 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hotloop.app.comparison.record import CellId, CellRecord, ComparisonRecord
from hotloop.kernels.contract import REFERENCE


@dataclass(frozen=True, slots=True)
class Difference:
    """Cells whose outputs must be equal and differ."""

    cells: tuple[CellId, ...]
    detail: str


def prefixes(record: ComparisonRecord, kernel: str) -> list[int]:
    """Return the numbers of first items over which `kernel` needs checksums: the sizes of all cells
    in its group.
    """
    reference, compiled = _bit_for_bit(record.cells)
    peers = reference if kernel == REFERENCE else compiled
    return sorted({size.items for cell in peers for size in cell.sizes})


def differences(record: ComparisonRecord) -> list[Difference]:
    """Return all differences between outputs seen so far."""
    found: list[Difference] = []
    for group in _bit_for_bit(record.cells):
        found += _within(group)
    by_parity = [Difference(_compared_by_parity(record), fault) for fault in record.parity_faults]
    return found + by_parity


def compared_cells(record: ComparisonRecord) -> set[CellId]:
    """Return the measured cells whose outputs were compared with another measured cell's."""
    timed = [cell for cell in record.cells if cell.timed and not cell.is_skipped]
    found: set[CellId] = set()
    for cells in _bit_for_bit(timed):
        found |= set().union(*(ids for ids in _sources(cells).values() if len(ids) > 1))
    if record.parity_checked:
        by_parity = {cell.cell for cell in timed if cell.cell.kernel in record.rows}
        found |= by_parity if len(by_parity) > 1 else set()
    return found


def _bit_for_bit(cells: Sequence[CellRecord]) -> tuple[list[CellRecord], ...]:
    """Group the cells whose outputs must be equal bit for bit: `python` cells, and the rest."""
    reference = [cell for cell in cells if cell.cell.kernel == REFERENCE]
    return reference, [cell for cell in cells if cell not in reference]


def _within(cells: Iterable[CellRecord]) -> list[Difference]:
    found = []
    known: set[frozenset[CellId]] = set()
    for items, by_text in sorted(_by_checksum(cells).items(), reverse=True):
        if len(by_text) < 2:
            continue
        # The most frequent checksum is probably right; report each of the others once.
        order = sorted(by_text, key=lambda text: (-len(by_text[text]), text))
        for text in order[1:]:
            odd = tuple(sorted(by_text[text]))
            if frozenset(odd) not in known:
                known.add(frozenset(odd))
                detail = f"checksums over {items:,} items differ: {order[0]} and {text}"
                found.append(Difference((*odd, min(by_text[order[0]])), detail))
    return found


def _by_checksum(cells: Iterable[CellRecord]) -> dict[int, dict[str, set[CellId]]]:
    """Return the cells by number of items and checksum, without samples with failed items."""
    found: dict[int, dict[str, set[CellId]]] = {}
    for cell in cells:
        for sample in cell.samples:
            if not sample.failed_items:
                for items, text in sample.checksums.items():
                    found.setdefault(int(items), {}).setdefault(text, set()).add(cell.cell)
    return found


def _sources(cells: Sequence[CellRecord]) -> dict[int, set[CellId]]:
    return {items: set().union(*by_text.values()) for items, by_text in _by_checksum(cells).items()}


def _compared_by_parity(record: ComparisonRecord) -> tuple[CellId, ...]:
    cells = [c.cell for c in record.cells if c.samples and c.cell.kernel in record.rows]
    return tuple(sorted(cells))
