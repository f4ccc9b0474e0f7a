"""Paths that more than one place must agree on."""

from typing import Final

TASKS: Final = "/api/v1/tasks"
EVENTS: Final = f"{TASKS}/events"
UPLOAD: Final = f"{TASKS}/upload"
SESSION: Final = "/session"
