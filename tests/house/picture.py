"""The picture of the house: a box for each wing, each on a floor above all that it imports."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import Final

from tests.house.code import BASE, House, Module

WIDTH: Final = 1_160
MARGIN: Final = 30
GAP: Final = 14
PADDING: Final = 12
LINE: Final = 16
CHARACTER: Final = 7.3
"""Width of a letter of the small text."""

COLOURS: Final = ("#e8eef9", "#e6f3ec", "#fbf1e0", "#f6e9ef", "#ece9f8")

SENTENCES: Final = {BASE: "What every wing may use."}
"""Descriptions of wings without a docstring."""


def picture(house: House) -> str:
    """The house as an SVG image. It changes with modules, their wings, and who imports whom."""
    shapes: list[str] = []
    y = 64
    floors = house.floors()
    for number, wings in enumerate(floors):
        widths = _widths(house, wings)
        texts = [
            _text(house, wing, int((width - 2 * PADDING) / CHARACTER))
            for wing, width in zip(wings, widths, strict=True)
        ]
        height = 2 * PADDING + LINE * max(map(len, texts)) + 2
        x = MARGIN
        for width, lines in zip(widths, texts, strict=True):
            shapes.append(_box((x, y, width, height), COLOURS[number % len(COLOURS)], lines))
            x += width + GAP
        y += height + GAP
    roof = f'<path d="M{MARGIN - 16} 58 L{WIDTH / 2:.0f} 8 L{WIDTH - MARGIN + 16} 58 Z" />'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" '
            f'viewBox="0 0 {WIDTH} {y + 10}" role="img" aria-label="The wings of Hotloop">',
            "<style>text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#222}"
            ".name{font-weight:bold;font-size:15px}.files{fill:#555}"
            "path{fill:#c9d3e6}rect{stroke:#9aa7bd}</style>",
            f'<rect width="{WIDTH}" height="{y + 10}" fill="#fff" stroke="none" />',
            roof,
            f'<text x="{WIDTH / 2:.0f}" y="46" text-anchor="middle">'
            "imports go down only: each wing stands above all that it imports</text>",
            *shapes,
            "</svg>\n",
        ]
    )


def _widths(house: House, wings: Sequence[str]) -> list[int]:
    """Boxes of a floor share its width by the modules that they name."""
    free = WIDTH - 2 * MARGIN - GAP * (len(wings) - 1)
    weights = [6 + len(house.wings[wing]) for wing in wings]
    return [free * weight // sum(weights) for weight in weights]


def _text(house: House, wing: str, columns: int) -> list[tuple[str, str]]:
    """Lines of a box, each with its class: the sentence, then the names of the modules."""
    modules = house.wings[wing]
    sentence = SENTENCES.get(wing) or _main(modules).sentence
    names = sorted({_shown(module) for module in modules} - {""})
    return [
        ("name", wing),
        *(("says", line) for line in textwrap.wrap(sentence, columns)),
        *(("files", line) for line in textwrap.wrap("  ".join(names), columns)),
    ]


def _main(modules: Sequence[Module]) -> Module:
    """The package itself, or the only module."""
    return next((m for m in modules if m.path.stem == "__init__"), modules[0])


def _shown(module: Module) -> str:
    """The module within its wing: `routes/runs`; nothing for a package, or a wing of one file."""
    if module.path.stem.startswith("__"):
        return ""
    parts = module.name.split(".")
    if len(parts) == 2 and module.wing not in (BASE, "kernels"):
        return ""
    return "/".join(parts[1 if module.wing in (BASE, "kernels") else 2 :])


def _box(place: tuple[int, int, int, int], colour: str, lines: Sequence[tuple[str, str]]) -> str:
    """A box at x and y, with its width and height, and the lines in it."""
    x, y, width, height = place
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}" />'
    texts = [
        f'<text x="{x + PADDING}" y="{y + PADDING + LINE * number - 3}" class="{kind}">'
        f"{escape(text)}</text>"
        for number, (kind, text) in enumerate(lines, start=1)
    ]
    return "\n".join([box, *texts])
