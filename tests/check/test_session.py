"""app/check/session.py, app/check/messages.py, app/check/reference.py: time, notes, results."""

from __future__ import annotations

import io
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloop.app.check.examples import example_of, plain_value
from hotloop.app.check.messages import Note, Reporter
from hotloop.app.check.names import PARITY, Status
from hotloop.app.check.reference import Reference
from hotloop.app.check.session import Session, TooSlow, alarm
from hotloop.app.check.subject import load_subjects

MODULE = """
import hotloop

@hotloop.workload(columns={"x": hotloop.Integer(0, 1000)})
def fickle(x: int) -> int:
    if x % 10 == 7:
        raise ValueError("seven")
    while x == 50:
        pass
    return x * 2
"""


class Messages:
    """A session, and what it has sent."""

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self._stream = io.BytesIO()
        self.note = Note(folder / "note", is_new=True)
        self.session = Session(Reporter(self._stream), self.note, seconds)

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def messages(tmp_path: Path) -> Messages:
    return Messages(tmp_path)


def test_alarm_stops_a_loop_of_python() -> None:
    numbers = itertools.count()
    with pytest.raises(TooSlow), alarm(0.01):
        any(number < 0 for number in numbers)


def test_alarm_stops_what_only_waits() -> None:
    with pytest.raises(TooSlow), alarm(0.01):
        time.sleep(1000)


def test_alarm_leaves_what_ends_in_time_alone() -> None:
    with alarm(30.0):
        value = sum(range(1000))
    assert value == 499_500


def test_note_tells_another_process_what_is_being_done(tmp_path: Path) -> None:
    ours, theirs = Note(tmp_path / "note", is_new=True), Note(tmp_path / "note", is_new=False)
    assert ours.read() == ""
    assert ours.overdue(0.0, 0.0) is None
    with theirs.doing("the third call", 4.0):
        now = time.process_time()
        assert ours.read() == "the third call"
        assert ours.overdue(now, 1000.0) is None
        assert ours.overdue(now + 5.0, 1000.0) is not None  # it computes for too long
        assert ours.overdue(now - 1.0, -1.0) is not None  # it waits for too long
    assert ours.read() == ""
    with theirs.doing("x" * 10_000, 4.0):
        assert set(ours.read()) == {"x"}


def test_first_finding_of_a_kernel_at_a_point_is_told(messages: Messages) -> None:
    session = messages.session
    session.found("fast", "parity", "first")
    session.found("fast", "parity", "second")
    session.ended("fast", "parity", "10 items")
    session.ended("fast", "edges", "10 items")
    assert [each.get("seen") for each in messages.sent] == ["first", None, None]
    assert [each.get("status") for each in messages.sent[1:]] == [Status.FAILED, Status.PASSED]
    assert session.has_failed("fast", "edges", "parity")
    assert not session.has_failed("fast", "edges")


def test_shares_are_of_the_whole_time_and_never_more_than_is_left(tmp_path: Path) -> None:
    assert Messages(tmp_path, 100.0).session.share(0.1) == pytest.approx(10.0)
    assert Messages(tmp_path, 0.0).session.share(0.1) == 0.0


def test_values_of_examples_are_json() -> None:
    assert plain_value(np.float64(math.nan)) == "nan"
    assert plain_value(-math.inf) == "-inf"
    assert plain_value(np.int8(3)) == 3
    assert plain_value(np.array([True, False])) == [True, False]
    long = plain_value(np.arange(100.0))
    assert long[7:10] == [7.0, "…", 92.0]
    example = example_of({"x": np.array([1.5, math.inf])}, 1, {"kind": "plus"})
    assert example == {"columns": {"x": "inf"}, "parameters": {"kind": "plus"}}


@pytest.mark.long  # a busy machine makes other items slow, too
def test_reference_leaves_out_what_raises_and_what_is_slow(
    tmp_path: Path, messages: Messages
) -> None:
    (tmp_path / "fickle.py").write_text(MODULE)
    (subject,) = load_subjects("fickle.py", tmp_path)
    reference = Reference(messages.session, subject.reference)
    columns = {"x": np.arange(100, dtype=np.int64)}
    case = reference.case("all", PARITY.name, {}, columns, 2.0)
    expected = case.expected
    assert expected is not None
    kept = [x for x in range(100) if x % 10 != 7 and x != 50]
    assert case.columns["x"].tolist() == kept
    assert expected["result"].tolist() == [2 * x for x in kept]
    assert [int(each.columns["x"][0]) for each in reference.raised] == list(range(7, 100, 10))
    assert "ValueError: seven" in reference.raised[0].error
    assert [int(columns["x"][0]) for columns, _ in reference.slow] == [50]
    assert case.count == len(kept)


def test_items_that_are_all_slow_are_given_up(tmp_path: Path, messages: Messages) -> None:
    (tmp_path / "fickle.py").write_text(MODULE)
    (subject,) = load_subjects("fickle.py", tmp_path)
    reference = Reference(messages.session, subject.reference)
    columns = {"x": np.full(1000, 50, dtype=np.int64)}
    assert reference.case("slow", PARITY.name, {}, columns, 0.2).count == 0
    assert reference.seconds_of(columns, {}, 0.05) == math.inf
