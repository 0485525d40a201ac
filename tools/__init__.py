"""The `m2m` command, the live display, and the instruments around a session."""
