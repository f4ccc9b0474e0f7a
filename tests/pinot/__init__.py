"""A real Apache Pinot, and what it answers."""
