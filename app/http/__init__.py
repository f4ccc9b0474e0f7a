"""The HTTP face: routes, what stands before them, and how errors are answered."""
