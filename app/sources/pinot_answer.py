"""What a Pinot broker answers, and what is to be thought of it.

Pinot reports errors inside an HTTP 200, may answer with the rows of some servers only, and
promises neither an order of rows nor that an id comes once. Facts of release 1.5; the codes are
those of `org.apache.pinot.spi.exception.QueryErrorCode`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hotloop.app.logs.formatting import ALIKE
from hotloop.app.sources.breakers import RefusedError, TransientError
from hotloop.app.sources.row_columns import shortened

logger = logging.getLogger(__name__)

TRANSIENT: Final[Mapping[int, str]] = MappingProxyType(
    {
        200: "the query could not be executed",
        210: "a server is shutting down",
        211: "a server is out of capacity",
        230: "segments are missing on a server",
        235: "segments could not be had",
        240: "a server's scheduler is down",
        245: "a server's scheduler took too long",
        250: "the execution took too long",
        305: "segments are unavailable",
        400: "the broker took too long",
        425: "a server did not respond",
        427: "a server did not respond",
        429: "there were too many requests",
        450: "an internal error",
        503: "the query was cancelled",
    }
)
"""Errors that may pass by themselves, by code."""

REFUSALS: Final[Mapping[int, str]] = MappingProxyType(
    {
        150: "the SQL cannot be parsed; see HOTLOOP_PINOT_SQL",
        180: "the access is denied; see HOTLOOP_PINOT_AUTHORIZATION",
        190: "there is no such table; see HOTLOOP_PINOT_SQL",
        700: "the query is not valid; see HOTLOOP_PINOT_SQL",
        710: "there is no such column; see HOTLOOP_PINOT_SQL",
        720: "the query cannot be planned; see HOTLOOP_PINOT_SQL",
    }
)
"""Errors that are the same next time, by code. So is any code that is in neither table."""

_LOGGED_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class PinotTable:
    """The rows of a complete answer: `rows[i][columns[name]]`."""

    columns: dict[str, int]
    rows: list[list[Any]]


def read_answer(status: int, body: bytes) -> PinotTable:
    """The answer's rows.

    Raises TransientError and RefusedError; their texts name Pinot's code. Its own message, which
    may name servers, is only logged.
    """
    if status in (401, 403):
        raise RefusedError("pinot refuses the access; see HOTLOOP_PINOT_AUTHORIZATION")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and answer.get("exceptions"):
        raise _error_of(answer["exceptions"])
    if status in (408, 429) or status >= 500:
        raise TransientError(f"pinot answered HTTP {status}")
    if status != 200:
        raise RefusedError(f"pinot answered HTTP {status}; see HOTLOOP_PINOT_URL")
    if not isinstance(answer, dict):
        raise TransientError("pinot's answer is no JSON object")
    _check_complete(answer)
    return _table(answer)


def _error_of(exceptions: Any) -> TransientError | RefusedError:
    errors = exceptions if isinstance(exceptions, list) else [exceptions]
    codes = [_code(error) for error in errors]
    text = shortened(str(errors), _LOGGED_CHARACTERS)
    logger.warning("pinot answered with errors: %s", text, extra={ALIKE: tuple(codes)})
    lasting = [code for code in codes if code not in TRANSIENT]
    if lasting:
        return RefusedError(f"pinot error {lasting[0]}: {REFUSALS.get(lasting[0], 'see its log')}")
    return TransientError(f"pinot error {codes[0]}: {TRANSIENT[codes[0]]}")


def _code(error: Any) -> int:
    """-1 for an error without a code."""
    code = error.get("errorCode") if isinstance(error, dict) else None
    return code if isinstance(code, int) else -1


def _check_complete(answer: dict[str, Any]) -> None:
    queried, responded = answer.get("numServersQueried"), answer.get("numServersResponded")
    if answer.get("partialResult"):
        raise TransientError("pinot's answer is partial; rows may be missing")
    if isinstance(queried, int) and isinstance(responded, int) and responded < queried:
        raise TransientError(
            f"only {responded} of {queried} pinot servers answered; rows may be missing"
        )


def _table(answer: dict[str, Any]) -> PinotTable:
    table = answer.get("resultTable")
    schema = table.get("dataSchema") if isinstance(table, dict) else None
    names = schema.get("columnNames") if isinstance(schema, dict) else None
    rows = table.get("rows") if isinstance(table, dict) else None
    if not isinstance(names, list) or not isinstance(rows, list):
        raise TransientError("pinot's answer has no table of results")
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        raise TransientError("pinot's answer has rows that do not fit its columns")
    return PinotTable({str(name): place for place, name in enumerate(names)}, rows)
