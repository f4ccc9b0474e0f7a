"""app/check/chance.py: code that may give other results in another process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.check import certify
from hotloop.app.check.chance import depends_on_chance
from tests.check.quick import written


def function_of(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return the function `f` of a module with this text."""
    path = folder / "some_module.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("some_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "some_module", module)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = module.f
    return found


@pytest.mark.parametrize(
    "text",
    [
        "def f(x): return hash(str(x))",
        "TOTAL = sum(len(n) for n in {'a', 'b'})\ndef f(x): return x",
        "import os\ndef f(x): return x + os.getpid() % 2",
        "def f(x): return [y for y in set((x, 1))]",
    ],
)
def test_code_of_chance_is_seen(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert depends_on_chance([function_of(tmp_path, text, monkeypatch)])


def test_arithmetic_is_no_matter_of_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import math\nTABLE = {1: 2.0}\ndef f(x): return math.sqrt(x) + TABLE[1]"
    assert not depends_on_chance([function_of(tmp_path, text, monkeypatch), len, None])


@pytest.mark.long
def test_results_that_two_processes_share_by_chance_are_found(tmp_path: Path) -> None:
    # One text's hash decides, which may have this remainder under the first two seeds.
    certificate = certify(
        written(tmp_path, "if hash('another text') % 5 == 0:\n    y += 1e-9"),
        seconds=40,
        folder=tmp_path,
    )
    found = {each.point for each in certificate.findings}
    assert "determinism" in found or "parity" in found


@pytest.mark.long
def test_module_that_computes_other_constants_each_time_is_found(tmp_path: Path) -> None:
    spec = written(tmp_path)
    path = tmp_path / "quick.py"
    text = path.read_text().replace("STATE = {}", "STATE = {}\nSHIFT = os.getpid() * 1e-9")
    path.write_text(text.replace("return x, n % 7", "return x + SHIFT, n % 7"))
    certificate = certify(spec, seconds=20, folder=tmp_path)
    (finding, *_) = (each for each in certificate.findings if each.point == "determinism")
    assert finding.kernel == "python"
    assert "the module has another version in another process" in finding.seen
