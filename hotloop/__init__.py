"""CPU-heavy work behind FastAPI: any strategy, any kernel, measured, off the event loop."""
