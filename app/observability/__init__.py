"""Metrics, gauges, spans and health."""
