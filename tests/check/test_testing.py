"""hotloop/testing.py: the check as tests of pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotloop import testing
from tests.check.quick import written
from tests.fixtures.server import ROOT, plain_environment

PLUGINS = ("-p", "hotloop.testing", "-p", "no:cacheprovider")


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            *PLUGINS,
            *arguments,
        ],
        cwd=folder,
        env=plain_environment() | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.long
def test_tests_of_a_file_pass_for_a_correct_kernel(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "test_quick.py").write_text(
        "from hotloop.testing import certificate_tests\n"
        "test_certificate = certificate_tests('quick:work', seconds=15)\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "PASSED test_quick.py::test_certificate[numba-parity]" in done.stdout
    assert "it is declared to keep the GIL" in done.stdout


@pytest.mark.long
def test_option_adds_tests_and_a_fault_fails_its_own(tmp_path: Path) -> None:
    written(tmp_path, "m[n == 500] = 8")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    done = run_pytest(tmp_path, "--hotloop", "quick.py:work", "--hotloop-seconds", "15")
    assert done.returncode == 1, done.stdout
    assert "PASSED test_other.py::test_other" in done.stdout
    assert "FAILED quick.py:work::numba-edges" in done.stdout
    assert "PASSED quick.py:work::numba-runs" in done.stdout
    assert "m is 8, python gives 3" in done.stdout
    assert "To do: " in done.stdout


def test_module_that_cannot_be_imported_is_one_failure(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_at_all\n")
    done = run_pytest(tmp_path, "--hotloop", "broken.py")
    assert done.returncode == 1, done.stdout
    assert "FAILED broken.py::import-import" in done.stdout
    assert "broken.py cannot be imported: ModuleNotFoundError" in done.stdout


def test_without_the_option_nothing_is_added_or_imported(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    assert 'hotloop.testing' in sys.modules\n"
        "    heavy = {'numpy', 'numba', 'psutil', 'hotloop.app', 'hotloop.kernels'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-W", "error")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_modules_are_found_as_pytest_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "/somewhere/tests", sys.prefix + "/lib", "/else"])
    monkeypatch.setenv("PYTHONPATH", "/first")
    path = testing._environment()["PYTHONPATH"]
    assert path == "/first:/somewhere/tests:/else"
