"""Each seeded fault is one, and each correct kernel is correct: proved without the check."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.check.correct_kernels import Correct, correct_kernels
from tests.check.proofs import Bench
from tests.check.proving import PROOFS, bounds, bounds_checked, cost, gil, threads
from tests.check.seeded_faults import OF_EACH, Fault, seeded_faults
from tests.fixtures.server import ROOT

ALWAYS = ("values", "batches", "inputs", "memory", "repeats")


def load(folder: Path, name: str, text: str) -> ModuleType:
    """Write a module into a folder and import it."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest() -> str:
    """Return a hash of all texts, to compare the generator in different processes."""
    texts = [fault.text for fault in seeded_faults()]
    texts += [correct.text for correct in correct_kernels()]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def test_there_are_twenty_faults_of_each_class_and_no_two_alike() -> None:
    faults = seeded_faults()
    assert set(Counter(fault.kind for fault in faults).values()) == {OF_EACH}
    assert len({fault.kind for fault in faults}) == 10
    assert len({fault.text for fault in faults}) == len({fault.name for fault in faults}) == 200
    assert len({fault.words for fault in faults}) > 195
    for fault in faults:
        ast.parse(fault.text)


def test_there_are_thirty_correct_kernels() -> None:
    found = correct_kernels()
    assert len(found) == len({each.text for each in found}) == 30


def test_modules_are_the_same_in_every_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.check.test_material import digest; print(digest())"],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "4321"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::numba.NumbaWarning")
@pytest.mark.parametrize("fault", seeded_faults(), ids=lambda fault: fault.name)
def test_fault_shows(fault: Fault, tmp_path: Path) -> None:
    if fault.shows == "bounds":
        with bounds_checked():
            seen = bounds(Bench(fault.base, load(tmp_path, fault.name, fault.text)))
    else:
        bench = Bench(fault.base, load(tmp_path, fault.name, fault.text))
        seen = cost(bench, fault.cost) if fault.shows == "cost" else PROOFS[fault.shows](bench)
    assert seen, fault.words


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("correct", correct_kernels(), ids=lambda correct: correct.name)
def test_correct_kernel_shows_nothing(correct: Correct, tmp_path: Path) -> None:
    bench = Bench(correct.base, load(tmp_path, correct.name, correct.text))
    seen = {name: PROOFS[name](bench) for name in ALWAYS}
    seen["threads"] = threads(bench, seconds=1.0)
    seen["cost"] = cost(bench, correct.base.cost)
    if correct.kernel.releases_gil:
        seen["gil"] = gil(bench)
    with bounds_checked():
        seen["bounds"] = bounds(Bench(correct.base, load(tmp_path, correct.name, correct.text)))
    assert not {name: words for name, words in seen.items() if words}, correct.words
