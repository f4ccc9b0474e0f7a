"""The benchmark of the kernels: its peers compute the same, its table says what was measured."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.kernels import Measurement, Report, as_json, markdown
from benchmarks.peers import numpy_items, plain_numba
from benchmarks.peers.build import build_cython_peer
from hotloop import kernels
from tests.kernels.cases import mixed_columns

REPORT = Report(
    machine={"processor": "any"},
    versions={"Python": "3.11.0"},
    rounds=3,
    compile_seconds=0.5,
    measurements=[
        Measurement("loop", "python", 1, 2400.0, 2300.0, 2500.0),
        Measurement("loop", "cython (avx2+fma)", 512, 20.0, 19.0, 21.0),
        Measurement("loop", "peer: plain Cython", 32, 200.0, 199.0, 201.0),
        Measurement("nested", "cython (avx2+fma)", 1, 4.0, 3.0, 5.0),
    ],
)


@pytest.fixture(
    scope="module",
    params=[pytest.param("plain_cython", marks=pytest.mark.long), "plain_numba", "numpy_items"],
)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    modules: dict[str, ModuleType] = {"plain_numba": plain_numba, "numpy_items": numpy_items}
    if request.param in modules:
        return modules[request.param]
    return build_cython_peer(request.param, tmp_path_factory.mktemp("peer"))


def test_peers_agree_with_the_python_kernel(peer: Any) -> None:
    columns = mixed_columns(5)
    parameters = {"cpu_iterations": 50, "outer_iterations": 7, "inner_iterations": 9}
    expected = kernels.get_kernel("loops", "python").run(columns, parameters)
    out = {name: np.empty_like(column) for name, column in expected.items()}
    peer.loop(columns["value"], 50, out["loop"])
    peer.nested(columns["offset"], 7, 9, out["nested"])
    np.testing.assert_allclose(out["loop"], expected["loop"], rtol=1e-10)
    assert out["nested"].tolist() == expected["nested"].tolist()


def test_table_has_every_measurement_with_its_speedups() -> None:
    lines = markdown(REPORT).splitlines()
    assert "| python | 1 | 2,400.00 | 2,300.00 to 2,500.00 | 0.08 | 1.00 |" in lines
    assert "| cython (avx2+fma) | 512 | 20.00 | 19.00 to 21.00 | 10.00 | 120.00 |" in lines
    assert "| cython (avx2+fma) | 1 | 4.00 | 3.00 to 5.00 | – | – |" in lines
    assert [line for line in lines if line.startswith("### ")] == ["### loop", "### nested"]
    assert "Medians of 3 interleaved rounds" in lines[0]


def test_report_is_json(tmp_path: Path) -> None:
    plain = json.loads(json.dumps(as_json(REPORT)))
    assert plain["measurements"][1]["median_us"] == 20.0
    assert plain["rounds"] == 3
