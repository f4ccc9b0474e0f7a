"""Mixed load for many minutes, with deaths: what the service holds must not grow."""
