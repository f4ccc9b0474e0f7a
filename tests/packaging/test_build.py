"""Builds in a copy of the project, with and without a working C compiler."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
EXTENSION = f"kernels/loops/_cython{sysconfig.get_config_var('EXT_SUFFIX')}"
BROKEN_COMPILERS = ("false", "/nonexistent/compiler")

METADATA = """
[project]
name = "copy"
version = "0"

[tool.setuptools]
packages = ["hotloop", "hotloop.kernels", "hotloop.kernels.loops"]
[tool.setuptools.package-dir]
"hotloop" = "hotloop"
"hotloop.kernels" = "kernels"
"""
REPORT = """
import numpy
from hotloop import kernels
print(kernels.__file__)
print(*kernels.available_kernels("loops"))
print(kernels.why_unavailable("loops", "cython"))
batch = {"value": numpy.zeros(1), "offset": numpy.zeros(1, dtype=numpy.int64)}
for name in kernels.available_kernels("loops"):
    print(name, kernels.get_kernel("loops", name).run(batch)["nested"][0])
"""
# Every length of a batch up to two blocks, and every number of terms up to two.
PARITY = """
import numpy
from hotloop import kernels
random = numpy.random.default_rng(0)
value, offset = random.uniform(0.0, 1e6, 130), random.integers(0, 2**31, 130)
def results(kernel):
    for n in range(131):
        parameters = {"cpu_iterations": n, "outer_iterations": 3, "inner_iterations": n}
        yield kernel.run({"value": value[:n], "offset": offset[:n]}, parameters)
numba = list(results(kernels.get_kernel("loops", "numba")))
for name in kernels.instruction_sets("loops", "cython"):
    cython = results(kernels.get_kernel("loops", "cython", name))
    for got, expected in zip(cython, numba, strict=True):
        assert all(got[column].tobytes() == expected[column].tobytes() for column in got)
    print("equal:", name)
"""
OUT_OF_BOUNDS = """
import numpy
from hotloop.kernels.loops import _cython
for size in 2, 9:
    try:
        _cython.loop(numpy.zeros(size), 1, numpy.zeros(size - 1))
    except IndexError as error:
        print("IndexError:", error)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of what a build reads, with little metadata and nothing built."""
    folder = tmp_path / "source"
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    shutil.copytree(ROOT / "kernels", folder / "kernels", ignore=unwanted)
    shutil.copytree(ROOT / "hotloop", folder / "hotloop", symlinks=True)
    shutil.copy(ROOT / "setup.py", folder)
    (folder / "pyproject.toml").write_text(METADATA)
    return folder


def python(
    *arguments: str, cwd: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    unset = ("CC", "CFLAGS", "PYTHONPATH", "HOTLOOP_REQUIRE_CYTHON", "HOTLOOP_BUILD_DEBUG")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def build(source: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return python("setup.py", *command, cwd=source, variables=variables)


def test_working_compiler_builds_every_kernel(source: Path) -> None:
    built = build(source, "build", "--build-lib", "target", HOTLOOP_REQUIRE_CYTHON="1")
    assert built.returncode == 0, built.stderr
    assert "-ffp-contract=off" in built.stdout
    assert "-march=" not in built.stdout
    assert "-ffast-math" not in built.stdout
    lines = (built.stdout + built.stderr).splitlines()
    assert not [line for line in lines if "warning:" in line and "kernels/loops" in line]
    assert not list((source / "kernels").rglob("*.c"))
    report = python("-W", "error", "-c", REPORT, cwd=source / "target")
    assert report.stdout.splitlines() == [
        str(source / "target" / "hotloop" / "kernels" / "__init__.py"),
        "python cython numba",
        "None",
        "python 9388000",
        "cython 9388000",
        "numba 9388000",
    ], report.stderr


@pytest.mark.parametrize("compiler", BROKEN_COMPILERS)
def test_broken_compiler_builds_without_cython_and_warns(source: Path, compiler: str) -> None:
    built = build(source, "build", "--build-lib", "target", CC=compiler)
    assert built.returncode == 0, built.stderr
    assert "the cython kernel was NOT built" in built.stderr
    assert "HOTLOOP_REQUIRE_CYTHON=1 makes this an error" in built.stderr
    report = python("-W", "error", "-c", REPORT, cwd=source / "target")
    lines = report.stdout.splitlines()
    assert lines[0].startswith(str(source)), report.stderr
    assert lines[1] == "python numba"
    assert "was not built; install a C compiler" in lines[2]
    assert lines[3:] == ["python 9388000", "numba 9388000"]


@pytest.mark.parametrize("compiler", BROKEN_COMPILERS)
def test_broken_compiler_fails_the_build_when_cython_is_required(
    source: Path, compiler: str
) -> None:
    built = build(source, "build_ext", "--inplace", CC=compiler, HOTLOOP_REQUIRE_CYTHON="1")
    assert built.returncode != 0
    assert (
        "hotloop: HOTLOOP_REQUIRE_CYTHON=1, but no hotloop.kernels.loops._cython was built"
        in built.stderr
    )
    assert "Traceback" not in built.stderr
    assert not (source / EXTENSION).exists()


def test_failed_build_removes_an_earlier_extension(source: Path) -> None:
    target = source / "target"
    for folder in (source, target):
        (folder / EXTENSION).parent.mkdir(parents=True, exist_ok=True)
        (folder / EXTENSION).write_bytes(b"built before")
    built = build(source, "build_ext", "--inplace", "--build-lib", "target", CC="false")
    assert built.returncode == 0, built.stderr
    assert not (source / EXTENSION).exists()
    assert not (target / EXTENSION).exists()


def test_debug_build_checks_bounds(source: Path) -> None:
    built = build(
        source, "build_ext", "--inplace", HOTLOOP_REQUIRE_CYTHON="1", HOTLOOP_BUILD_DEBUG="1"
    )
    assert built.returncode == 0, built.stderr
    report = python("-c", OUT_OF_BOUNDS, cwd=source)
    assert report.stdout.count("IndexError: Out of bounds") == 2, report.stderr
    assert list((source / "build").rglob("_cython.html"))
    parity = python("-W", "error", "-c", PARITY, cwd=source)
    assert parity.stdout.splitlines()[-1] == "equal: baseline", parity.stderr


def test_nogil_code_does_not_use_python_objects(source: Path) -> None:
    """A check for an exception or a reference count there would take the GIL, or worse, not."""
    assert build(source, "build_ext", CC="false").returncode == 0  # looked at, not compiled
    generated = (source / "build/cython/hotloop/kernels/loops/_cython.c").read_text()
    without_comments = re.sub(r"/\*.*?\*/", "", generated, flags=re.DOTALL)
    regions = re.findall(
        r"= PyEval_SaveThread\(\);(.*?)PyEval_RestoreThread\(", without_comments, re.DOTALL
    )
    assert len(regions) == 2  # one for each function: released once, around the whole loop
    bookkeeping = {"__Pyx_FastGIL_Remember", "__Pyx_FastGIL_Forget"}
    for region in regions:
        assert "level->" in region
        assert set(re.findall(r"\b_*Py\w+(?=\s*\()", region)) <= bookkeeping
