"""What is known of kernels is scaled to the asked parameters, shown, and kept in files.

app/workloads/examined.py and app/workloads/kept.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.workloads import kept
from hotloop.app.workloads.examined import (
    Examined,
    ExaminedKernel,
    exact_key,
    is_near,
    rough_key,
    scaled,
    unexamined,
)
from hotloop.app.workloads.kept import FOLDER, KeptExaminations, machine_fingerprint
from tests.fixtures.own_modules import TURNS, UNTIL, workload_of, write

COSTS = KernelCosts(
    workload="turns",
    kernel="numba",
    releases_gil=True,
    call_seconds=1e-5,
    item_seconds=1e-7,
    sizes=(1, 64),
    operation_seconds={"turn": (4e-9, 1e-9)},
    thread_slowdown=1.5,
    process_slowdown=1.5,
)


def known() -> Examined:
    return Examined(
        {
            "python": ExaminedKernel(None, "it is not for Python"),
            "numba": ExaminedKernel(COSTS, None, 0.75),
        },
        {"key": {"numba": 3e-6}},
    )


def test_reports_are_as_run_hosts_make_them(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))
    costs = known().costs(workload, workload.resolve_parameters(), {})
    assert costs == [COSTS]
    python, numba = known().reports(workload, costs)
    assert (python.available, python.reason, python.examined) == (
        False,
        "it is not for Python",
        True,
    )
    assert (numba.available, numba.reason, numba.releases_gil) == (True, None, True)
    assert numba.ns_per_operation == pytest.approx({"turn": 1.0})
    assert numba.ns_beside == pytest.approx(100.0)
    assert numba.warm_up_seconds == 0.75
    for report in unexamined(workload):
        assert (report.available, report.examined, report.reason) == (False, False, None)


def test_costs_meet_a_sample() -> None:
    operations = {"turn": 500.0}
    one = scaled(COSTS, operations, 3e-6)
    before = COSTS.seconds_of_call(operations, 64_000) - COSTS.call_seconds
    after = one.seconds_of_call(operations, 64_000) - one.call_seconds
    assert after == pytest.approx(64_000 * 3e-6)
    assert one.operation_seconds["turn"][0] / one.operation_seconds["turn"][1] == pytest.approx(4.0)
    assert after / before == pytest.approx(3e-6 / 6e-7)
    assert scaled(COSTS, operations, None) == COSTS
    nothing = replace(COSTS, item_seconds=0.0, operation_seconds={"turn": (0.0, 0.0)})
    assert scaled(nothing, operations, 3e-6).seconds_of_call(operations, 1) == pytest.approx(13e-6)


def test_law_is_relied_on_near_the_default_only(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))
    for turns, near in ((1, True), (4_000, True), (5_000, False)):
        assert is_near(workload, workload.resolve_parameters({"turns": turns}), exact=True) == near


def test_data_is_sampled_with_the_asked_parameters(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "until", UNTIL))
    default, like, other = (
        workload.resolve_parameters({"most": most}) for most in (1_000, 1_100, 3_000)
    )
    found = Examined({"python": ExaminedKernel(COSTS)})
    assert found.sample(workload, default, exact=True) == {}
    assert found.sample(workload, like, exact=True) is None
    assert found.sample(workload, like, exact=False) == {}
    assert found.sample(workload, other, exact=False) is None
    found.keep(other, {"python": 2e-6})
    assert found.sample(workload, other, exact=True) == {"python": 2e-6}
    near_other = workload.resolve_parameters({"most": 3_300})
    assert found.sample(workload, near_other, exact=False) == {"python": 2e-6}
    assert found.sample(workload, near_other, exact=True) is None


def test_keys_tell_parameters_apart() -> None:
    assert exact_key({"a": 1, "b": "x"}) == exact_key({"b": "x", "a": 1})
    assert exact_key({"a": 1}) != exact_key({"a": 2})
    assert rough_key({"a": 1_000, "b": 0.2}) == rough_key({"a": 1_010, "b": 0.21})
    for one, other in (
        ({"a": 1_000}, {"a": 2_000}),
        ({"a": -3}, {"a": 3}),
        ({"a": 0}, {"a": 1}),
        ({"a": "put"}, {"a": "call"}),
        ({"a": True}, {"a": False}),
    ):
        assert rough_key(one) != rough_key(other)
    assert rough_key({"a": 1}) != exact_key({"a": 1})


def test_oldest_samples_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.app.workloads.examined.MOST_SAMPLES", 3)
    found = Examined({})
    for number in range(10):
        found.keep({"a": 2**number}, {"python": float(number)})
    assert len(found.samples) == 6
    assert {each["python"] for each in found.samples.values()} == {7.0, 8.0, 9.0}


def test_kept_until_the_machine_or_the_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = KeptExaminations(tmp_path)
    assert files.load("a" * 64) is None
    files.save("a" * 64, known())
    assert KeptExaminations(tmp_path).load("a" * 64) == known()
    assert files.load("b" * 64) is None
    monkeypatch.setattr(kept, "cpu_model", lambda: "another one")
    assert KeptExaminations(tmp_path).load("a" * 64) is None
    monkeypatch.undo()
    (path,) = (tmp_path / FOLDER).iterdir()
    stored = json.loads(path.read_text())
    for damage in ("", "[]", "{", json.dumps({**stored, "samples": {"x": {"numba": -1.0}}})):
        path.write_text(damage)
        assert KeptExaminations(tmp_path).load("a" * 64) is None
    stored["kernels"]["numba"]["costs"]["sizes"] = [1]
    path.write_text(json.dumps(stored))
    assert KeptExaminations(tmp_path).load("a" * 64) is None


def test_reason_that_may_not_hold_another_time_is_not_kept(tmp_path: Path) -> None:
    files, found = KeptExaminations(tmp_path), known()
    found.kernels["python"] = ExaminedKernel(None, "it crashed", is_certain=False)
    files.save("a" * 64, found)
    assert files.load("a" * 64) is None


def test_old_files_are_removed_and_a_full_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_FILES", 2)
    files = KeptExaminations(tmp_path)
    for number, version in enumerate("abc"):
        files.save(version * 64, known())
        for path in (tmp_path / FOLDER).glob(f"{version}*"):
            os.utime(path, (number, number))
    files.save("d" * 64, known())
    assert [files.load(version * 64) is not None for version in "abcd"] == [
        False,
        False,
        True,
        True,
    ]
    nowhere = KeptExaminations(tmp_path / "a file")
    (tmp_path / "a file").write_text("")
    nowhere.save("a" * 64, known())
    assert nowhere.load("a" * 64) is None


def test_fingerprint_is_of_this_machine() -> None:
    assert machine_fingerprint() == machine_fingerprint()
    assert len(machine_fingerprint()) == 16
