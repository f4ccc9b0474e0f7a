"""Errors survive the way from a run host or a worker to the API process."""

from __future__ import annotations

import inspect
import pickle
from typing import Any, Final

import pytest

from hotloop.app import errors

VALUES: Final[dict[str, Any]] = {
    "str": "a {b}",
    "int": 7,
    "float": 2.5,
    "str | None": "s",
    "int | None": -9,
}
ALL: Final = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.ServiceError)
]


def made(error: type[errors.ServiceError]) -> errors.ServiceError:
    try:
        parameters = inspect.signature(error).parameters.values()
    except ValueError:  # the constructor of Exception
        return error("a {b}")
    return error(**{each.name: VALUES[each.annotation] for each in parameters})


@pytest.mark.parametrize("error", ALL)
def test_error_is_the_same_once_pickled(error: type[errors.ServiceError]) -> None:
    first = made(error)
    if isinstance(first, errors.RunError):
        first.task_id = "task_4f9d02aa71c3e85b_1735689600"
    second = pickle.loads(pickle.dumps(first))
    assert type(second) is error
    assert (str(second), vars(second)) == (str(first), vars(first))
    assert str(second)


def test_text_of_an_error_is_not_taken_for_a_format() -> None:
    assert str(errors.TaskNotFoundError("{e.args}")).startswith("no task '{e.args}'")


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("signal SIGKILL", "lower workers"),
        ("gone", "lower workers"),
        ("signal SIGSEGV", "The log"),
        ("exit code 7", "The log"),
    ],
)
def test_memory_is_suspected_only_if_a_worker_was_killed(cause: str, advice: str) -> None:
    assert advice in str(errors.WorkerCrashedError(3, 4, cause))
