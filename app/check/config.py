"""What a process that runs kernels is started with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Config"]


@dataclass(frozen=True, slots=True)
class Config:
    """What a process is started with. `spec` names the workload, `attribute` one of several."""

    role: str
    spec: str
    attribute: str | None
    place: str
    folder: str
    done: tuple[str, ...]
    seconds: float
    memory_bytes: int
    note: str
    messages: int

    def to_json(self) -> str:
        """Return the argument of the process."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Return what `to_json` was called for."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{**values, "done": tuple(values["done"])})
