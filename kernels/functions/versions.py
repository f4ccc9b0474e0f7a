"""The version of a user's function: a hash over its code, all that it reaches, and its declaration.

Equal text gives equal versions, whatever its comments, its layout and its place in the file. A
function, a class or a constant of the user's code is followed wherever a reached function names it;
of installed packages of others, the name and the version count.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

__all__ = ["code_version", "source_files"]

_PLAIN: Final = (int, float, complex, str, bytes, bool, type(None))
_INSTALLED: Final = tuple(
    {os.path.realpath(path) + os.sep for path in sysconfig.get_paths().values()}
)
_COMPILERS: Final = ("numba", "numpy")


def code_version(parts: Iterable[Callable[..., Any] | str | Path], declaration: str) -> str:
    """Return the version as 64 hexadecimal digits.

    `parts` are the function, its samplers and its batch kernels. A file counts by its bytes, and a
    kernel that is named as `module:attribute` by those of its module, which is not imported.
    """
    walk = _Walk(parts)
    walk.note("declaration", declaration)
    for package in _COMPILERS:
        walk.note(package, _version(package))
    return walk.digest()


def source_files(parts: Iterable[Callable[..., Any] | str | Path]) -> tuple[str, ...]:
    """Return the files of the user's code that the parts reach, as absolute paths."""
    return tuple(sorted(_Walk(parts).files))


class _Walk:
    """Everything that some functions reach, hashed in a fixed order."""

    def __init__(self, parts: Iterable[Callable[..., Any] | str | Path]) -> None:
        self.files: set[str] = set()
        self._notes: list[str] = []
        self._seen: set[int] = set()
        self._home: set[str] = set()
        """Top-level packages of the parts, which are the user's wherever they are installed."""
        parts = list(parts)
        for part in parts:
            if not isinstance(part, Path):
                module = part.partition(":")[0] if isinstance(part, str) else _module_name(part)
                self._home.add(module.partition(".")[0])
        for part in parts:
            if isinstance(part, Path):
                self._file(part)
            elif isinstance(part, str):
                self._named_kernel(part)
            else:
                self.reach("part", part)

    def note(self, name: str, text: str) -> None:
        self._notes.append(f"{name}={text}")

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self._notes).encode()).hexdigest()

    def reach(self, name: str, value: Any) -> None:
        """Note a value that code names, and what it reaches itself."""
        value = _plain(value)
        if isinstance(value, _PLAIN):
            self.note(name, repr(value))
        elif isinstance(value, np.ndarray):
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            self.note(name, f"{value.dtype.str}{value.shape}{digest}")
        elif isinstance(value, tuple | list | set | frozenset | dict):
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            self.note(name, f"{type(value).__name__} of {len(value)}")
            for each in value.items() if isinstance(value, dict) else items:
                self.reach(name, each)
        elif id(value) in self._seen:
            self.note(name, getattr(value, "__qualname__", "seen"))
        elif isinstance(value, FunctionType | type) and self._is_users(value):
            self._seen.add(id(value))
            self._code(name, value)
        elif isinstance(value, ModuleType):
            self.note(name, value.__name__)
        else:
            self._foreign(name, value)

    def _code(self, name: str, value: FunctionType | type) -> None:
        text = _normal_text(value)
        self.note(name, text if text is not None else _code_text(value))
        if (file := _file_of(value)) is not None:
            self.files.add(file)
        if isinstance(value, FunctionType):
            self._globals_of(value)
        else:
            for method in vars(value).values():
                if isinstance(method, FunctionType):
                    self._globals_of(method)

    def _globals_of(self, function: FunctionType) -> None:
        used = list(dict.fromkeys(_names(function.__code__)))
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.reach("default", default)
        for cell in function.__closure__ or ():
            self.reach("cell", cell.cell_contents)
        for name in used:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self.reach(name, value)
            if isinstance(value, ModuleType) and self._is_users_module(value.__name__):
                for attribute in used:
                    if hasattr(value, attribute):
                        self.reach(f"{name}.{attribute}", getattr(value, attribute))

    def _foreign(self, name: str, value: Any) -> None:
        module = _module_name(value)
        self.note(name, f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}")
        if self._is_users_module(module):  # a compiled extension of the user's
            self._file_bytes(module)
        elif module not in sys.stdlib_module_names:
            self.note(module, _version(module.partition(".")[0]))

    def _named_kernel(self, target: str) -> None:
        module = target.partition(":")[0]
        self.note("kernel", target)
        self._file_bytes(module)

    def _file_bytes(self, module: str) -> None:
        loaded = sys.modules.get(module)
        try:
            found = loaded.__spec__ if loaded is not None else find_spec(module)
        except (ImportError, ValueError, AttributeError):
            found = None
        self._file(Path(getattr(loaded, "__file__", None) or (found and found.origin) or ""))

    def _file(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError:
            self.note("file", "missing")
            return
        self.files.add(os.path.realpath(path))
        self.note("file", hashlib.sha256(content).hexdigest())

    def _is_users(self, value: Any) -> bool:
        return self._is_users_module(_module_name(value))

    def _is_users_module(self, name: str) -> bool:
        top = name.partition(".")[0]
        if top in self._home:
            return True
        if top in sys.stdlib_module_names or top == "hotloop":
            return False
        file = getattr(sys.modules.get(name), "__file__", None)
        return file is not None and not os.path.realpath(file).startswith(_INSTALLED)


def _plain(value: Any) -> Any:
    """Return the Python function behind a decorated or compiled one."""
    for _ in range(10):
        inner = getattr(value, "py_func", None) or getattr(value, "__wrapped__", None)
        if inner is None or isinstance(value, type | ModuleType):
            break
        value = inner
    return value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _normal_text(value: FunctionType | type) -> str | None:
    """Return the source without comments, docstrings and decorators; None if there is none."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # The declaration stands for hotloop's own decorator.
            node.decorator_list = []
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _code_text(value: FunctionType | type) -> str:
    if isinstance(value, FunctionType):
        code = value.__code__
        constants = [c for c in code.co_consts if isinstance(c, _PLAIN)]
        return f"{code.co_code.hex()}{constants!r}{code.co_names!r}"
    return value.__qualname__


def _file_of(value: Any) -> str | None:
    try:
        return os.path.realpath(inspect.getfile(value))
    except (OSError, TypeError):
        return None


def _module_name(value: Any) -> str:
    return str(getattr(value, "__module__", None) or type(value).__module__)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
