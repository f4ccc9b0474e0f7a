"""tasks.nodes: a process is known by its pid and its start, while it lives and after."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hotloop.app.tasks.nodes import current_owner, owner_is_alive

SAY_OWNER = """
import sys
from hotloop.app.tasks.nodes import current_owner
print(current_owner(), flush=True)
sys.stdin.read()
"""


def test_this_process_is_alive() -> None:
    assert current_owner().startswith(f"{os.getpid()}:")
    assert owner_is_alive(current_owner())


def test_other_process_is_alive_until_it_has_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SAY_OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        assert owner.startswith(f"{process.pid}:")
        assert owner_is_alive(owner)
        process.kill()
        # Its end of the pipe closes when it is dead; it is a zombie until it is waited for.
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        assert not owner_is_alive(owner)
    assert not owner_is_alive(owner)


def test_reused_pid_is_another_process() -> None:
    pid, _, started = current_owner().partition(":")
    assert not owner_is_alive(f"{pid}:{int(started) - 1}")
    assert not owner_is_alive(f"{pid}:{int(started) + 1}")


def test_setting_the_clock_does_not_change_a_process_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the boot, in unix seconds, moves with the clock."""
    owner, booted, now = current_owner(), psutil.boot_time(), time.time()
    for step in (-86_400.0, -1.0, 1.0, 86_400.0):
        with monkeypatch.context() as set_clock:
            set_clock.setattr("psutil._pslinux.boot_time", lambda step=step: booted + step)
            set_clock.setattr("time.time", lambda step=step: now + step)
            assert owner_is_alive(owner)
            assert current_owner() == owner


@pytest.mark.parametrize(
    "owner",
    ["", ":", "1", "x:1", "1:x", "-1:1", "0:1", "0x1:1", "1:nan", "99999999999999999999:1"],
)
def test_text_that_names_no_process_is_not_alive(owner: str) -> None:
    assert not owner_is_alive(owner)


def test_process_that_cannot_be_inspected_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *_: object) -> str:
        raise PermissionError(path)

    owner = current_owner()
    monkeypatch.setattr(Path, "read_text", denied)
    assert owner_is_alive(owner)


def test_hidden_process_of_another_user_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, *_: object) -> str:
        raise FileNotFoundError(path)

    def refused(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    owner = current_owner()
    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(os, "kill", refused)
    assert owner_is_alive(owner)


def test_start_is_compared_in_unix_seconds_where_there_are_no_ticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hotloop.app.tasks.nodes.counts_ticks", lambda: False)
    pid, _, started = current_owner().partition(":")
    assert owner_is_alive(current_owner())
    assert owner_is_alive(f"{pid}:{float(started) + 0.01:.3f}")
    assert not owner_is_alive(f"{pid}:{float(started) - 5:.3f}")
    assert not owner_is_alive("4194304:1.0")
