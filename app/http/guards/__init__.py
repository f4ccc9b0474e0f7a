"""ASGI middleware around the routes, the same for every request."""
