"""Fixtures: every known kernel, warmed up once in a session."""

import os

import pytest

from hotloop import kernels
from hotloop.kernels import Kernel, KernelUnavailableError

WORKLOAD = "loops"


def require_kernel(name: str, instruction_set: str | None = None) -> Kernel:
    """Return the kernel ready to run; skip without it, or fail where every kernel is required."""
    reason = kernels.why_unavailable(WORKLOAD, name)
    if reason is not None:
        if os.environ.get("HOTLOOP_REQUIRE_CYTHON") == "1":
            pytest.fail(f"{name} is unavailable: {reason}")
        pytest.skip(f"{name} kernel not built: {reason}")
    kernel = kernels.get_kernel(WORKLOAD, name, instruction_set)
    kernel.warm_up()
    return kernel


@pytest.fixture(scope="session", params=kernels.known_kernels(WORKLOAD), ids=str)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return require_kernel(request.param)


def compiled_forms() -> list[tuple[str, str | None]]:
    """Return every compiled kernel with each instruction set that this machine has for it."""
    forms: list[tuple[str, str | None]] = []
    for name in ("cython", "numba"):
        try:
            forms += [(name, choice) for choice in kernels.instruction_sets(WORKLOAD, name)]
        except KernelUnavailableError:
            forms.append((name, None))
    return forms


@pytest.fixture(scope="session", params=compiled_forms(), ids=lambda form: f"{form[0]} {form[1]}")
def compiled(request: pytest.FixtureRequest) -> Kernel:
    """Each compiled kernel with each instruction set."""
    return require_kernel(*request.param)


@pytest.fixture(scope="session")
def python() -> Kernel:
    return require_kernel("python")


@pytest.fixture(scope="session")
def cython() -> Kernel:
    return require_kernel("cython")


@pytest.fixture(scope="session")
def numba() -> Kernel:
    return require_kernel("numba")
