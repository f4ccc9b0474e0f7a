"""app/cli/checking.py, app/cli/certificate_table.py: `hotloop check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.check import certificate_of
from hotloop.app.check.certificate import Certificate
from tests.check.quick import written
from tests.fixtures.command_line import answer, hotloop, refusal

pytestmark = pytest.mark.long

TWO = """
import hotloop

@hotloop.workload
def double(x: float) -> float:
    return x + x

@hotloop.workload
def half(x: float) -> float:
    return x * 0.5
"""


def check(folder: Path, *arguments: str, code: int) -> Any:
    return answer("check", *arguments, "--seconds", "15", code=code, cwd=folder)


def test_certificate_is_printed_and_kept(tmp_path: Path) -> None:
    done = hotloop("check", written(tmp_path), "--seconds", "15", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "data" / "certificates").iterdir()
    certificate = Certificate.from_json(json.loads(kept.read_text()))
    first, *lines = done.stdout.splitlines()
    assert first == f"work: passed, certificate {certificate.hash}"
    assert any(line.split()[:3] == ["parity", "–", "passed"] for line in lines)
    assert any(line.startswith("version") and certificate.version in line for line in lines)
    assert certificate_of(tmp_path / "data", certificate.version[:12]) == certificate


def test_finding_is_printed_with_an_example_and_what_to_do(tmp_path: Path) -> None:
    spec = written(tmp_path, "m[n == 500] = 8")
    done = hotloop("check", spec, "--seconds", "15", "--data-dir", "kept", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "work: FAILED, certificate " in done.stdout
    assert "m is 8, python gives 3" in done.stdout
    assert "n = 500" in done.stdout
    assert "To do: " in done.stdout
    assert (tmp_path / "kept" / "certificates").is_dir()
    assert not (tmp_path / "data").exists()


def test_json_has_every_workload_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    found = check(tmp_path, "two.py", code=0)
    assert found["passed"] is True
    assert [each["workload"] for each in found["certificates"]] == ["double", "half"]
    for each in found["certificates"]:
        assert Certificate.from_json(each).passed


def test_json_of_a_fault(tmp_path: Path) -> None:
    found = check(tmp_path, written(tmp_path, "y += 1e-9"), code=1)
    assert found["passed"] is False
    (certificate,) = found["certificates"]
    assert certificate["findings"][0]["kernel"] == "numba"
    assert certificate["findings"][0]["example"]["columns"]


def test_module_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    words = refusal("check", "broken.py", cwd=tmp_path)
    assert "broken.py cannot be imported: ModuleNotFoundError" in words
    assert not (tmp_path / "data").exists()


def test_seconds_have_bounds(tmp_path: Path) -> None:
    words = refusal("check", "loops", "--seconds", "0", cwd=tmp_path)
    assert words == "--seconds must be from 1 to 3,600, not 0.0\n"
