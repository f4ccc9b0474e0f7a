"""The workload with values of every kind, declared for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotloop import kernels
from hotloop.kernels import Workload
from tests.fixtures.third_workload import WORKLOAD


@pytest.fixture
def signals() -> Iterator[Workload]:
    kernels.declare(WORKLOAD)
    yield WORKLOAD
    kernels.withdraw(WORKLOAD.name)
