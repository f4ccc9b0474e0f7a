"""app/check/certificate.py, app/check/storage.py, app/check/names.py."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from hotloop.app.check import (
    Certificate,
    Certificates,
    Checked,
    CheckedKernel,
    Finding,
    Status,
    certificate_of,
    keep,
)
from hotloop.app.check.storage import version_of
from hotloop.app.version import VERSION
from hotloop.kernels.loops import LOOPS
from tests.fixtures.own_code import RATIOS, declaration, write_module

VERSION_OF_CODE = "0123456789abcdef" * 4

PASSED = Certificate(
    workload="work",
    version=VERSION_OF_CODE,
    kernels=(CheckedKernel("python"), CheckedKernel("fast"), CheckedKernel("rust", "not built")),
    points=(Checked("fast", "parity", Status.PASSED, "1,000 items"),),
    findings=(),
    notes=("a note",),
    versions={"python": "3.13.0", "numpy": "2.4.0"},
    machine="Linux x86_64, a processor",
    date="2026-01-01T00:00:00+00:00",
    seconds=1.5,
)
FAILED = dataclasses.replace(
    PASSED,
    points=(Checked("fast", "parity", Status.FAILED, "1,000 items"),),
    findings=(Finding("fast", "parity", "y is 1.0, python gives 2.0", "do it", {"columns": {}}),),
)


@pytest.mark.parametrize("certificate", [PASSED, FAILED])
def test_json_keeps_everything(certificate: Certificate) -> None:
    text = json.dumps(certificate.to_json(), allow_nan=False)
    assert Certificate.from_json(json.loads(text)) == certificate


def test_hash_is_of_what_was_found_and_not_of_when(  # nor of how much there was time for
) -> None:
    other = dataclasses.replace(
        PASSED,
        date="2027-01-01T00:00:00+00:00",
        seconds=9.0,
        notes=(),
        points=(Checked("fast", "parity", Status.PASSED, "2,000 items"),),
    )
    assert other.hash == PASSED.hash
    assert len(PASSED.hash) == 16
    assert int(PASSED.hash, 16) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "f" * 64},
        {"machine": "another"},
        {"versions": {"python": "3.14.0", "numpy": "2.4.0"}},
        {"points": FAILED.points},
        {"kernels": PASSED.kernels[:2]},
    ],
)
def test_hash_changes_with_the_content(changes: dict[str, object]) -> None:
    assert dataclasses.replace(PASSED, **changes).hash != PASSED.hash  # type: ignore[arg-type]


def test_results_are_marked() -> None:
    assert PASSED.mark("fast") == PASSED.hash
    assert FAILED.mark("fast") == "failed"
    assert FAILED.mark("python") == FAILED.hash
    assert PASSED.mark("rust") is None
    assert PASSED.mark("unknown") is None
    assert PASSED.passed
    assert not FAILED.passed


def test_certificate_is_found_by_the_version_long_or_short(tmp_path: Path) -> None:
    keep(tmp_path / "data", FAILED)
    keep(tmp_path / "data", PASSED)
    for version in (VERSION_OF_CODE, VERSION_OF_CODE[:12]):
        assert certificate_of(tmp_path / "data", version) == PASSED
    assert certificate_of(tmp_path / "data", "f" * 64) is None
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["certificates"]


@pytest.mark.parametrize("version", ["", "..", "../x", "a/b", "\0"])
def test_version_is_no_path(version: str, tmp_path: Path) -> None:
    assert certificate_of(tmp_path, version) is None


def test_file_that_was_changed_is_no_certificate(tmp_path: Path) -> None:
    path = keep(tmp_path, FAILED)
    text = path.read_text()
    path.write_text(text.replace('"failed"', '"passed"'))
    assert certificate_of(tmp_path, VERSION_OF_CODE) is None
    path.write_text("{}")
    assert certificate_of(tmp_path, VERSION_OF_CODE) is None
    path.write_text(text.replace('"format": 1', '"format": 99'))
    assert certificate_of(tmp_path, VERSION_OF_CODE) is None


def test_built_in_workload_has_the_version_of_hotloop(tmp_path: Path) -> None:
    assert version_of(LOOPS) == f"loops-{VERSION}"
    path = keep(tmp_path, dataclasses.replace(PASSED, version=version_of(LOOPS)))
    assert path.exists()
    assert certificate_of(tmp_path, version_of(LOOPS)) is not None


def test_own_workload_has_the_version_of_its_code(tmp_path: Path) -> None:
    workload = declaration(write_module(tmp_path, "ratios", RATIOS))
    assert workload.source is not None
    assert version_of(workload) == workload.source.version


def test_marks_follow_the_files(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    assert certificates.mark("work", VERSION_OF_CODE[:12], "fast") is None
    path = keep(tmp_path, PASSED)
    assert certificates.mark("work", VERSION_OF_CODE[:12], "fast") == PASSED.hash
    assert certificates.mark("work", VERSION_OF_CODE[:12], "rust") is None
    assert certificates.mark("other", VERSION_OF_CODE[:12], "fast") is None
    keep(tmp_path, FAILED)
    os.utime(path, (1, 1))  # whatever the clock of the file system can tell apart
    assert certificates.mark("work", VERSION_OF_CODE, "fast") == "failed"
    path.unlink()
    assert certificates.mark("work", VERSION_OF_CODE, "fast") is None


def test_built_in_workloads_are_marked_without_a_version(tmp_path: Path) -> None:
    keep(tmp_path, dataclasses.replace(PASSED, workload="loops", version=version_of(LOOPS)))
    assert Certificates(tmp_path).mark("loops", None, "fast") is not None
    assert Certificates(tmp_path).mark("growth", None, "fast") is None
