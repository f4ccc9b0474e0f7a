"""CPU-heavy work behind FastAPI: any strategy, any kernel, measured, off the event loop.

    import hotloop

    @hotloop.workload
    def area(radius: float) -> float:
        return 3.141592653589793 * radius * radius

`hotloop serve area.py` then serves the function. What is named here is imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hotloop.app.serving.in_app import Hotloop, Results
    from hotloop.kernels.errors import WorkloadError
    from hotloop.kernels.functions.columns import Bool, Choice, Float, Integer, Scratch
    from hotloop.kernels.functions.declaration import WorkloadFunction, workload

__all__ = [
    "Bool",
    "Choice",
    "Float",
    "Hotloop",
    "Integer",
    "Results",
    "Scratch",
    "WorkloadError",
    "WorkloadFunction",
    "workload",
]

_MODULES: Final = {
    **dict.fromkeys(("Bool", "Choice", "Float", "Integer", "Scratch"), "kernels.functions.columns"),
    **dict.fromkeys(("WorkloadFunction", "workload"), "kernels.functions.declaration"),
    **dict.fromkeys(("Hotloop", "Results"), "app.serving.in_app"),
    "WorkloadError": "kernels.errors",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hotloop.{_MODULES[name]}"), name)
