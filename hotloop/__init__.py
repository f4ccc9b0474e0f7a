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
    from hotloop.app.client.blocking import Client
    from hotloop.app.client.client import AsyncClient, Progress
    from hotloop.app.client.sending import ProblemError, UnreachableError
    from hotloop.app.client.tables import Results
    from hotloop.app.serving.in_app import Hotloop
    from hotloop.kernels.errors import WorkloadError
    from hotloop.kernels.functions.columns import Bool, Choice, Float, Integer, Scratch
    from hotloop.kernels.functions.declaration import WorkloadFunction, workload

__all__ = [
    "AsyncClient",
    "Bool",
    "Choice",
    "Client",
    "Float",
    "Hotloop",
    "Integer",
    "ProblemError",
    "Progress",
    "Results",
    "Scratch",
    "UnreachableError",
    "WorkloadError",
    "WorkloadFunction",
    "workload",
]

_MODULES: Final = {
    **dict.fromkeys(("Bool", "Choice", "Float", "Integer", "Scratch"), "kernels.functions.columns"),
    **dict.fromkeys(("WorkloadFunction", "workload"), "kernels.functions.declaration"),
    "Client": "app.client.blocking",
    **dict.fromkeys(("AsyncClient", "Progress"), "app.client.client"),
    **dict.fromkeys(("ProblemError", "UnreachableError"), "app.client.sending"),
    "Results": "app.client.tables",
    "Hotloop": "app.serving.in_app",
    "WorkloadError": "kernels.errors",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hotloop.{_MODULES[name]}"), name)
