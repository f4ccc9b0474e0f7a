"""The service attacked: generated requests, floods, slow clients, and bytes that are no data."""
