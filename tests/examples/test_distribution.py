"""The distribution examples/workloads: what it has, and that `pip install` brings it."""

from __future__ import annotations

import ast
import io
import tokenize
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.examples.workloads import FOLDER, WORKLOADS
from tests.fixtures.server import ROOT

PACKAGE = FOLDER / "hotloop_examples"
MOST_LINES = 40
BLANK = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> int:
    """Lines with code: neither blank, nor a comment, nor part of a docstring."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in BLANK
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            text = node.body[0]
            lines -= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return len(lines)


def test_code_lines_are_counted() -> None:
    assert code_lines('"""A.\n\nB."""\n\nx = 1  # c\n# d\ny = (\n    2)\n') == 3
    assert code_lines('def f():\n    """A."""\n    return """\n1"""\n') == 3


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_is_one_short_file(name: str) -> None:
    source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    assert 0 < code_lines(source) <= MOST_LINES
    assert [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)] == [
        name
    ]


def test_package_has_no_line_of_them() -> None:
    for folder in ("app", "kernels"):
        for path in (ROOT / folder).rglob("*.py*"):
            if path.suffix in (".py", ".pyx"):
                assert "hotloop_examples" not in path.read_text(encoding="utf-8"), path


def test_pip_installs_it_with_its_entry_points(site: Path) -> None:
    (found,) = distributions(name="hotloop-examples", path=[str(site)])
    entries = {entry.name: entry.value for entry in found.entry_points}
    assert entries == {name: f"hotloop_examples.{name}:{name}" for name in WORKLOADS}
    assert {entry.group for entry in found.entry_points} == {"hotloop.workloads"}
    assert found.requires == ["hotloop", "numpy>=2.0"]
    assert (site / "hotloop_examples" / "py.typed").is_file()
