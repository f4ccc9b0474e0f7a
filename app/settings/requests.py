"""Settings of what one request may take: bytes, rows and time."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from hotloop.app.settings.access import AccessSettings

_MIB: Final = 1024 * 1024


class RequestSettings(AccessSettings):
    """Bounds of a request, its headers, its body and how slowly it may come."""

    max_body_bytes: int = Field(
        default=16 * _MIB,
        ge=1_024,
        le=1_024 * _MIB,
        description="Bytes of the largest request body, uploads excepted.",
    )
    max_upload_bytes: int = Field(
        default=1_024 * _MIB,
        ge=1_024,
        le=1_024 * 1_024 * _MIB,
        description="Bytes of the largest upload.",
    )
    max_upload_rows: int = Field(
        default=10_000_000, ge=1, le=1_000_000_000, description="Rows of the largest upload."
    )
    max_header_bytes: int = Field(
        default=32 * 1_024,
        ge=1_024,
        le=_MIB,
        description="Bytes of a request line with its headers, of which there may be 100.",
    )
    header_seconds: float = Field(
        default=10.0,
        ge=0.1,
        le=3_600,
        description="Seconds that a request's headers may take to arrive.",
    )
    body_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description=(
            "Seconds that may be spent waiting for a request's body, and one more for every "
            "16,384 bytes of it that came."
        ),
    )
    write_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86_400,
        description=(
            "Seconds that a client may take none of an answer that waits for it, before its "
            "connection is closed."
        ),
    )
