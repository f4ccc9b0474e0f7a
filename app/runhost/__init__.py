"""The separate process that executes runs, and the API process's client for it."""
