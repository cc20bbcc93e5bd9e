"""A metric of one's own: a column of the report's table."""


def regret(report):
    """Return how much less than the best arm an agent earned, (num_tasks, num_episodes)."""
    return report.tasks.columns["p"].max(axis=1)[:, None] - report.returns
