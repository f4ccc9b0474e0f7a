"""The service for ASGI servers: `uvicorn hotloop.asgi:app`."""

from hotloop.app.serving.asgi import LazyApplication

app = LazyApplication()
