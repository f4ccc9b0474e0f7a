"""Whether the process of a task still lives."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from app.tasks.owner import current_owner, owner_is_alive

SAY_OWNER = """
import sys
from app.tasks.owner import current_owner
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


def test_pid_that_came_again_is_another_process() -> None:
    pid, _, started = current_owner().partition(":")
    assert not owner_is_alive(f"{pid}:{float(started) - 5:.3f}")
    assert not owner_is_alive(f"{pid}:{float(started) + 5:.3f}")
    assert owner_is_alive(f"{pid}:{float(started) + 0.01:.3f}")


@pytest.mark.parametrize(
    "owner",
    ["", ":", "1", "x:1", "1:x", "-1:1", "0x1:1", "1:nan", "99999999999999999999:1", "4194304:1.0"],
)
def test_text_that_names_no_process_is_not_alive(owner: str) -> None:
    assert not owner_is_alive(owner)


def test_process_that_may_not_be_looked_at_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(process: psutil.Process) -> float:
        raise psutil.AccessDenied(process.pid)

    owner = current_owner()
    monkeypatch.setattr(psutil.Process, "create_time", denied)
    assert owner_is_alive(owner)
