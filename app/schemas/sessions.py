"""Signing in, for browsers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(description="A key of `HOTLOOP_API_KEYS`.")


class SessionView(BaseModel):
    """Who asks; nothing is known of who has to sign in first."""

    name: str | None = Field(description="The client; null for who has to sign in.")
    scope: str | None = Field(description="The highest that it has: `read`, `run`, `admin`.")
    expires_at: datetime | None = Field(
        description="When the key is asked for again; null where none is."
    )
