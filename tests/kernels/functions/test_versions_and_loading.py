"""What is loaded, and its version: `kernels/functions/{versions,loading}.py`, `registry.use`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop import kernels
from hotloop.kernels.functions.loading import Target, load_target, parse_target

TEXT = """
import math
import hotloop
from {helpers} import helper
LIMIT = 4.0

def used(x):
    return math.sqrt(x) + LIMIT

@hotloop.workload
def first(x: float) -> float:
    '''A docstring.'''
    return used(x) + helper(x)

@hotloop.workload(name="other")
def second(x: float) -> float:
    return x
"""
HELPERS = "TABLE = (1, 2)\ndef helper(x):\n    return x + TABLE[1]\ndef idle(x):\n    return x\n"


def written(folder: Path, text: str = TEXT, helpers: str = HELPERS) -> Path:
    """Write the modules under names of their own, because each is imported once."""
    folder.mkdir()
    name = f"helpers_{folder.name}"
    (folder / f"{name}.py").write_text(helpers)
    (folder / f"file_{folder.name}.py").write_text(text.replace("{helpers}", name))
    return folder / f"file_{folder.name}.py"


def version_of(file: Path, place: int = 0) -> str:
    source = load_target(parse_target(str(file)))[place].declaration.source
    assert source is not None
    return source.version


def test_version_depends_on_all_code_that_is_reached_and_nothing_else(tmp_path: Path) -> None:
    before = version_of(written(tmp_path / "a"))
    same = {
        "comment": (TEXT + "# more\n", HELPERS),
        "docstring": (TEXT.replace("A docstring", "Another"), HELPERS),
        "layout": (TEXT.replace("used(x) + helper(x)", "used( x )  +  helper( x )"), HELPERS),
        "other": (TEXT.replace("    return x\n", "    return 2 * x\n"), HELPERS),
        "idle": (TEXT, HELPERS.replace("    return x\n", "    return 7 * x\n")),
    }
    different = {
        "body": (TEXT.replace("+ helper(x)", "- helper(x)"), HELPERS),
        "constant": (TEXT.replace("LIMIT = 4.0", "LIMIT = 4.5"), HELPERS),
        "called": (TEXT.replace("math.sqrt(x)", "math.sin(x)"), HELPERS),
        "helper": (TEXT, HELPERS.replace("x + TABLE", "x - TABLE")),
        "table": (TEXT, HELPERS.replace("(1, 2)", "(1, 3)")),
        "annotation": (TEXT.replace("first(x: float)", "first(x: int)"), HELPERS),
    }
    # The name of the helpers' module is in no version: only what it holds counts.
    for name, (text, helpers) in same.items():
        assert version_of(written(tmp_path / name, text, helpers)) == before, name
    found = {before}
    for name, (text, helpers) in different.items():
        found.add(version_of(written(tmp_path / name, text, helpers)))
    assert len(found) == 1 + len(different)


def test_version_is_the_same_in_another_process(tmp_path: Path) -> None:
    file = written(tmp_path / "again")
    code = (
        "import sys; from hotloop.kernels.functions.loading import *;"
        "print(load_target(parse_target(sys.argv[1]))[0].declaration.source.version)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version_of(file)


def test_added_kernel_counts_by_the_bytes_of_its_module(tmp_path: Path) -> None:
    found = []
    for name, body in (("kernel_a", "pass"), ("kernel_b", "return")):
        folder = tmp_path / name
        file = written(folder, TEXT + f"\nfirst.kernel('fast', '{name}_module:f')\n")
        (folder / f"{name}_module.py").write_text(f"def f(x, result):\n    {body}\n")
        found.append(version_of(file))
    assert found[0] != found[1]
    assert "kernel_a_module" not in sys.modules, "it is imported when a kernel is needed"


def test_files_are_those_of_the_users_code(tmp_path: Path) -> None:
    file = written(tmp_path / "files")
    (first, _) = load_target(parse_target(str(file)))
    assert [Path(each).name for each in first.files] == ["file_files.py", "helpers_files.py"]


def test_targets_are_read(tmp_path: Path) -> None:
    file = written(tmp_path / "read")
    folder = str(file.parent)
    assert parse_target("a.b:c") == Target("a.b", "c")
    assert parse_target("a", tmp_path) == Target("a", folder=str(tmp_path))
    assert parse_target("file_read.py:f", file.parent) == Target(
        "file_read", "f", folder, str(file)
    )
    for text, words in {
        "": "names no workload",
        "a b": "names no workload",
        "a:b:c": "names no workload",
        "missing.py": "there is no file missing.py",
    }.items():
        with pytest.raises(kernels.WorkloadError, match=words):
            parse_target(text, tmp_path)


def test_module_is_found_in_the_folder(tmp_path: Path) -> None:
    written(tmp_path / "found")
    target = parse_target("file_found:other", tmp_path / "found")
    (second,) = load_target(target)
    assert second.name == "other"
    source = second.declaration.source
    assert source is not None
    assert (source.module, source.attribute) == ("file_found", "second")
    with pytest.raises(kernels.WorkloadError, match=r"no function 'third'.*first, second"):
        load_target(replace(target, attribute="third"))


def test_file_with_the_name_of_another_module_is_told(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def f(x: float) -> float:\n    return x\n")
    with pytest.raises(kernels.WorkloadError, match=r"another module, .*json.py:function"):
        load_target(parse_target("json:f", tmp_path))
    (f,) = load_target(parse_target("json.py", tmp_path))
    assert f(2.0) == 2.0
    assert sys.modules["json"].__name__ == "json"


def test_only_function_of_a_file_needs_no_decorator(tmp_path: Path) -> None:
    one = tmp_path / "plain_one.py"
    one.write_text("def _own(x):\n    return x\ndef f(x: float) -> float:\n    return _own(x)\n")
    assert load_target(parse_target(str(one)))[0].name == "f"
    two = tmp_path / "plain_two.py"
    two.write_text("def f(x: float) -> float:\n    return x\ndef g(x: int) -> int:\n    return x\n")
    with pytest.raises(kernels.WorkloadError, match="choose one: plain_two:f, plain_two:g"):
        load_target(parse_target(str(two)))
    assert load_target(parse_target(f"{two}:g"))[0].name == "g"


def test_use_imports_one_version(tmp_path: Path) -> None:
    (first, _) = load_target(parse_target(str(written(tmp_path / "use"))))
    source = first.declaration.source
    assert source is not None
    try:
        declared = kernels.use(source)
        assert kernels.use(source) is declared
        assert kernels.available_kernels("first") == ("python", "numba")
        assert kernels.user_function("first") is first
        items = declared.simulated_columns(np.arange(3, dtype=np.int64))
        results = [kernels.get_kernel("first", name).run(items) for name in ("python", "numba")]
        assert results[0]["result"].tolist() == results[1]["result"].tolist()
        with pytest.raises(kernels.WorkloadChangedError, match=r"has changed.*--reload"):
            kernels.use(replace(source, version="0" * 64))
    finally:
        kernels.withdraw("first")
    with pytest.raises(kernels.UnknownWorkloadError):
        kernels.get_workload("first")


def test_declaration_alone_has_no_kernels_here(tmp_path: Path) -> None:
    (first, _) = load_target(parse_target(str(written(tmp_path / "data"))))
    kernels.declare(replace(first.declaration, name="as-data"))
    try:
        assert "not imported" in (kernels.why_unavailable("as-data", "numba") or "")
        assert kernels.releases_gil("as-data", "numba")
    finally:
        kernels.withdraw("as-data")


def test_file_of_samples_counts_by_its_bytes(tmp_path: Path) -> None:
    text = (
        "import hotloop\n"
        "@hotloop.workload(columns={'x': hotloop.Float(sample='x.npy')})\n"
        "def first(x: float) -> float:\n    return x\n"
    )
    found = []
    for name, values in (("npy_a", [1.0, 2.0]), ("npy_b", [1.0, 3.0]), ("npy_c", [1.0, 2.0])):
        file = written(tmp_path / name, text)
        np.save(file.with_name("x.npy"), np.array(values))
        found.append(version_of(file))
    assert found[0] == found[2] != found[1]
