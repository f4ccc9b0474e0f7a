"""A real Pinot for a module's tests, where the jars of one are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pinot.real import Pinot, running_pinot


@pytest.fixture(scope="module")
def pinot() -> Iterator[Pinot]:
    """Two servers with half of the flights each; a test leaves it whole."""
    jars = os.environ.get("PINOT_JARS")
    if not jars:
        pytest.skip("no real Pinot: PINOT_JARS is not set; `make pinot` fetches one")
    with running_pinot(Path(jars).resolve(), servers=2) as pinot:
        yield pinot
