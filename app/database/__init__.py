"""The database below the store, SQLite or PostgreSQL: engines, locks, deadlines, threads."""
