"""The setting that forces an instruction set: shown, obeyed by run hosts and workers, same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hotloop import kernels
from tests.fixtures.server import ROOT, plain_environment, running_server

pytestmark = pytest.mark.long

SETS = (
    kernels.instruction_sets("loops", "cython")
    if "cython" in kernels.available_kernels("loops")
    else ()
)


@pytest.mark.parametrize("name", SETS)
def test_every_instruction_set_gives_the_same_checksum(name: str, tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1, instruction_set=name) as server:
        listed = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
        assert [k["instruction_set"] for k in listed if k["kernel"] == "cython"] == [name]
        checksums = set()
        for strategy in ("threading", "multiprocessing"):
            for kernel in ("cython", "numba"):
                answer = server.run(
                    strategy,
                    items_count=130,
                    batch_size=65,
                    workers=2,
                    db="none",
                    cache="none",
                    kernel=kernel,
                    parameters={"cpu_iterations": 300},
                )
                checksums.add(answer.json()["checksum"])
        assert len(checksums) == 1


@pytest.mark.parametrize("name", ["avx1024", "AVX512F", ""])
def test_unknown_instruction_set_is_refused_at_the_start(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py")],
        env=plain_environment()
        | {"HOTLOOP_INSTRUCTION_SET": name, "HOTLOOP_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "HOTLOOP_INSTRUCTION_SET" in done.stderr
    assert "Traceback" not in done.stderr
