"""Tests of the compute core."""
