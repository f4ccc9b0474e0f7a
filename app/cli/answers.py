"""Answers of the service as models."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hotloop.app.cli.exits import CommandError
from hotloop.app.version import VERSION

Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], answer: Any) -> Model:
    """The answer; fields that a newer service has more are let be. Raises CommandError for one that
    is of another version.
    """
    try:
        return model.model_validate(answer, extra="allow")
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise CommandError(
            f"the service's answer is not one of Hotloop {VERSION} ({where}: {fault['msg']}); "
            "use a command of the service's version, or --json"
        ) from error
