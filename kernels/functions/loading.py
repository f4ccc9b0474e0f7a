"""Finding users' workloads: by module and name, by file, and by the entry points of packages."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, cast

from hotloop.kernels.contract import WorkloadSource
from hotloop.kernels.errors import WorkloadError
from hotloop.kernels.functions.declaration import WorkloadFunction

__all__ = [
    "ENTRY_POINTS",
    "Target",
    "entry_point_targets",
    "import_source",
    "load_target",
    "parse_target",
]

ENTRY_POINTS: Final = "hotloop.workloads"
"""The group in which installed packages name their workloads."""

_TEXT: Final = re.compile(r"(?P<module>[\w.]+|.+\.py)(:(?P<attribute>\w+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """What a user wants served: the workloads of a module or a file, or one of them.

    `folder` is appended to the import path; `file` is absolute.
    """

    module: str
    attribute: str | None = None
    folder: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = self.file or self.module
        return place if self.attribute is None else f"{place}:{self.attribute}"


def parse_target(text: str, folder: Path | None = None) -> Target:
    """Read `module:name`, `module`, `file.py:name` or `file.py`.

    A module is looked for in `folder`, too, and a relative path is relative to it; without a
    folder, to the current one. A file in a package is imported as the package's module. Raises
    `WorkloadError` for another text, and for a missing file.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None or not found["module"].strip("."):
        raise WorkloadError(
            f"{text!r} names no workload; give module:function, or a file such as prices.py"
        )
    module, attribute = found["module"], found["attribute"]
    if not module.endswith(".py"):
        return Target(module, attribute, folder=None if folder is None else str(folder.absolute()))
    file = Path(folder or ".", module).absolute()
    if not file.is_file():
        raise WorkloadError(f"there is no file {module}")
    if not file.stem.isidentifier():
        raise WorkloadError(f"{file.name} cannot be imported; name it with letters, digits and _")
    top = file.parent
    while (top / "__init__.py").is_file() and top.name.isidentifier():
        top = top.parent
    if top != file.parent:  # in a package, whose modules may import each other
        parts = file.relative_to(top).with_suffix("").parts
        return Target(".".join(parts), attribute, folder=str(top))
    return Target(file.stem, attribute, folder=str(file.parent), file=str(file))


def entry_point_targets() -> tuple[Target, ...]:
    """Return the workloads that installed packages offer, in the order of their names."""
    found = sorted({each.value for each in entry_points(group=ENTRY_POINTS)})
    return tuple(Target(*_split(value)) for value in found)


def load_target(target: Target) -> tuple[WorkloadFunction[..., Any], ...]:
    """Import the workloads of a target. Runs the user's code.

    A function that is named needs no decorator, nor does the only public function of a module
    without any. Raises `WorkloadError`, and whatever the user's code raises.
    """
    module = _module(target.module, target.folder, target.file)
    if target.attribute is not None:
        found = [_as_workload(module, target.attribute)]
    else:
        found = _workloads_of(module)
    for each in found:
        each.locate(target.folder, target.file)
    return tuple(found)


def import_source(source: WorkloadSource) -> WorkloadFunction[..., Any]:
    """Import a workload from its source, whatever its version. Raises as `load_target` does."""
    target = Target(source.module, source.attribute, source.folder, source.file)
    (found,) = load_target(target)
    return found


def _split(value: str) -> tuple[str, str | None]:
    module, _, attribute = value.partition(":")
    return module.strip(), attribute.strip() or None


def _as_workload(module: ModuleType, name: str) -> WorkloadFunction[..., Any]:
    found = getattr(module, name, None)
    if isinstance(found, WorkloadFunction):
        return found
    if isinstance(getattr(found, "py_func", found), FunctionType):
        made = WorkloadFunction(cast("FunctionType", found))
        setattr(module, name, made)  # so that another look finds the same object
        return made
    # The name of a workload may differ from its function's.
    by_name = [each for each in _decorated(module) if each.name == name]
    if by_name:
        return by_name[0]
    known = ", ".join(each.function.__name__ for each in _decorated(module)) or "none"
    raise WorkloadError(f"{module.__name__} has no function {name!r}; its workloads are: {known}")


def _decorated(module: ModuleType) -> list[WorkloadFunction[..., Any]]:
    own = {id(v): v for v in vars(module).values() if isinstance(v, WorkloadFunction)}
    return list(own.values())


def _workloads_of(module: ModuleType) -> list[WorkloadFunction[..., Any]]:
    if found := _decorated(module):
        return found
    public = [
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if len(public) == 1:
        return [_as_workload(module, public[0])]
    choices = f"; choose one: {', '.join(f'{module.__name__}:{name}' for name in public)}"
    raise WorkloadError(
        f"{module.__name__} has no workload: decorate a function with @hotloop.workload"
        f"{choices if public else ''}"
    )


def _module(name: str, folder: str | None, file: str | None) -> ModuleType:
    if folder is not None and folder not in sys.path:
        # At the end, so that a file of the user's hides no module of anybody's.
        sys.path.append(folder)
    if file is None:
        found = import_module(name)
        _check_place(found, name, folder)
        return found
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == file:
        return known
    # A file may have the name of a module that others import.
    if known is not None or name in sys.stdlib_module_names:
        name = f"_hotloop_file_{name}"
        if getattr(sys.modules.get(name), "__file__", None) == file:
            return sys.modules[name]
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_place(module: ModuleType, name: str, folder: str | None) -> None:
    """Refuse an installed module where a file of the same name in the folder was meant."""
    if folder is None:
        return
    here = Path(folder, *name.split(".")).with_suffix(".py")
    file = getattr(module, "__file__", None)
    if here.is_file() and (file is None or Path(file).resolve() != here.resolve()):
        raise WorkloadError(
            f"{name!r} is the name of another module, {file or 'a built-in one'}; rename "
            f"{here.name}, or name the file: {here.name}:function"
        )
