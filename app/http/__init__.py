"""The HTTP side of the service: routes, the guards in front of them, and answers to errors."""
