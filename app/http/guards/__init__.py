"""What stands before the routes: pure ASGI, for every request alike."""
