"""Fixtures: every known kernel, warmed up once in a session."""

import os

import pytest

import kernels
from kernels import Kernel, KernelName

WORKLOAD = "loops"


def require_kernel(name: KernelName) -> Kernel:
    """Return the kernel ready to run; skip without it, or fail where every kernel is required."""
    reason = kernels.why_unavailable(WORKLOAD, name)
    if reason is not None:
        if os.environ.get("HOTLOOP_REQUIRE_CYTHON") == "1":
            pytest.fail(f"{name} is unavailable: {reason}")
        pytest.skip(f"{name} kernel not built: {reason}")
    kernel = kernels.get_kernel(WORKLOAD, name)
    kernel.warm_up()
    return kernel


@pytest.fixture(scope="session", params=kernels.known_kernels(WORKLOAD), ids=str)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return require_kernel(request.param)


@pytest.fixture(scope="session", params=[KernelName.CYTHON, KernelName.NUMBA], ids=str)
def compiled(request: pytest.FixtureRequest) -> Kernel:
    return require_kernel(request.param)


@pytest.fixture(scope="session")
def python() -> Kernel:
    return require_kernel(KernelName.PYTHON)


@pytest.fixture(scope="session")
def cython() -> Kernel:
    return require_kernel(KernelName.CYTHON)


@pytest.fixture(scope="session")
def numba() -> Kernel:
    return require_kernel(KernelName.NUMBA)
