"""Generated requests made cheap to execute; what is invalid stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CSV_HEAD: Final = b"item_id,value,offset\n"
_MOST_ROWS: Final = 10


def upload_body(body: Any, media_type: str | None) -> bytes:
    """The generated text as it is, or as many rows as it has characters, by its length."""
    raw = body if isinstance(body, bytes) else str(body).encode(errors="replace")
    if len(raw) % 2:
        return raw
    rows = [(position, byte / 7, byte) for position, byte in enumerate(raw[:_MOST_ROWS] or b"?")]
    if media_type == "application/x-ndjson":
        form = b'{"item_id": %d, "value": %.3f, "offset": %d}'
        return b"\n".join(form % row for row in rows)
    return _CSV_HEAD + b"\n".join(b"%d,%.3f,%d" % row for row in rows)


MOST: Final[Mapping[str, float]] = {
    "items_count": 20,
    "workers": 2,
    "db_delay_ms": 1.0,
    "rounds": 1,
    "budget_seconds": 2.0,
    "cpu_iterations": 200,
    "outer_iterations": 20,
    "inner_iterations": 20,
}
"""Numbers above these are lowered to them."""
LEAST_TIMEOUT_SECONDS: Final = 60.0
"""A shorter timeout would end runs with a correct 504."""
COMPARED: Final = {"strategies": ["sequential"], "rounds": 1, "budget_seconds": 2.0}
DEFAULTS: Final[Mapping[str, Any]] = {"db_delay_ms": 0, "redis_delay_ms": [0, 1], "workers": 2}
_TRUE: Final = ("1", "on", "t", "true", "y", "yes")
_LARGEST_VALID: Final = 10_000_000


def small_body(body: Any, *, is_comparison: bool = False) -> Any:
    """Reduce the body of a request to a run of at most 20 items."""
    if not isinstance(body, dict):
        return body
    small = {name: _small(name, value) for name, value in body.items()}
    if small.get("items") is None:
        small.setdefault("items_count", 5)
    for name, value in DEFAULTS.items():
        small.setdefault(name, value)
    if isinstance(small.get("parameters"), dict):
        inner = {name: _small(name, value) for name, value in small["parameters"].items()}
        small["parameters"] = _default_turns() | inner
    else:
        small.setdefault("parameters", _default_turns())
    if is_comparison:
        kernel = small.get("kernel")
        kernels = [kernel if kernel in ("numba", "cython", "python") else "numba"]
        for name, value in (COMPARED | {"kernels": kernels}).items():
            if small.get(name) is None:  # null, too, means all there are
                small[name] = value
    return small


def small_query(query: dict[str, Any], *, is_upload: bool = False) -> dict[str, Any]:
    """Reduce the query of an upload or of a comparison to little work."""
    small = {name: _small(name, value) for name, value in query.items()}
    return _default_turns() | small if is_upload else small


def _default_turns() -> dict[str, Any]:
    return {name: MOST[name] for name in sorted(MOST) if name.endswith("_iterations")}


def _small(name: str, value: Any) -> Any:
    if name == "wait" and str(value).lower() in _TRUE:
        return "false"  # measuring the machine takes some seconds each time
    if name in ("strategies", "kernels") and isinstance(value, list):
        return value[:1]
    if name == "items" and isinstance(value, list):
        return value[: int(MOST["items_count"])]
    if name == "redis_delay_ms" and isinstance(value, list):
        return [min(v, 1) if _is_number(v) and v <= _LARGEST_VALID else v for v in value]
    if not _is_number(value) or value > _LARGEST_VALID:
        return value
    if name == "timeout_seconds" and value >= 0.1:
        return max(value, LEAST_TIMEOUT_SECONDS)
    return min(value, MOST[name]) if name in MOST else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
