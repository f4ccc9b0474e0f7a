"""CPU seconds and memory of a tree of processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hotloop.app.runhost import measuring
from hotloop.app.runhost.measuring import MemoryGauge, RunMemory, RunMeter

BURN = "import time\nwhile time.process_time() < 0.5: pass\n"


def test_cpu_of_this_process_and_of_ended_and_living_children_counts() -> None:
    meter = RunMeter(MemoryGauge(), list)
    meter.start()
    while time.process_time() < 0.1:
        pass
    subprocess.run([sys.executable, "-S", "-c", BURN], check=True)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", BURN + "print(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as living:
        assert living.stdout is not None
        living.stdout.readline()
        cpu_seconds, _ = meter.stop()
        living.communicate(b"\n")
    assert cpu_seconds >= 0.9


def test_memory_of_children_is_added_and_removed() -> None:
    gauge = MemoryGauge()
    before = gauge.read()
    code = "data = bytes(range(256)) * 400_000\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        gauge.look_around()
        during = gauge.read()
        child.communicate(b"\n")
    assert during - before > 90_000_000
    gauge.look_around()
    assert gauge.read() < before + 30_000_000


def test_costly_figure_is_read_only_if_the_cheap_one_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident, costly = 1_000_000, 0

    def read_costly(_: object) -> int:
        nonlocal costly
        costly += 1
        return 700_000

    monkeypatch.setattr(measuring, "resident_bytes", lambda _: resident)
    monkeypatch.setattr(measuring, "proportional_bytes", read_costly)
    monkeypatch.setattr(MemoryGauge, "look_around", lambda _: [None])
    gauge = MemoryGauge()
    assert [gauge.read() for _ in range(5)] == [700_000] * 5
    assert costly == 1
    resident = 1_020_000
    gauge.read()
    assert costly == 2


HOLD = "data = bytes(range(256)) * 400_000\nprint(flush=True)\ninput()"
"""A process that holds 100 MB."""


@contextmanager
def holding() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.communicate(b"\n")


def test_run_measures_only_its_own_resources() -> None:
    gauge = MemoryGauge()
    held = bytearray(200_000_000)
    assert RunMemory(gauge, list).look() < 20_000_000
    memory = RunMemory(gauge, list)
    taken = bytearray(100_000_000)
    assert 90_000_000 < memory.look() < 130_000_000
    del taken
    assert memory.look() > 90_000_000  # the peak
    del held
    assert RunMemory(gauge, list).look() < 20_000_000


def test_brief_memory_peak_counts() -> None:
    """A peak between two looks counts, too, where the system keeps it."""
    memory = RunMemory(MemoryGauge(), list)
    if not memory.counts_peak:
        pytest.skip("the system does not keep the peak")
    del bytearray(100_000_000)[:1]
    assert memory.look() > 90_000_000


def test_processes_that_are_there_count_only_if_they_work_for_the_run() -> None:
    gauge = MemoryGauge()
    with holding() as pid:
        assert RunMemory(gauge, list).look() < 20_000_000
        mine = RunMemory(gauge, lambda: [pid])
        assert mine.look() > 90_000_000
        later = RunMemory(gauge, list)
        with holding():
            gauge.look_around()
            assert later.look() > 90_000_000
