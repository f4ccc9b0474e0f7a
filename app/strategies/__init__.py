"""Strategies: ways to execute the batches of a run, and the pools that they use."""
