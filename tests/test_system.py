"""`hotloop.app.system` on made-up trees of control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotloop.app import system
from hotloop.app.system import MemoryLimit, Throttling, cpu_model, memory_limit, throttling


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def tree(root: Path, cgroup: str, **files: str) -> Path:
    """A root with `/proc/self/cgroup` and files of the cgroup mount, `__` standing for `/`."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cpu_count_without_cgroup_is_the_affinity(tmp_path: Path) -> None:
    assert system.usable_cpu_count(tmp_path) == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("300000\n", 3),
        ("1600000 100000\n", 8),
        ("max 100000\n", 8),
        ("max\n", 8),
        ("", 8),
        ("\n", 8),
        ("-1 100000\n", 8),
        ("0 100000\n", 8),
        ("200000 0\n", 8),
        ("two cpus\n", 8),
        ("200000 many\n", 8),
        ("\xff\xfe", 8),
    ],
)
def test_cpu_count_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    tree(tmp_path, "0::/\n", **{"cpu.max": quota})
    assert system.usable_cpu_count(tmp_path) == expected


def test_cpu_count_version_2_uses_the_smallest_nested_quota(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "0::/a/b/c\n",
        **{
            "cpu.max": "max 100000",
            "a__cpu.max": "300000 100000",
            "a__b__cpu.max": "500000 100000",
            "a__b__c__cpu.max": "max 100000",
            "other__cpu.max": "100000 100000",
        },
    )
    assert system.usable_cpu_count(tmp_path) == 3


@pytest.mark.parametrize("path", ["/docker/0123", "/../../init.scope"])
def test_cpu_count_in_a_container_that_sees_only_the_top(tmp_path: Path, path: str) -> None:
    tree(tmp_path, f"0::{path}\n", **{"cpu.max": "400000 100000"})
    (tmp_path / "sys" / "fs" / "cpu.max").write_text("100000 100000")  # not a control group's
    assert system.usable_cpu_count(tmp_path) == 4


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("250000\n", "100000\n", 3),
        ("-1\n", "100000\n", 8),
        ("250000\n", "0\n", 8),
        ("250000\n", "", 8),
        ("", "100000\n", 8),
        ("9" * 5000, "100000\n", 8),
    ],
)
@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cpu_count_version_1(
    tmp_path: Path, mount: str, quota: str, period: str, expected: int
) -> None:
    files = {f"{mount}__cpu.cfs_quota_us": quota, f"{mount}__cpu.cfs_period_us": period}
    tree(tmp_path, "5:cpuset:/x\n4:cpu,cpuacct:/x\n0::/\n", **files)
    assert system.usable_cpu_count(tmp_path) == expected


def test_cpu_count_version_1_uses_the_smallest_nested_quota(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "4:cpu,cpuacct:/a/b\n",
        **{
            "cpu,cpuacct__cpu.cfs_quota_us": "-1",
            "cpu,cpuacct__cpu.cfs_period_us": "100000",
            "cpu,cpuacct__a__cpu.cfs_quota_us": "200000",
            "cpu,cpuacct__a__cpu.cfs_period_us": "100000",
            "cpu,cpuacct__a__b__cpu.cfs_quota_us": "700000",
            "cpu,cpuacct__a__b__cpu.cfs_period_us": "100000",
        },
    )
    assert system.usable_cpu_count(tmp_path) == 2


@pytest.mark.parametrize("text", ["", "\n", "nonsense", "0:", "::", "0::", ":cpu:", "7:cpu"])
def test_cpu_count_with_malformed_membership_is_the_affinity(tmp_path: Path, text: str) -> None:
    tree(tmp_path, text, unrelated="1")
    assert system.usable_cpu_count(tmp_path) == 8


def test_cpu_count_where_a_file_is_a_folder_is_the_affinity(tmp_path: Path) -> None:
    tree(tmp_path, "0::/\n")
    (tmp_path / "sys" / "fs" / "cgroup" / "cpu.max").mkdir(parents=True)
    assert system.usable_cpu_count(tmp_path) == 8


def test_cpu_count_is_not_above_the_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    tree(tmp_path, "0::/\n", **{"cpu.max": "400000 100000"})
    assert system.usable_cpu_count(tmp_path) == 1


def test_cpu_count_without_affinity_is_that_of_the_process_or_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert system.usable_cpu_count(tmp_path) == 5
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert system.usable_cpu_count(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.usable_cpu_count(tmp_path) == 1


def test_cpu_count_of_this_machine_is_within_the_affinity() -> None:
    assert 1 <= system.usable_cpu_count() <= 8


def in_groups(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system in which this process is in `groups`, with these files in their folders."""
    write(root, "proc/self/cgroup", groups)
    for path, text in files.items():
        write(root, f"sys/fs/cgroup/{path}", text)
    return root


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


THROTTLED_V2 = "usage_usec 9\nnr_periods 10\nnr_throttled 4\nthrottled_usec 1500000\n"
THROTTLED_V1 = "nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.stat": THROTTLED_V2}, Throttling(4, 1.5)),
        ("0::/a/b\n", {"a/cpu.stat": THROTTLED_V2}, Throttling(4, 1.5)),
        ("3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.stat": THROTTLED_V1}, Throttling(4, 1.5)),
        (
            "0::/a\n",
            {
                "a/cpu.stat": THROTTLED_V2,
                "cpu.stat": THROTTLED_V2.replace("1500000", "7000000").replace("led 4", "led 9"),
            },
            Throttling(9, 7.0),
        ),
        ("0::/a\n", {"a/cpu.stat": "usage_usec 9\n"}, None),
        ("0::/a\n", {"a/cpu.stat": "nr_throttled x\n"}, None),
        ("0::/a\n", {}, None),
        ("", {}, None),
    ],
)
def test_throttling_is_read_from_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: Throttling | None
) -> None:
    assert throttling(in_groups(tmp_path, groups, files)) == expected


def test_throttling_is_the_difference_of_two_readings() -> None:
    before, after = Throttling(4, 1.5), Throttling(6, 1.75)
    assert (after.periods_since(before), after.seconds_since(before)) == (2, 0.25)
    assert (after.periods_since(None), after.seconds_since(None)) == (6, 1.75)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (
            "0::/a\n",
            {
                "a/memory.max": "1000",
                "a/memory.current": "700",
                "a/memory.stat": "anon 1\ninactive_file 150\n",
            },
            MemoryLimit(1_000, 450),
        ),
        (
            "0::/a/b\n",
            {
                "a/memory.max": "900",
                "a/memory.current": "800",
                "a/b/memory.max": "1000",
                "a/b/memory.current": "100",
            },
            MemoryLimit(900, 100),
        ),
        (
            "7:memory:/a\n",
            {
                "memory/a/memory.limit_in_bytes": "1000",
                "memory/a/memory.usage_in_bytes": "1200",
                "memory/a/memory.stat": "total_inactive_file 50\n",
            },
            MemoryLimit(1_000, 0),
        ),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "7"}, None),
        (
            "7:memory:/a\n",
            {
                "memory/a/memory.limit_in_bytes": "9223372036854771712",
                "memory/a/memory.usage_in_bytes": "7",
            },
            None,
        ),
    ],
)
def test_memory_limit_is_read_from_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], expected: MemoryLimit | None
) -> None:
    assert memory_limit(in_groups(tmp_path, groups, files)) == expected


BOUND = """
import resource, sys
from hotloop.app.system import bound_memory

def takes(count):
    try:
        return len(bytearray(count)) == count
    except MemoryError:
        return False

before = resource.getrlimit(resource.RLIMIT_DATA)
bound_memory(256 << 20)
assert takes(64 << 20) and not takes(300 << 20)
held = bytearray(128 << 20)
bound_memory(256 << 20)
assert takes(200 << 20), "what it holds already does not count"
bound_memory(None)
assert takes(600 << 20)
assert resource.getrlimit(resource.RLIMIT_DATA) == before
print("bounded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts mapped memory")
def test_memory_is_bounded_until_the_bound_is_lifted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUND], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("bounded\n", "")


def test_processor_is_named_as_in_cpuinfo(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("processor: 0\nmodel name\t: Some CPU\nflags: a\n")
    assert cpu_model(tmp_path) == "Some CPU"
    assert cpu_model(tmp_path / "nothing")
