"""Settings and order of all tests, and a workload for any of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from hotloop import kernels

# Nothing here may depend on how fast the machine is, nor fail for a change that did not cause it.
settings.register_profile("hotloop", deadline=None, derandomize=True)
settings.load_profile("hotloop")

SLOW_FIRST: Final = (
    "test_docs.py",
    "pinot",
    "chaos",
    "end_to_end",
    "web",
    "cli",
    "packaging",
    "examples",
    "runhost",
    "tasks",
)
"""Slow tests start first, so that no worker waits for them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        first = item.path.relative_to(tests).parts[0]
        return SLOW_FIRST.index(first) if first in SLOW_FIRST else len(SLOW_FIRST)

    items.sort(key=place)


@pytest.fixture
def signals() -> Iterator[kernels.Workload]:
    """The workload with values of every kind, declared during the test."""
    from tests.fixtures.third_workload import WORKLOAD

    kernels.declare(WORKLOAD)
    yield WORKLOAD
    kernels.withdraw(WORKLOAD.name)
