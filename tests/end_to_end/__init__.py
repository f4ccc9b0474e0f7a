"""The service as a user has it: a process of its own, spoken to over HTTP."""
