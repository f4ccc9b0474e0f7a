"""The page shows own workloads with their state, and the reason of one that is not served."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.browser import Page
from tests.fixtures.own_modules import AREA, write
from tests.fixtures.server import running_server

pytestmark = pytest.mark.long


def test_table_of_kernels_has_the_reasons(tmp_path: Path, page: Page) -> None:
    good, bad = write(tmp_path, "area", AREA), write(tmp_path, "broken", "def f(")
    data = tmp_path / "data"
    data.mkdir()
    with running_server(data, workloads=f"{good},{bad}") as server:
        server.wait_ready()
        page.open(f"{server.url}/dashboard#run")
        page.wait(
            "document.querySelector('#view')?.textContent.includes('not served')", "the reason"
        )
        text = page.text("#view")
        assert f"{bad}" in text
        assert "not served: SyntaxError: " in text
        assert "broken.py:1" in text
        assert "area · numba" in text
    assert page.faults == []
