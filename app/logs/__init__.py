"""Logs of every process of the service, one form for all; no more than the standard library."""
