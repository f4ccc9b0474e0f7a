"""Calibrating in a run host: experiments that measure the constants of the cost model."""
