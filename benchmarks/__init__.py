"""Measurements. Nothing here runs in the tests; `make bench` writes docs/performance.md."""
