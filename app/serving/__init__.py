"""Processes and sockets: how the application is served, and how it stops."""
