"""The structure of the code: modules, wings, imports, lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PACKAGE: Final = "hotloop"

BASE: Final = "base"
"""The wing of the modules that lie in app/ itself, but for those that put the others together."""

ASSEMBLY: Final = ("factory", "wiring")
"""Modules that put the wings together: a wing each."""


@dataclass(frozen=True)
class Module:
    """A file of Python or Cython."""

    name: str
    """The import name without the package: `app.http.routes.runs`."""
    path: Path

    @property
    def wing(self) -> str:
        """The folder of app/ that it lies in; `kernels`; BASE or itself for one without."""
        parts = self.name.split(".")
        if parts[0] == "kernels":
            return "kernels"
        if len(parts) > 2 or self.path.stem == "__init__":
            return parts[1] if len(parts) > 1 else BASE
        return parts[1] if parts[1] in ASSEMBLY else BASE

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def lines(self) -> int:
        return self.text.count("\n")

    @cached_property
    def tree(self) -> ast.Module:
        """Empty for a file of Cython."""
        return ast.parse(self.text if self.path.suffix == ".py" else "")

    @cached_property
    def sentence(self) -> str:
        """The first sentence of its docstring."""
        text = " ".join((ast.get_docstring(self.tree) or "").split())
        return text.partition(". ")[0].rstrip(".") + "."

    def import_lines(self) -> int:
        """Lines that its import statements take, those within functions included."""
        return sum(
            (node.end_lineno or node.lineno) - node.lineno + 1
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        )

    def imported(self) -> Iterator[str]:
        """Names that could be modules of this package, without it."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                base = (node.module or "").removeprefix(PACKAGE).lstrip(".")
                for alias in node.names:
                    yield f"{base}.{alias.name}".lstrip(".")
                    yield base
            elif isinstance(node, ast.Import):
                yield from (
                    alias.name.removeprefix(f"{PACKAGE}.")
                    for alias in node.names
                    if alias.name.startswith(f"{PACKAGE}.")
                )


class House:
    """All modules of app/ and kernels/, and who imports whom."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        paths = [
            path
            for folder in ("app", "kernels")
            for path in sorted((root / folder).rglob("*.py*"))
            if path.suffix in (".py", ".pyx")
        ]
        self.modules = {name: Module(name, path) for name, path in map(self._named, paths)}

    def _named(self, path: Path) -> tuple[str, Path]:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules that each module imports. A package whose submodule is named counts only
        for what it defines itself.
        """
        found = {}
        for module in self.modules.values():
            names = list(module.imported())
            exact = {name for name in names if name in self.modules}
            packages = {name for name in exact if any(n.startswith(f"{name}.") for n in exact)}
            found[module.name] = exact - packages - {module.name}
        return found

    @cached_property
    def wings(self) -> dict[str, list[Module]]:
        found: dict[str, list[Module]] = {}
        for module in self.modules.values():
            found.setdefault(module.wing, []).append(module)
        return found

    @cached_property
    def wing_imports(self) -> dict[str, set[str]]:
        """The wings that the modules of each wing import."""
        found: dict[str, set[str]] = {wing: set() for wing in self.wings}
        for name, imported in self.imports.items():
            wing = self.modules[name].wing
            found[wing] |= {self.modules[other].wing for other in imported} - {wing}
        return found

    def floors(self) -> list[list[str]]:
        """The wings from the top floor to the ground: each lies above all that it imports."""
        level: dict[str, int] = {}

        def height(wing: str, above: tuple[str, ...] = ()) -> int:
            if wing not in level:
                below = self.wing_imports[wing] - set(above)
                level[wing] = 1 + max((height(w, (*above, wing)) for w in sorted(below)), default=0)
            return level[wing]

        for wing in self.wings:
            height(wing)
        return [
            sorted(wing for wing in level if level[wing] == floor)
            for floor in sorted(set(level.values()), reverse=True)
        ]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of nodes that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
