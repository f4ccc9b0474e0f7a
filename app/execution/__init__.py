"""The life of a task, from its acceptance to its stored end."""
