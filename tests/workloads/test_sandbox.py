"""Whatever users' code does, its child process says why it ended, and leaves nothing behind.

app/workloads/sandbox.py, app/workloads/child.py, app/workloads/child_client.py, in real processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotloop.app.workloads.child_client import Child, ChildDiedError, end_in_words, place_in
from hotloop.app.workloads.sandbox import EXIT_LOST
from tests.fixtures.own_modules import AREA, ENDLESS, leaving_no_process, start_child, write
from tests.fixtures.processes import is_gone
from tests.fixtures.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def target(path: Path) -> dict[str, Any]:
    return {"module": path.stem, "folder": str(path.parent), "file": str(path)}


async def messages(path: Path) -> list[dict[str, Any]]:
    """Return all messages of a child that describes one file."""
    child = await start_child("describe", {"targets": [target(path)]})
    found = []
    try:
        while (message := await child.message(30.0)) is not None:
            found.append(message)
    finally:
        await child.close()
    return found


def test_user_code_prints_and_reads_as_it_likes(tmp_path: Path) -> None:
    text = """
        import os, sys
        print("to the output" * 10_000)
        os.write(1, b"{}\\n")
        print("to the other", file=sys.stderr)
        assert sys.stdin.read() == ""
    """
    found = asyncio.run(
        messages(write(tmp_path, "loud", AREA + "\n" + text.replace("        ", "")))
    )
    assert [set(message) for message in found] == [{"begins"}, {"described", "files"}]


def test_memory_is_bounded_and_given_back(tmp_path: Path) -> None:
    path = write(tmp_path, "big", "x = []\nwhile True:\n    x.append(bytearray(1 << 26))")
    with leaving_no_process():
        (_, message) = asyncio.run(messages(path))
    assert (
        message["failed"] == "it needs more memory than the 2,048 MiB that it may have at big.py:3"
    )


def test_end_is_told_with_what_was_printed_last(tmp_path: Path) -> None:
    path = write(tmp_path, "last", "print('last words', flush=True)\nimport os\nos.abort()")
    with leaving_no_process(), pytest.raises(ChildDiedError) as caught:
        asyncio.run(messages(path))
    assert caught.value.reason == "it crashed its process with SIGABRT at last.py:3"
    assert "last words" in caught.value.said
    assert caught.value.said.index("last words") < caught.value.said.index("Fatal Python error")


def test_one_that_hangs_says_where(tmp_path: Path) -> None:
    async def check() -> None:
        child = await start_child(
            "describe", {"targets": [target(write(tmp_path, "hang", ENDLESS))]}
        )
        try:
            assert await child.message(30.0) == {"begins": 0}
            with pytest.raises(TimeoutError):
                await child.message(0.05)
            died = await child.overdue(0.05)
            assert died.reason in (
                "it did not end within 0.05 s; it was at hang.py:2",
                "it did not end within 0.05 s; it was at hang.py:3",
            )
        finally:
            await child.close()

    with leaving_no_process():
        asyncio.run(check())


def test_one_that_hears_no_signal_is_killed(tmp_path: Path) -> None:
    text = f"""
import signal
signal.signal(signal.SIGABRT, signal.SIG_IGN)
print("last words", flush=True)
{ENDLESS}
"""

    async def check() -> ChildDiedError:
        child = await start_child("describe", {"targets": [target(write(tmp_path, "deaf", text))]})
        try:
            await child.message(30.0)
            with pytest.raises(TimeoutError):
                await child.message(0.5)
            return await child.overdue(0.5)
        finally:
            await child.close()

    with leaving_no_process():
        died = asyncio.run(check())
    assert died.reason == "it did not end within 0.5 s"
    assert died.said == "last words\n"  # as its supervisor tells when it has killed it


STARTING = f"""
{AREA}
import os, pathlib, subprocess, threading, time
pids = [
    subprocess.Popen(["sleep", "1000"]).pid,
    subprocess.Popen(["sleep", "1000"], start_new_session=True).pid,
]
if os.fork() == 0:
    pid = subprocess.Popen(["sleep", "1000"], start_new_session=True).pid
    pathlib.Path(__file__ + ".orphan").write_text(str(pid))
    os._exit(0)
os.wait()
threading.Thread(target=time.sleep, args=(1_000,)).start()
pathlib.Path(__file__ + ".pids").write_text(" ".join(map(str, pids)))
"""


def started_by(path: Path) -> list[int]:
    texts = (path.with_name(path.name + end).read_text() for end in (".pids", ".orphan"))
    return [int(pid) for text in texts for pid in text.split()]


def test_processes_and_threads_of_user_code_end_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, "parent", STARTING)
    with leaving_no_process():
        assert "described" in asyncio.run(messages(path))[-1]
    crashing = write(tmp_path, "crashing", f"{STARTING}\nos.abort()")
    with leaving_no_process(), pytest.raises(ChildDiedError):
        asyncio.run(messages(crashing))
    for pid in (*started_by(path), *started_by(crashing)):
        assert not psutil.pid_exists(pid)


def test_descriptor_that_was_replaced_gets_no_message(tmp_path: Path) -> None:
    text = f"""
import os
os.closerange(3, 1_000)
held = [open({str(tmp_path / "mine")!r}, "w") for _ in range(20)]
"""
    with pytest.raises(ChildDiedError, match="it closed the descriptors"):
        asyncio.run(messages(write(tmp_path, "reusing", text)))
    assert (tmp_path / "mine").read_text() == ""


def test_all_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    path = write(
        tmp_path, "hang", f"import subprocess\nsubprocess.Popen(['sleep', '1000'])\n{ENDLESS}"
    )
    starter = f"""
import asyncio, os
from tests.fixtures.own_modules import start_child

async def main():
    child = await start_child("describe", {{"targets": [{target(path)!r}]}})
    print(await child.message(30), flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "{'begins': 0}\n"
            me = psutil.Process(process.pid)
            wait_until(lambda: len(me.children(recursive=True)) == 3, "all have started")
            below = me.children(recursive=True)
        finally:
            process.kill()
    wait_until(lambda: all(map(is_gone, below)), f"{below} end")


def test_closing_ends_a_child_at_any_moment(tmp_path: Path) -> None:
    async def check() -> None:
        child = await start_child("describe", {"targets": [target(write(tmp_path, "h", ENDLESS))]})
        await child.close()
        child = await start_child("describe", {"targets": [target(write(tmp_path, "h", ENDLESS))]})
        await child.message(30.0)
        await child.close()
        await child.close()

    with leaving_no_process():
        asyncio.run(check())


def test_child_that_cannot_start_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        asyncio.run(Child.start("describe", {"targets": []}, {}, 1 << 30))
    assert psutil.Process().num_fds() == before


def test_ends_are_put_into_words() -> None:
    assert end_in_words(EXIT_LOST) == "it closed the descriptors of its process"
    assert end_in_words(2) == "it ended its process with status 2"
    assert end_in_words(-signal.SIGBUS) == "it crashed its process with SIGBUS"
    assert end_in_words(-200) == "it crashed its process with signal 200"


def test_place_is_the_innermost_one_of_the_user() -> None:
    trace = (
        'noise\n  File "/home/me/other.py", line 1 in f\n\n'
        "Thread 0x1 (most recent call first):\n"
        '  File "/home/me/thread.py", line 2 in f\n\n'
        "Current thread 0x2 (most recent call first):\n"
        f'  File "{os.__file__}", line 3 in f\n'
        '  File "/x/site-packages/theirs.py", line 4 in f\n'
        '  File "/home/me/mine.py", line 5 in f\n'
        '  File "/home/me/outer.py", line 6 in f\n\n'
        "Extension modules: numpy\n"
    )
    assert place_in(trace) == " at mine.py:5"
    assert place_in(
        trace.replace("/home/me/mine.py", os.__file__).replace("/home/me/outer.py", "<x>")
    ) == (" at theirs.py:4")
    assert place_in("nothing of it") == ""
