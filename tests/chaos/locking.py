"""`python -m tests.chaos.locking FILE`: hold the write lock of an SQLite file until killed."""

from __future__ import annotations

import sqlite3
import sys
import time


def main() -> None:
    connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
