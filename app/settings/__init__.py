"""What the operator sets, read from the environment in one place."""
