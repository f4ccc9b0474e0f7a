"""The settings as the environment has them, and messages that say what is wrong with it."""

from __future__ import annotations

import difflib
import json
import os
from typing import Any, Final, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsError as UnreadableError

from hotloop.app.settings.rules import PREFIX
from hotloop.app.settings.settings import Settings, SettingsError, variable_name
from hotloop.app.system import INNER_THREAD_VARIABLES
from hotloop.app.wording import describe, plain

BUILD_VARIABLES: Final = frozenset({"HOTLOOP_REQUIRE_CYTHON", "HOTLOOP_BUILD_DEBUG"})
"""Read when the package is built; allowed and ignored here."""

CLIENT_VARIABLES: Final = frozenset({"HOTLOOP_API_KEY", "HOTLOOP_URL"})
"""Read by the command line to reach a service; the service does not read them."""

SERVICE_SECRETS: Final = frozenset(
    {"PGPASSWORD", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}
)
"""Secrets that libraries of the service read: to connect to the store, and to export traces."""


def load_settings(**arguments: Any) -> Settings:
    """Read the settings from `arguments`, the environment and the defaults, in this order.

    Raises SettingsError, whose text names each wrong variable, its bound, the value and the remedy.
    An unknown variable with the prefix is an error, too.
    """
    faults = _unknown_variables()
    try:
        settings = Settings(**arguments)
    except ValidationError as error:
        faults += [_fault(detail) for detail in error.errors(include_url=False)]
    except UnreadableError as error:
        faults += _not_json() or [str(error)]
    else:
        if not faults:
            return settings
    raise SettingsError("\n".join(faults))


def run_host_environment() -> dict[str, str]:
    """The environment of a run host: that of this process without settings and secrets, and with
    inner libraries on one thread.

    A run host gets its settings with its start and with each plan. A run has as many workers as may
    compute at the same time; a library that starts threads in each worker would take more than the
    usable CPUs.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not _is_setting(name) and name not in SERVICE_SECRETS
    }
    return kept | dict.fromkeys(INNER_THREAD_VARIABLES, "1")


def drop_settings() -> None:
    """Remove the settings from the environment of this process, which has loaded them. Otherwise
    the processes that it starts would inherit the secrets.
    """
    for name in filter(_is_setting, list(os.environ)):
        del os.environ[name]


def _is_setting(name: str) -> bool:
    return name.upper().startswith(PREFIX)


def _not_json() -> list[str]:
    """A message for each variable that must be a JSON list or object and cannot be read."""
    faults = []
    for name, value in sorted(os.environ.items()):
        info = Settings.model_fields.get(name[len(PREFIX) :].lower())
        if _is_setting(name) and info is not None and _is_json(info):
            try:
                json.loads(value)
            except ValueError:
                faults.append(
                    f"{name} is not valid JSON. {meaning(info)} "
                    f"Unset it for the default, {default_text(info)}."
                )
    return faults


def _is_json(info: FieldInfo) -> bool:
    return get_origin(info.annotation) in (dict, tuple)


def _unknown_variables() -> list[str]:
    known = {variable_name(field) for field in Settings.model_fields}
    known |= BUILD_VARIABLES | CLIENT_VARIABLES
    return [
        f"{name} is not a setting. {_hint(name)} Otherwise unset it."
        for name in sorted(os.environ)
        if _is_setting(name) and name.upper() not in known
    ]


def _hint(name: str) -> str:
    # Compared without the prefix, which would make all of them alike.
    fields = list(Settings.model_fields)
    close = difflib.get_close_matches(name[len(PREFIX) :].lower(), fields, n=3)
    if close:
        return f"Did you mean {' or '.join(map(variable_name, close))}?"
    return f"Choose from {', '.join(map(variable_name, fields))}."


def _fault(detail: Any) -> str:
    if not detail["loc"]:
        return str(detail["msg"])
    field = str(detail["loc"][0])
    if field not in Settings.model_fields:
        return f"{plain(field)} is not a setting. Choose from {', '.join(Settings.model_fields)}."
    info = Settings.model_fields[field]
    within = "".join(f", {part}" for part in detail["loc"][1:] if isinstance(part, str | int))
    return (
        f"{variable_name(field)}{within and f' (at {within[2:]})'} {describe(detail)}. "
        f"{meaning(info)} "
        f"Unset it for the default, {default_text(info)}."
    )


def default_text(info: FieldInfo) -> str:
    """A setting's default as it would be written in the environment."""
    if info.default is None:
        return "not set"
    if isinstance(info.default, bool | dict | tuple):
        return json.dumps(info.default)
    return f"{info.default:g}" if isinstance(info.default, float) else str(info.default)


def meaning(info: FieldInfo) -> str:
    """A setting's description on one line."""
    return " ".join((info.description or "").split())
