"""Predictions of runs: constants of the machine, the cost model, plans and recommendations."""
