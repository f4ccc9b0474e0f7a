"""Faults of users' code in a real service: other workloads keep answering, memory and processes are
given back, and the reason is at /kernels.

`Server.stop` sees that no process of the service is left at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.own_modules import (
    AREA,
    ENDLESS,
    HOSTILE_IMPORTS,
    TURNS,
    reason_for,
    write,
)
from tests.fixtures.processes import is_gone, tree
from tests.fixtures.server import QUICK, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ITEMS: dict[str, Any] = {"items_count": 100, "db": "none", "cache": "none"}

KERNELS = {
    "batch_crash": ("import ctypes\n    ctypes.string_at(0)", "SIGSEGV"),
    "batch_leave": ("import os\n    os._exit(4)", "it ended its process with status 4"),
    "batch_exit": ("import sys\n    sys.exit(4)", "it called sys.exit(4) at batch_exit.py:"),
    "batch_big": ("import numpy\n    numpy.ones(10 << 27)", "it needs more memory than"),
    "batch_closing": ("import os\n    os.closerange(3, 1_000)", "it closed the descriptors"),
}
"""For each module the body of a kernel that fails, and a part of the reason that must be shown."""

STARTING = """
import subprocess, threading, time
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
threading.Thread(target=time.sleep, args=(1_000,)).start()
"""


def module_with_kernel(name: str, body: str) -> str:
    return f"""{AREA.replace("def area", f"def {name}")}
@{name}.kernel("batch", releases_gil=True)
def batch(radius, result):
    {body}
    result[:] = 1.0
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    paths = [write(folder, name, text) for name, (text, _) in HOSTILE_IMPORTS.items()]
    paths += [write(folder, name, module_with_kernel(name, b)) for name, (b, _) in KERNELS.items()]
    paths += [
        write(folder, "hangs", ENDLESS),
        write(folder, "starts", STARTING + AREA.replace("def area", "def starts")),
        write(folder, "loud", module_with_kernel("loud", "print('x' * 100_000, flush=True)")),
        write(folder, "stuck", module_with_kernel("stuck", "while True: pass")),
        write(folder, "turns", TURNS),
    ]
    data = tmp_path_factory.mktemp("data")
    with running_server(data, workloads=",".join(map(str, paths))) as server:
        yield server


def shown(server: Server) -> dict[str, dict[str, Any]]:
    answer = server.client.get("/api/v1/tasks/kernels").json()
    return {Path(each["target"]).stem: each for each in answer["own_workloads"]}


def kernels_of(server: Server, workload: str) -> dict[str, dict[str, Any]]:
    """Return the kernels of a workload once they are examined."""
    found: dict[str, dict[str, Any]] = {}

    def are_examined() -> bool:
        kernels = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
        found.update({k["kernel"]: k for k in kernels if k["workload"] == workload})
        return bool(found) and all(kernel["examined"] for kernel in found.values())

    wait_until(are_examined, f"{workload} is examined", 110, 0.1)
    return found


def wait_known(server: Server, name: str) -> dict[str, Any]:
    wait_until(lambda: shown(server)[name]["state"] != "loading", f"{name} is known", 90, 0.05)
    return shown(server)[name]


def test_others_answer_from_the_start_on(server: Server) -> None:
    assert server.run("threading", **QUICK).status_code == 200
    wait_known(server, "turns")
    answer = server.run("threading", workload="turns", **ITEMS)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", HOSTILE_IMPORTS)
def test_import_that_fails_is_a_reason(server: Server, name: str) -> None:
    found = wait_known(server, name)
    assert found["state"] == "failed"
    assert found["reason"].startswith(reason_for(name, HOSTILE_IMPORTS[name][1])), found
    answer = server.run("sequential", workload="turns", **ITEMS)
    assert answer.status_code == 200, answer.text


def test_endless_import_is_a_reason(server: Server) -> None:
    found = wait_known(server, "hangs")
    assert found["reason"].startswith("it did not end within 20 s; it was at hangs.py:")
    assert server.run("sequential", **QUICK).status_code == 200


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_that_fails_leaves_the_others(server: Server, name: str) -> None:
    wait_known(server, name)
    answer = server.run("sequential", workload=name, **ITEMS)
    assert answer.status_code == 200, answer.text
    kernels = kernels_of(server, name)
    assert (kernels["python"]["available"], kernels["numba"]["available"]) == (True, True)
    assert kernels["batch"]["available"] is False
    assert KERNELS[name][1] in kernels["batch"]["reason"]
    refused = server.run("sequential", workload=name, kernel="batch", **ITEMS)
    assert refused.status_code == 422
    assert KERNELS[name][1] in refused.json()["detail"]


def test_kernel_that_prints_computes(server: Server) -> None:
    wait_known(server, "loud")
    answer = server.run("threading", workload="loud", kernel="batch", **ITEMS)
    assert answer.status_code == 200, answer.text


def test_module_that_starts_processes_is_served_and_leaves_none(server: Server) -> None:
    wait_known(server, "starts")
    assert {kernel["available"] for kernel in kernels_of(server, "starts").values()} == {True}

    def sleepers() -> list[psutil.Process]:
        found = []
        for process in tree(server.process.pid):
            with suppress(psutil.Error):
                if process.name() == "sleep":
                    found.append(process)
        return found

    wait_until(lambda: all(map(is_gone, sleepers())), "none is left")


def test_kernel_that_never_returns_is_a_reason_in_the_end(server: Server) -> None:
    kernels = kernels_of(server, "stuck")
    assert kernels["batch"]["reason"].startswith("while it ")
    assert "it did not end within 60 s; it was at stuck.py:" in kernels["batch"]["reason"]
    assert kernels["numba"]["available"]
    answer = server.run("sequential", workload="stuck", **ITEMS)
    assert answer.status_code == 200, answer.text


def test_all_is_given_back(server: Server) -> None:
    def children() -> list[psutil.Process]:
        found = []
        for process in tree(server.process.pid):
            with suppress(psutil.Error):
                if "hotloop.app.workloads.child" in process.cmdline():
                    found.append(process)
        return found

    for name in shown(server):
        if wait_known(server, name)["state"] == "available":
            kernels_of(server, name)
    wait_until(lambda: not children(), "no child is left", 60)
    assert "met a fault" not in "".join(server.log)
