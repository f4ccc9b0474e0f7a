"""Settings of the service. `hotloop.app.settings.environment` reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from hotloop.app.names import InstructionSet, LongRuns
from hotloop.app.security.addresses import is_loopback
from hotloop.app.settings.logs import LogSettings
from hotloop.app.settings.sources import PREFIX
from hotloop.app.wording import RULE, echo

_MIB: Final = 1024 * 1024
_NODE_ID: Final = re.compile(r"[A-Za-z0-9._-]+")


class SettingsError(Exception):
    """Settings that the service cannot start with; the text has a line for each fault."""


class Settings(LogSettings):
    """Settings, from arguments, else from the environment (`HOTLOOP_` + name), else defaults."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description=("Address the server listens on; without keys or a JWT key a loopback one."),
    )
    port: int = Field(
        default=8001,
        ge=0,
        le=65_535,
        description="TCP port the server listens on; 0 takes a free one.",
    )
    fd: int | None = Field(
        default=None,
        ge=0,
        le=1_048_576,
        description=(
            "Number of an inherited descriptor of a socket that listens already, in place of host "
            "and port; systemd's socket units pass the first as 3."
        ),
    )
    api_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "Processes that answer requests on the one port. Each has run hosts of its own, and "
            "executes background tasks of its own."
        ),
    )
    data_dir: Path = Field(
        default=Path("data"),
        description=(
            "Folder of the task store, results and uploads, created when missing; a relative one "
            "counts from the working directory."
        ),
    )
    database_url: SecretStr | None = Field(
        default=None,
        description=(
            "PostgreSQL database of the task store, `postgresql://user:password@host:5432/name`, "
            "for more than one machine; when not set, an SQLite file in the data folder."
        ),
    )
    store_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3_600,
        description=(
            "Seconds that a process waits at its start for a task store that cannot be reached; "
            "then it ends with status 3."
        ),
    )
    node_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Name of this machine among those that share a database; else the host's.",
    )
    run_hosts: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes that execute runs, one run at a time each, kept warm.",
    )
    queue_limit: int = Field(
        default=16,
        ge=0,
        le=10_000,
        description="Runs that may wait for a free run host; one more is answered with 503.",
    )
    sync_limit_seconds: float = Field(
        default=300.0,
        ge=0.1,
        le=86_400,
        description=(
            "Seconds that a synchronous run may be estimated at. `HOTLOOP_LONG_RUNS` says what "
            "happens to a longer one."
        ),
    )
    long_runs: LongRuns = Field(
        default=LongRuns.BACKGROUND,
        description=(
            "Answer to a synchronous run that is estimated beyond the limit: `background` accepts "
            "it as a background task (202), `refuse` answers 422."
        ),
    )
    cancel_grace_seconds: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="Seconds a cancelled run may take to stop before its run host is killed.",
    )
    shutdown_seconds: float = Field(
        default=10.0,
        ge=0,
        le=3_600,
        description=(
            "Seconds that requests in progress get to finish when the server stops; "
            "at least cancel_grace_seconds."
        ),
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3_600,
        description=(
            "Seconds that the server goes on answering after it was told to stop, no longer ready, "
            "so that a balancer sends requests elsewhere."
        ),
    )
    max_worker_threads: int = Field(
        default=256,
        ge=1,
        le=1_024,
        description="Threads a run may use at most, whatever it asks for.",
    )
    max_worker_processes: int | None = Field(
        default=None,
        ge=1,
        le=1_024,
        description=(
            "Processes a run may use at most, whatever it asks for; "
            "when not set, four for each usable CPU."
        ),
    )
    memory_budget_bytes: int | None = Field(
        default=None,
        ge=256 * _MIB,
        le=1_024 * 1_024 * 1_024 * _MIB,
        description=(
            "Bytes of memory that runs may need; each run host has an equal part, and a run that "
            "is estimated to need more than that is refused. When not set, 80 % of the machine's, "
            "or of the container's."
        ),
    )
    background_runs: int = Field(
        default=1,
        ge=0,
        le=16,
        description=(
            "Background runs that this process executes at once, each on a run host; 0 only "
            "accepts tasks, for nodes that execute them."
        ),
    )
    background_runs_in_all: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Background runs that all nodes together execute at once; no bound when unset.",
    )
    queue_poll_seconds: float = Field(
        default=0.25,
        ge=0.05,
        le=60,
        description=(
            "Seconds between two looks of a process for background work that others have accepted "
            "or handed over; what it accepts itself, it begins at once."
        ),
    )
    shard_items: int = Field(
        default=250_000,
        ge=1_000,
        le=1_000_000_000,
        description=(
            "Items of a shard: a larger background task is cut, so that nodes share it. Only "
            "with PostgreSQL."
        ),
    )
    retention_hours: float = Field(
        default=168.0,
        ge=0.01,
        le=876_000,
        description="Hours that a finished task is kept, with its results.",
    )
    pool_idle_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds an unused pool of workers is kept warm.",
    )

    instruction_set: InstructionSet | None = Field(
        default=None,
        description=(
            "Instruction set of kernels that have the choice, for tests and comparisons; "
            "when not set, the best that the machine has. The results are the same."
        ),
    )

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if "\0" in str(value):
            raise PydanticCustomError(RULE, "must not contain a null character")
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_postgresql(value.get_secret_value()):
            raise PydanticCustomError(
                RULE,
                "must be like postgresql://user:password@host:5432/name, with every character of "
                "the password that is no letter or digit written as % and its two hex digits",
            )
        return value

    @field_validator("node_id")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not _NODE_ID.fullmatch(value):
            raise PydanticCustomError(RULE, "must be of letters, digits, dots, - and _")
        return value

    @model_validator(mode="after")
    def _shutdown_holds_the_grace(self) -> Self:
        if self.shutdown_seconds < self.cancel_grace_seconds:
            raise PydanticCustomError(
                RULE,
                "{prefix}SHUTDOWN_SECONDS must be at least {prefix}CANCEL_GRACE_SECONDS = {grace} "
                "(got {shutdown}); raise the first or lower the second",
                {
                    "prefix": PREFIX,
                    "grace": f"{self.cancel_grace_seconds:g}",
                    "shutdown": f"{self.shutdown_seconds:g}",
                },
            )
        return self

    @model_validator(mode="after")
    def _open_stays_on_loopback(self) -> Self:
        if not self.needs_authentication and not is_loopback(self.host):
            raise PydanticCustomError(
                RULE,
                "{prefix}HOST must be a loopback address, like 127.0.0.1 (got {host}), as long as "
                "{prefix}API_KEYS is empty and {prefix}JWT_KEY is not set: everybody who reaches "
                "the service could use it. "
                "`hotloop key NAME` makes a key",
                {"prefix": PREFIX, "host": echo(self.host)},
            )
        return self

    @property
    def store_location(self) -> Path | str:
        """Where the task store is: the data folder, or the URL of a database with its password."""
        return self.data_dir if self.database_url is None else self.database_url.get_secret_value()

    def secrets(self) -> list[str]:
        """The values of all settings that nobody may read in a log."""
        return list(_secrets_in([getattr(self, name) for name in type(self).model_fields]))


def _secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping):
        yield from _secrets_in(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            yield from _secrets_in(part)


def _is_postgresql(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "postgresql"
            and len(parts.path) > 1
            and not parts.fragment
            and parts.port != 0
        )
    except ValueError:  # of the port, or of brackets
        return False


def variable_name(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def default_text(info: FieldInfo) -> str:
    """A setting's default as it would be written in the environment."""
    if info.default is None:
        return "not set"
    if isinstance(info.default, dict | tuple):
        return json.dumps(info.default)
    if isinstance(info.default, bool):
        return json.dumps(info.default)
    return f"{info.default:g}" if isinstance(info.default, float) else str(info.default)
