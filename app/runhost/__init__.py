"""The separate process that executes runs, and the API's end of it."""
