"""How batches are executed."""
