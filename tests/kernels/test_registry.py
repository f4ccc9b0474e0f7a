"""Names, lazy loading, and the reasons of kernels that cannot be loaded."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier
from types import ModuleType

import numpy as np
import pytest

from hotloop import kernels
from hotloop.kernels import Implementation, Kernel, registry
from hotloop.kernels.loops import LOOPS
from tests.fixtures.own_code import RATIOS, declaration, forget, write_module

REFERENCE = "hotloop.kernels.loops._python"


def use_module(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let the cython kernel of a fresh registry come from `module`."""
    monkeypatch.setattr(registry, "_loaded", {})
    cython = Implementation("cython", module)
    implementations = tuple(cython if k.kernel == "cython" else k for k in LOOPS.kernels)
    loops = dataclasses.replace(LOOPS, kernels=implementations)
    monkeypatch.setattr(registry, "_declared", {"loops": loops})


def use_source(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    """Let the cython kernel of a fresh registry come from a module with this source."""
    (folder / "strange_kernel.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "strange_kernel", raising=False)
    use_module(monkeypatch, "strange_kernel")


def test_known_kernels_are_named_in_order() -> None:
    assert kernels.workloads() == ("loops",)
    assert kernels.known_kernels("loops") == ("python", "cython", "numba")


def test_available_kernels_are_the_known_ones_without_a_reason() -> None:
    assert kernels.available_kernels("loops") == tuple(
        name
        for name in kernels.known_kernels("loops")
        if kernels.why_unavailable("loops", name) is None
    )
    assert "python" in kernels.available_kernels("loops")


def test_kernel_describes_itself(kernel: Kernel) -> None:
    assert kernel.workload is kernels.get_workload("loops")
    assert kernel.releases_gil is (kernel.name != "python")
    best = next(iter(kernels.instruction_sets("loops", kernel.name)), None)
    assert kernel.instruction_set == best
    assert (kernel.instruction_set is None) is (kernel.name == "python")
    assert repr(kernel).startswith(f"Kernel(name={kernel.name!r}, releases_gil=")
    assert len(repr(kernel)) < 120


def test_get_kernel_returns_one_object(kernel: Kernel) -> None:
    assert kernels.get_kernel("loops", kernel.name) is kernel
    assert kernels.get_kernel("loops", str(kernel.name)) is kernel


def test_unknown_workload_lists_the_choices() -> None:
    for function in (kernels.get_workload, kernels.known_kernels, kernels.available_kernels):
        with pytest.raises(kernels.UnknownWorkloadError, match="'loop'; choose one of: loops"):
            function("loop")
    with pytest.raises(kernels.UnknownWorkloadError):
        kernels.why_unavailable("loop", "python")


@pytest.mark.parametrize("name", ["rust", "", "Python", "PYTHON", " python"])
def test_unknown_kernel_lists_the_choices(name: str) -> None:
    for function in (kernels.get_kernel, kernels.why_unavailable):
        with pytest.raises(
            kernels.UnknownKernelError, match="choose one of: python, cython, numba"
        ):
            function("loops", name)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere_to_be_found", "the package nowhere_to_be_found is missing; install it"),
        ("raise ImportError('libx.so:\\n no such file')", "ImportError: libx.so: no such file;"),
        ("raise RuntimeError('wrong ABI')", "failed with RuntimeError: wrong ABI; repair"),
        ("INSTRUCTION_SETS = {}", "has no attribute 'loop'"),
    ],
)
def test_failed_import_is_kept_as_a_one_line_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, reason: str
) -> None:
    use_source(monkeypatch, tmp_path, source)
    given = kernels.why_unavailable("loops", "cython")
    assert given is not None
    assert reason in given
    assert "\n" not in given
    assert "cython" not in kernels.available_kernels("loops")
    assert "cython" in kernels.known_kernels("loops")
    with pytest.raises(kernels.KernelUnavailableError) as caught:
        kernels.get_kernel("loops", "cython")
    assert caught.value.name == "cython"
    assert caught.value.reason == given


def test_extension_that_was_not_built_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use_module(monkeypatch, "hotloop.kernels.loops._absent")
    reason = kernels.why_unavailable("loops", "cython")
    assert reason is not None
    assert "hotloop.kernels.loops._absent was not built; install a C compiler" in reason


def test_kernel_is_imported_once_when_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    use_module(monkeypatch, REFERENCE)
    imported: list[str] = []

    def counting_import(name: str) -> ModuleType:
        imported.append(name)
        return import_module(name)

    monkeypatch.setattr(registry, "import_module", counting_import)
    barrier = Barrier(8)

    def ask() -> Kernel:
        barrier.wait()
        return kernels.get_kernel("loops", "cython")

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask) for _ in range(8)]
        assert len({id(future.result()) for future in futures}) == 1
    assert imported == [REFERENCE]


def test_importing_the_package_loads_no_kernel_and_no_numba() -> None:
    code = (
        "import sys\n"
        "from hotloop import kernels\n"
        "kernels.get_workload('loops').operations()\n"
        "assert 'numpy' not in sys.modules\n"
        "kernels.get_kernel('loops', 'python').warm_up()\n"
        "heavy = ('numba', 'fastapi', 'hotloop.app')\n"
        "loaded = [n for n in sys.modules if n.startswith(heavy)]\n"
        "loaded += [n for n in sys.modules if n.endswith(('_cython', '_numba'))]\n"
        "assert not [n for n in loaded if not n.startswith('numpy')], loaded\n"
    )
    root = Path(kernels.__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, check=True, timeout=60)


def test_only_the_python_kernel_holds_the_gil_and_nothing_is_imported_to_say_so() -> None:
    known = kernels.known_kernels("loops")
    assert [name for name in known if not kernels.releases_gil("loops", name)] == ["python"]
    assert [n for n in known if not kernels.get_kernel("loops", n).releases_gil] == ["python"]
    with pytest.raises(kernels.UnknownKernelError):
        kernels.releases_gil("loops", "rust")


def test_used_workload_takes_the_place_of_its_declaration_as_data(tmp_path: Path) -> None:
    """Else its columns could not be made up, and its kernels would count as not imported."""
    file = write_module(tmp_path, "ratios", RATIOS)
    as_data = declaration(file)
    columns = tuple(dataclasses.replace(column, sampler=None) for column in as_data.columns_in)
    as_data = dataclasses.replace(as_data, columns_in=columns)
    assert as_data.source is not None
    try:
        kernels.declare(as_data)
        assert "not imported" in str(kernels.why_unavailable("ratios", "python"))
        used = kernels.use(as_data.source)
        assert used == as_data
        made_up = kernels.get_workload("ratios").simulated_columns(np.arange(3))
        assert made_up["divisor"].tolist() == [0, 1, 2]
        assert kernels.why_unavailable("ratios", "python") is None
        kernels.withdraw("ratios")
        assert kernels.use(as_data.source) == as_data
        assert "ratios" in kernels.workloads()
    finally:
        kernels.withdraw("ratios")
        forget(file)
