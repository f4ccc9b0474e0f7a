"""Clients of a service, for programs: `hotloop.AsyncClient` and `hotloop.Client`."""
