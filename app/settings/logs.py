"""Settings of what the service tells of itself: its log and its traces."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from hotloop.app.logs.setup import LogFormat, LogLevel, LogOptions
from hotloop.app.settings.requests import RequestSettings
from hotloop.app.wording import RULE


class LogSettings(RequestSettings):
    """How the log is written, and where spans go."""

    log_format: LogFormat = Field(
        default=LogFormat.CONSOLE,
        description="A line of the log: `console` for people, `json` for machines.",
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO,
        description="What is logged: this and what is worse.",
    )

    traces_url: str | None = Field(
        default=None,
        max_length=2_048,
        description=(
            "OpenTelemetry collector that spans are sent to by OTLP over HTTP, "
            "`http://host:4318/v1/traces`; needs the extra `otel`. Without it, none are made."
        ),
    )

    @field_validator("traces_url")
    @classmethod
    def _collector(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _is_collector(value):
            raise PydanticCustomError(
                RULE,
                "must be like http://host:4318/v1/traces, without user and password; what the "
                "collector wants to know goes into OTEL_EXPORTER_OTLP_HEADERS",
            )
        if importlib.util.find_spec("opentelemetry.exporter") is None:
            raise PydanticCustomError(RULE, "needs the extra: pip install 'hotloop[otel]'")
        return value

    @property
    def log_options(self) -> LogOptions:
        """How this process writes its log."""
        return LogOptions(self.log_format, self.log_level)


def _is_collector(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in url
    except ValueError:
        return False
