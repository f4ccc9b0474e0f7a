"""Measurements. Nothing here is installed with the service."""
