"""The check of a workload's kernels, and its certificate.

`certify` never imports the user's code into this process. What is named here is imported when first
used: the API process only reads certificates.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hotloop.app.check.certificate import Certificate, Checked, CheckedKernel, Finding
    from hotloop.app.check.certifying import Described, certify, certify_all, describe
    from hotloop.app.check.names import POINTS, Point, Status
    from hotloop.app.check.processes import CheckFailedError, UnloadableError
    from hotloop.app.check.storage import Certificates, certificate_of, keep

__all__ = [
    "POINTS",
    "Certificate",
    "Certificates",
    "CheckFailedError",
    "Checked",
    "CheckedKernel",
    "Described",
    "Finding",
    "Point",
    "Status",
    "UnloadableError",
    "certificate_of",
    "certify",
    "certify_all",
    "describe",
    "keep",
]

_MODULES: Final = {
    **dict.fromkeys(("Certificate", "Checked", "CheckedKernel", "Finding"), "certificate"),
    **dict.fromkeys(("Described", "certify", "certify_all", "describe"), "certifying"),
    **dict.fromkeys(("POINTS", "Point", "Status"), "names"),
    **dict.fromkeys(("Certificates", "certificate_of", "keep"), "storage"),
    **dict.fromkeys(("CheckFailedError", "UnloadableError"), "processes"),
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
