"""Clients, their credentials and their rights, without HTTP."""
