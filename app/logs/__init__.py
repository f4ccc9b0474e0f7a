"""Logs of all processes of the service in one form, with the standard library only."""
