"""Processes and sockets that serve the application, and its shutdown."""
