"""Tasks: what clients asked for, kept until it is deleted; its state, results and files."""
