"""Whether code names what differs from process to process: hashes of texts, the order of sets, the
process's own id. Such code is run in more processes, as two may agree by chance.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from hotloop.app.check.items.constants import plain_function

__all__ = ["depends_on_chance"]

_NAMES: Final = frozenset(
    {
        *("hash", "set", "frozenset", "id", "getpid", "getppid", "urandom", "uuid", "uuid4"),
        *("listdir", "scandir", "iterdir", "glob", "gethostname"),
        *("random", "default_rng", "time", "perf_counter", "monotonic", "time_ns", "datetime"),
        *("get_ident", "get_native_id", "current_thread", "__hash__"),
    }
)


def depends_on_chance(functions: Iterable[Any]) -> bool:
    """Return True if the modules of these functions contain a set or one of these names."""
    files = {_file_of(plain_function(function)) for function in functions}
    return any(_is_fickle(Path(file)) for file in files if file is not None)


def _file_of(function: Any) -> str | None:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if not isinstance(module, ModuleType) or module.__name__.startswith("hotloop."):
        return None
    try:
        return inspect.getsourcefile(module)
    except TypeError:  # a compiled one
        return None


def _is_fickle(file: Path) -> bool:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        name = getattr(node, "id", None) or getattr(node, "attr", None)
        if isinstance(node, ast.Name | ast.Attribute) and name in _NAMES:
            return True
    return False
