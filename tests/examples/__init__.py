"""Tests of the distribution examples/workloads."""
