"""A check of a family of tasks."""
