"""Small board games whose rules are the task."""
