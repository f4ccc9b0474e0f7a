"""What the exit status of a command says, and how a command ends that cannot do what it was asked.

0   done
1   the task failed or was cancelled; outputs that had to be equal differ
2   the command, a setting, a file or the request was refused
3   the service cannot be reached, or cannot answer now
128 + the signal's number: Ctrl-C (130) or SIGTERM (143); what the command had started is cancelled
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer

from hotloop.app.cli.lines import print_error
from hotloop.app.cli.stopping import Stopped, StopSignals, stop_signals

FAILED: Final = 1
REFUSED: Final = 2
UNREACHABLE: Final = 3
BROKEN_PIPE: Final = 141
"""As of a program that SIGPIPE ended: whoever read the output has left."""

_TOO_MANY_REQUESTS: Final = 429


class CommandError(Exception):
    """A command that ends without having done what it was asked; `str(error)` says why."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(text)
        self.text = text
        self.code = code

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """As a problem of RFC 9457."""
        kind = "unreachable" if self.code == UNREACHABLE else "refused"
        return {"type": f"urn:hotloop:problem:command-{kind}", "title": kind, "detail": self.text}


class ProblemError(CommandError):
    """The service's answer is a problem (RFC 9457)."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        lines = [f"{problem.get('title', 'The service answered')}: {problem.get('detail', status)}"]
        faults = [fault for fault in problem.get("errors") or () if isinstance(fault, dict)]
        if len(faults) > 1:  # a single one is the detail
            lines += [f"  {fault.get('field')}: {fault.get('message')}" for fault in faults]
        # Refused for good, or at this moment only?
        refused = 400 <= status < 500 and status != _TOO_MANY_REQUESTS
        super().__init__("\n".join(lines), REFUSED if refused else UNREACHABLE)
        self.problem = problem
        self.status = status

    def to_json(self) -> dict[str, Any]:
        return self.problem


class NoStoreError(CommandError):
    """There is no store of tasks where the command looks for one."""


class UnreachableError(CommandError):
    def __init__(self, text: str) -> None:
        super().__init__(text, UNREACHABLE)


@contextmanager
def ending(as_json: bool) -> Iterator[None]:
    """Have what ends the block early be the exit status, and be told on the error output: in
    words, or as a JSON object.
    """
    try:
        yield
        sys.stdout.flush()
    except CommandError as error:
        if as_json:
            print(json.dumps(error.to_json()), file=sys.stderr)
        else:
            print_error(str(error))
        raise typer.Exit(error.code) from error
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except Stopped as stopped:
        raise typer.Exit(128 + stopped.number) from None


@contextmanager
def carried_out(as_json: bool = False) -> Iterator[StopSignals]:
    """Around a command: how it ends, whatever ends it."""
    with ending(as_json), stop_signals() as signals:
        yield signals
