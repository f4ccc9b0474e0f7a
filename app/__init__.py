"""Hotloop: CPU-heavy work behind FastAPI."""
