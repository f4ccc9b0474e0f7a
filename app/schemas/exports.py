"""Exports of results: what may be asked for, and the stream that answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from hotloop.app.schemas.base import RequestModel


class ExportFormat(StrEnum):
    """A file format of results."""

    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"


class ExportQuery(RequestModel):
    """Which results to export, and how."""

    format: ExportFormat | None = None
    """Decides before the Accept header."""
    offset: int = Field(default=0, ge=0, le=2**53)
    """Items to leave out from the first one on; those that were not processed count, too."""
    limit: int | None = Field(default=None, ge=1, le=10_000_000)
    """Items on a page, counted the same way; without it, all."""


@dataclass(frozen=True, slots=True)
class Export:
    """The results that were asked for, as a stream."""

    pieces: AsyncGenerator[bytes, None]
    next_offset: int | None
    """Where the next page begins; None when nothing comes after this one."""
