"""The check of a workload's kernels, and its certificate.

`certify` never imports the user's code into this process.
"""

from hotloop.app.check.certificate import Certificate, Checked, CheckedKernel, Finding
from hotloop.app.check.certify import (
    Described,
    UnloadableError,
    certify,
    certify_all,
    describe,
)
from hotloop.app.check.names import POINTS, Point, Status
from hotloop.app.check.storage import certificate_of, keep

__all__ = [
    "POINTS",
    "Certificate",
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
