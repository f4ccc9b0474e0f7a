"""Figures of the structure, with what they are to come to."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.house.code import House, Module, circles

MEASURED: Final = (
    "setup_seconds",
    "io_seconds",
    "cpu_seconds",
    "cpu_utilization",
    "peak_memory_bytes",
    "effective_workers",
)
"""Some fields of what a run measures: a file that names four of them lists them."""

FORMS: Final = (
    "app.schemas.runs:BackgroundRequest",
    "app.tasks.spec:TaskSpec",
    "app.tasks.model:Task",
    "app.tasks.tables:tasks",
    "app.tasks.claims:Claim",
    "app.execution.context:Work",
    "app.strategies.base:Plan",
    "app.runhost.messages:RunCommand",
)
"""The forms of the body of a background task, one after the other, until it is computed."""

SELF_EVIDENT: Final = ("__init__", "__main__")

_NAME: Final = re.compile(r"\b[a-z]\w*(?:[./]\w+)+")
_LIST: Final = re.compile(r"(\w+)\.(\w+(?:, \w+)*):")


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    what: str
    before: str
    aim: str
    now: str


def figures(house: House) -> list[Figure]:
    app = [module for module in house.modules.values() if module.name.split(".")[0] == "app"]
    lines = sum(module.lines for module in house.modules.values())
    imports = sum(module.import_lines() for module in house.modules.values())
    sizes = {wing: sum(m.lines for m in modules) for wing, modules in house.wings.items()}
    biggest = max(sizes, key=lambda wing: sizes[wing])
    share = sizes[biggest] / sum(module.lines for module in app)
    tests = list((house.root / "tests").rglob("*.py"))
    return [
        Figure("files in `app/` (Python)", "281", "≤ 190", f"{len(app)}"),
        Figure("lines in `app/` and `kernels/`", "35,546", "≤ 27,500", f"{lines:,}"),
        Figure("imports, share of lines", "9.7 %", "≤ 6.5 %", f"{imports / lines:.1%}"),
        Figure("biggest wing, share of `app/`", "28 %", "≤ 11 %", f"{share:.0%} ({biggest})"),
        Figure("wings that import a higher one", "5", "0", f"{len(circles(house.wing_imports))}"),
        Figure("circles of files", "3", "0", f"{len(circles(house.imports))}"),
        Figure("forms that a background body passes through", "13", "≤ 8", f"{len(FORMS)}"),
        Figure(
            "files in which a run's measurements are listed by name",
            "16",
            "≤ 5",
            f"{sum(map(_lists_measurements, app))}",
        ),
        Figure(
            "modules with a test at the mirrored path, or named in its topic test's first line",
            "39 %",
            "≥ 90 %",
            f"{1 - len(untested(house)) / len(_testable(house)):.0%}",
        ),
        Figure("lines of tests", "45,626", "≤ 34,000", f"{sum(map(_count_lines, tests)):,}"),
    ]


def untested(house: House) -> list[str]:
    """Modules that no test is found for: neither at `tests/<wing>/test_<module>.py`, nor named, as
    `wing.module`, in the first line of a test's docstring. After the first name of a list its
    wing is left out: `tasks.rows, store, folder: what the test is about`.
    """
    named = _named_in_docstrings(house.root / "tests")
    return [module.name for module in _testable(house) if not _is_tested(house, module, named)]


def _testable(house: House) -> list[Module]:
    return [module for module in house.modules.values() if module.path.stem not in SELF_EVIDENT]


def _is_tested(house: House, module: Module, named: set[str]) -> bool:
    parts = module.name.split(".")
    folder = house.root / "tests" / Path(*parts[1:-1] if parts[0] == "app" else parts[:-1])
    mirrored = folder / f"test_{parts[-1].strip('_')}.py"
    return mirrored.exists() or ".".join(parts[-2:]) in named


def _named_in_docstrings(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("test_*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        line = text.partition("\n")[0]
        found |= {name.replace("/", ".").removesuffix(".py") for name in _NAME.findall(line)}
        if (listed := _LIST.match(line)) is not None:
            wing, first = listed[1], listed[2]
            found |= {f"{wing}.{name.strip()}" for name in first.split(",")}
    return found


def _lists_measurements(module: Module) -> bool:
    return sum(field in module.text for field in MEASURED) >= 4


def _count_lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")
