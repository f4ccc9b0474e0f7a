"""Settings of the operator, read from the environment in one place."""
