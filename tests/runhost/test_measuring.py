"""CPU seconds and memory of a tree of processes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from app.runhost import measuring
from app.runhost.measuring import MemoryGauge, RunMeter

BURN = "import time\nwhile time.process_time() < 0.5: pass\n"


def test_cpu_of_this_process_and_of_ended_and_living_children_counts() -> None:
    meter = RunMeter(MemoryGauge())
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


def test_memory_of_children_counts_and_goes_again() -> None:
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


def test_costly_figure_is_read_only_when_the_cheap_one_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident, costly = 1_000_000, 0

    def read_costly(_: object) -> int:
        nonlocal costly
        costly += 1
        return 700_000

    monkeypatch.setattr(measuring, "_resident_bytes", lambda _: resident)
    monkeypatch.setattr(measuring, "_proportional_bytes", read_costly)
    monkeypatch.setattr(MemoryGauge, "look_around", lambda _: [None])
    gauge = MemoryGauge()
    assert [gauge.read() for _ in range(5)] == [700_000] * 5
    assert costly == 1
    resident = 1_020_000
    gauge.read()
    assert costly == 2
