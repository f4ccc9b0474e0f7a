"""The end of a command: signals as exceptions, errors in lines that break between words."""

from __future__ import annotations

import os
import signal

import pytest

from hotloop.app.cli.exits import SIGNALS, Stopped, StopSignals, at_words, stop_signals

ID = "task_4f9d02aa71c3e85b_1735689600"


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_raised_where_it_comes(number: signal.Signals) -> None:
    with stop_signals(), pytest.raises(Stopped) as stopped:
        send(number)
    assert stopped.value.number == number


def test_signal_waits_for_the_end_of_what_is_held() -> None:
    done = []

    def hold(signals: StopSignals) -> None:
        with signals.held():
            send(signal.SIGTERM)
            done.append("all of it")

    with stop_signals() as signals:
        with pytest.raises(Stopped) as stopped:
            hold(signals)
        assert stopped.value.number == signal.SIGTERM
    assert done == ["all of it"]


def test_signal_waits_for_the_end_of_the_outermost_hold() -> None:
    done = []

    def hold(signals: StopSignals) -> None:
        with signals.held():
            with signals.held():
                send(signal.SIGINT)
            done.append("the outer one")

    with stop_signals() as signals, pytest.raises(Stopped):
        hold(signals)
    assert done == ["the outer one"]


def test_second_signal_breaks_in() -> None:
    done = []

    def hold(signals: StopSignals) -> None:
        with signals.held():
            send(signal.SIGINT)
            send(signal.SIGINT)
            done.append("too much")

    with stop_signals() as signals, pytest.raises(Stopped):
        hold(signals)
    assert done == []


def test_signals_are_as_before_at_the_end() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stop_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signal_that_was_ignored_stays_ignored() -> None:
    """`nohup` ignores the signal, and the command must leave it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_line_is_broken_between_words_and_ids_stay_whole() -> None:
    text = f"the task {ID} goes on without this command; watch it again"
    lines = at_words(text, 40).splitlines()
    assert " ".join(lines) == text
    assert max(map(len, lines)) <= 40
    assert any(ID in line for line in lines)
    assert at_words(ID, 10) == ID


def test_continuation_lines_keep_the_indentation() -> None:
    assert at_words("  items_count: must be at least 1", 20).splitlines() == [
        "  items_count: must",
        "  be at least 1",
    ]
