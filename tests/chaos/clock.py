"""The clock of the machine that the cluster runs on, which can be set to another time."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Final

from tests.chaos.databases import MortalPostgres

DAY: Final = 86_400.0
STEPS: Final = (1.0, -1.0, 30.0, -30.0, 3_600.0, -3_600.0, 3 * DAY, -3 * DAY)
"""Seconds by which the clock is set forward or back."""
_FARTHEST: Final = 3.5 * DAY
"""The clock stays this near to the real one: twice as much is less than HOTLOOP_RETENTION_HOURS, so
that no task is old enough to be removed."""

_FUNCTIONS: Final = ("clock_timestamp", "now", "statement_timestamp", "transaction_timestamp")


class Clock:
    """Shared by all Python processes that have `file` as their clock, and by PostgreSQL."""

    def __init__(self, folder: Path, database: MortalPostgres | None) -> None:
        self.file = folder / "clock"
        self.ahead = 0.0
        """Seconds that the clock is ahead of the real one."""
        self._database = database
        self.file.write_bytes(struct.pack("d", 0.0))
        if database is not None:
            _shadow_clock(database)

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back when negative; the other way when it would be too far from
        the real one.
        """
        there = self.ahead + seconds
        self.ahead = there if abs(there) <= _FARTHEST else self.ahead - seconds
        with self.file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            struct.pack_into("d", shared, 0, self.ahead)
        if self._database is not None:
            with self._database.connect() as connection:
                connection.execute("UPDATE chaos_clock SET ahead = %s", (self.ahead,))


def _shadow_clock(database: MortalPostgres) -> None:
    """Have functions of the schema `public` answer in place of those that tell the time."""
    with database.connect() as connection:
        connection.execute("CREATE TABLE chaos_clock (ahead DOUBLE PRECISION)")
        connection.execute("INSERT INTO chaos_clock VALUES (0)")
        for name in _FUNCTIONS:
            connection.execute(
                f"CREATE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql AS $$"
                f" SELECT pg_catalog.{name}() + ahead * interval '1 second'"
                " FROM public.chaos_clock $$"
            )
        connection.execute("ALTER DATABASE postgres SET search_path = public, pg_catalog")
