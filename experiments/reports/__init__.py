"""Pages, charts, figures and videos of evaluations."""
