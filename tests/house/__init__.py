"""Draws the house, the structure of the code, and counts it: `make house`."""
