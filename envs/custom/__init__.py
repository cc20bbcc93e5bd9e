"""A user's own environments as families of tasks."""
