"""Kernels that crash, hang, leave or eat memory, and modules that cannot be imported.

app/check/processes.py, app/check/children.py, app/check/__main__.py, app/check/config.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from hotloop.app.check import Certificate, Finding, Status, UnloadableError, certify, describe
from tests.check.quick import KERNEL, certified, written

long = pytest.mark.long


def finding(certificate: Certificate) -> Finding:
    """Return the finding at the point `runs`."""
    (found,) = (each for each in certificate.findings if each.point == "runs")
    return found


def checks_below() -> list[psutil.Process]:
    """Return the processes of a check that are still there."""
    below = psutil.Process(os.getpid()).children(recursive=True)
    return [p for p in below if "hotloop.app.check" in " ".join(p.cmdline())]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("if len(x) == 65:\n    ctypes.string_at(0)", "the process was ended by SIGSEGV"),
        pytest.param(
            "if turns == 300:\n    os.abort()", "the process was ended by SIGABRT", marks=long
        ),
        pytest.param("os._exit(0)", "the process ended with status 0", marks=long),
        pytest.param("np.ones(20 << 30, dtype=np.int8)", "MemoryError", marks=long),
        pytest.param("raise RuntimeError('never')", "RuntimeError: never", marks=long),
        pytest.param("raise SystemExit(3)", "SystemExit: 3", marks=long),
    ],
)
def test_kernel_that_ends_its_process_is_a_finding(code: str, words: str, tmp_path: Path) -> None:
    certificate = certified(tmp_path, code)
    found = finding(certificate)
    assert found.kernel == KERNEL
    assert words in found.seen
    # The other kernel was checked all the same.
    states = {each.point: each.status for each in certificate.points if each.kernel == "python"}
    assert states["batch"] is Status.PASSED
    assert checks_below() == []


@long
@pytest.mark.parametrize("code", ["time.sleep(1000)", "while True:\n    pass"])
def test_kernel_that_never_returns_is_a_finding(code: str, tmp_path: Path) -> None:
    certificate = certified(
        tmp_path, f"if turns == 300:\n    {code.replace(chr(10), chr(10) + '    ')}"
    )
    assert "it never returns: turns at its maximum" in finding(certificate).seen
    assert checks_below() == []


def test_integer_without_an_upper_bound_is_a_note_and_no_finding(tmp_path: Path) -> None:
    (tmp_path / "grow.py").write_text(
        "def grow(start: float, steps: int = 100) -> float:\n"
        "    for _ in range(steps):\n"
        "        start = start * 0.5 + 1.0\n"
        "    return start\n"
    )
    certificate = certify(f"{tmp_path / 'grow.py'}:grow", seconds=15)
    assert certificate.findings == ()
    assert any("steps has no upper bound" in note for note in certificate.notes)


@long
def test_function_that_raises_for_every_item_is_a_finding(tmp_path: Path) -> None:
    spec = written(tmp_path)
    path = tmp_path / "quick.py"
    path.write_text(path.read_text().replace("return x, n % 7", "return x, n % 0"))
    certificate = certify(spec, seconds=10, folder=tmp_path)
    found = finding(certificate)
    assert found.kernel == "python"
    assert "ZeroDivisionError" in found.seen


@long
def test_sample_that_cannot_be_used_is_a_finding(tmp_path: Path) -> None:
    spec = written(tmp_path)
    path = tmp_path / "quick.py"
    text = path.read_text().replace(
        "hotloop.Integer(0, 1000)", "hotloop.Integer(0, 1000, sample=made)"
    )
    path.write_text(
        text.replace("STATE = {}", "STATE = {}\n\n\ndef made(ids):\n    return ids + 2000")
    )
    found = finding(certify(spec, seconds=10, folder=tmp_path))
    assert "the simulated items cannot be used: column 'n' must be from 0 to 1000" in found.seen


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import nowhere_to_be_found",
            "ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os\nos._exit(4)", "the process ended with status 4"),
        ("x = 1", "has no workload"),
        ("def f(x) -> float: return 0.0", "needs a declaration"),
    ],
)
def test_module_that_cannot_be_imported_says_why(code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(code + "\n")
    with pytest.raises(UnloadableError, match=words):
        certify("broken.py", seconds=10, folder=tmp_path)
    assert checks_below() == []


def test_kernel_that_cannot_be_loaded_is_a_finding(tmp_path: Path) -> None:
    spec = written(tmp_path)
    path = tmp_path / "quick.py"
    path.write_text(path.read_text() + "work.kernel('rust', 'nowhere_at_all:batch')\n")
    certificate = certify(spec, seconds=15, folder=tmp_path)
    found = finding(certificate)
    assert found.kernel == "rust"
    assert "it cannot be loaded: ModuleNotFoundError" in found.seen
    assert certificate.mark("rust") == "failed"
    assert certificate.kernel_passed(KERNEL)


@long
def test_function_that_numba_cannot_compile_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "texts.py").write_text(
        "def digits(x: float) -> int:\n    return len({*str(x).partition('.')[0]})\n"
    )
    certificate = certify("texts.py:digits", seconds=20, folder=tmp_path)
    assert certificate.passed
    (python, derived) = certificate.kernels
    assert python.reason is None
    assert derived.reason is not None
    assert certificate.mark("numba") is None


def test_unknown_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnloadableError, match=r"there is no file nowhere\.py"):
        certify("nowhere.py", folder=tmp_path)


def test_description_names_the_kernels(tmp_path: Path) -> None:
    found = describe(written(tmp_path), folder=tmp_path)
    assert found.workload == "work"
    assert found.kernels == ("python", KERNEL)


@long
def test_what_the_user_prints_is_not_in_the_way(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    certificate = certified(tmp_path, "print('noise')", seconds=5)
    assert certificate.passed
    assert capfd.readouterr() == ("", "")
