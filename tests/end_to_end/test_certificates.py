"""A service shows the certificates that `hotloop check` keeps in its data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotloop.app.check import certify, keep
from tests.check.quick import KERNEL, written
from tests.fixtures.server import running_server

pytestmark = pytest.mark.long

FEW = {"workload": "work", "items_count": 100, "db": "none", "cache": "none"}


def test_results_and_kernels_carry_the_mark_of_their_certificate(tmp_path: Path) -> None:
    data, code = tmp_path / "data", tmp_path / "code"
    code.mkdir()
    certificate = certify(written(code, "y += 1e-9"), seconds=15, folder=code)
    assert certificate.mark(KERNEL) == "failed"
    keep(data, certificate)
    with running_server(data, workloads=str(code / "quick.py")) as server:
        server.wait_ready()
        marks = {}
        for kernel in ("python", KERNEL):
            answer = server.client.post("/api/v1/tasks/threading", json=FEW | {"kernel": kernel})
            assert answer.status_code == 200, answer.text
            result = answer.json()
            marks[kernel] = result["certificate"], result["flags"]
            view = server.view(result["task_id"])
            assert view["result"]["certificate"] == result["certificate"]
        assert marks == {
            "python": (certificate.hash, []),
            KERNEL: ("failed", ["failed-check"]),
        }
        listed = {
            (each["workload"], each["kernel"]): each["certificate"]
            for each in server.client.get("/api/v1/tasks/kernels").json()["kernels"]
        }
    assert listed["work", KERNEL] == "failed"
    assert listed["work", "python"] == certificate.hash
    assert listed["loops", "python"] is None
