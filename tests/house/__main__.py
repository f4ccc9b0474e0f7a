"""`python -m tests.house`: print the figures, and write docs/house.svg and docs/architecture.md."""

from __future__ import annotations

from typing import Final

from tests.fixtures.sections import replaced, table
from tests.house.code import ROOT, House
from tests.house.figures import figures, untested
from tests.house.picture import picture

PICTURE: Final = ROOT / "docs" / "house.svg"
PAGE: Final = ROOT / "docs" / "architecture.md"
COMMAND: Final = "make house"


def main() -> None:
    house = House()
    found = figures(house)
    for figure in found:
        print(f"{figure.what:<82} {figure.before:>8} {figure.aim:>10} {figure.now:>16}")
    for name in untested(house):
        print(f"no test is found for {name}")
    PICTURE.write_text(picture(house), encoding="utf-8")
    rows = [(figure.what, figure.before, figure.aim, figure.now) for figure in found]
    lines = table(("", "before the redesign", "aim", "now"), rows)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), "figures", COMMAND, lines))


if __name__ == "__main__":
    main()
